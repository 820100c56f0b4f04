"""The test laboratory: whole sites of real machines in a box, with nothing outside touched.

What there is:

* ``Network``      a private wire (10.77.0.0/24, fd77::/64) in a network namespace of its own;
* ``net.host(n)``  a machine on it: namespaces for net, mount, UTS and PID; /etc, /root, /run, /tmp, /var/lib
                   are its own and lie, as plain files, under ``host.dir``; a real sshd, a real HAProxy and
                   small app servers run in it; it can be cut off, powered off and booted again;
* ``Ec2Endpoint``  EC2's Query API: moto behind a front that checks signatures and parameters, keeps
                   ClientTokens, runs out of capacity, forgets, lies and hangs when told to; with IMDSv2,
                   Auto Scaling groups, AssumeRoleWithWebIdentity, and an IAM policy where one is set;
* ``ProcStat``     a ``stat`` file that shows exactly the load asked for (the ini's ``procfs`` key).

How it is used (tests/lab/test_lab.py has one example of everything)::

    with Network(tmp_path) as net:
        lb, app = net.host("lb1"), net.host("app1")
        lb.start_sshd(); app.start_sshd(); app.start_app(80)
        lb.install(binary, "autoscaler")             # on PATH in the host, over ssh too
        lb.path("/etc/autoscaler/autoscaler.ini").write_text(...)
        with Ec2Endpoint(host=net.host("aws"), on_launch=boot) as ec2:
            master = lb.popen(["autoscaler", "master"], log="master.log")
            master.wait_line("listening", timeout=5)

Needs Linux, root, util-linux and iproute2; sshd and haproxy where they are started. ``missing()`` says
what is not there, for ``pytest.mark.skipif``. Everything ends with its ``with`` block, and also when the
test process is killed: the hosts' inits read a pipe that only the test process holds.
"""

from .ec2 import Ec2Endpoint
from .hosts import Host, Network
from .namespaces import missing
from .process import Process
from .procstat import ProcStat
from .support import Unavailable, free_ports, wait_until

__all__ = ["Ec2Endpoint", "Host", "Network", "ProcStat", "Process", "Unavailable", "free_ports", "missing",
           "wait_until"]
