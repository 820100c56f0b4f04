"""A whole cluster on this machine's loopback, for tests that are about EC2: everything is real but ssh,
in whose place a script runs the HAProxy host's command here."""

import contextlib
import socket

from cli import Cli
from lab import Ec2Endpoint, free_ports
from peers import Master

# The contract's seam; tunnels are not needed, since the daemon finds the master on its own port.
SSH = """#!/bin/sh
for last; do :; done
case " $* " in
*" -R "*) exit 255 ;;
*@away" "*) echo "ssh: connect to host away port 22: No route to host" >&2; exit 255 ;;
esac
exec /bin/sh -c "$last"
"""


class Loopback(contextlib.ExitStack):
    """A master, a HAProxy host's directory (`cli`) and EC2. `settings`: more lines for the INI, by section.
    `endpoint`: for the Ec2Endpoint. What EC2 launches takes connections while it lives, if `serves`."""

    def __init__(self, binary, directory, settings=None, lease="2s", **endpoint):
        super().__init__()
        self.serves, self._apps = True, {}
        self.ec2 = self.enter_context(Ec2Endpoint(on_launch=self._boot, on_terminate=self._off, **endpoint))
        self.callback(lambda: [app.close() for app in self._apps.values()])
        self.settings = settings or {}
        scaling = self.settings.get("scaling", {})
        self.master = Master(binary, directory / "master", secret="", lease=lease,
                             **{"cooldown": "0s", **{key: scaling[key] for key in ("cooldown", "max_launches_per_day", "scale_down_window")
                                                     if key in scaling}})
        self.enter_context(self.master)
        self.cli = Cli(binary, directory / "etc")
        ssh = directory / "ssh"
        ssh.write_text(SSH)
        ssh.chmod(0o755)
        self.port = free_ports()
        self.sections = {
            "machine": {"scale_up_command": "aws ec2 run-instances --image-id ami-12345678 --instance-type t3.small"
                                            f" --subnet-id {self.subnets[0]}",
                        "port": self.port, "boot_timeout": "20s"},
            "scaling": {"cooldown": "0s", "procfs": directory / "proc", "sample_interval": "100ms", "window": "300ms"},
            "master": {"tunnel_ports": self.master.port, "lease": lease},
            "haproxy": {"servers": "lb1", "ssh_command": ssh, "ssh_user": "root",
                        "remote_command": f"{binary} -c {self.cli.ini}", "config": self.cli.installed,
                        "socket": directory / "admin.sock", "check_command": "true", "reload_command": "true"}}
        self.configure()

    def configure(self, **aws):
        """Writes the INI. `aws`: instead of what the endpoint says in [aws]."""
        text = self.ec2.ini()
        for key, value in aws.items():
            kept = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
            text = "\n".join([*kept, f"{key} = {value}", ""])
        sections = {name: {**keys, **self.settings.get(name, {})} for name, keys in self.sections.items()}
        sections |= {name: keys for name, keys in self.settings.items() if name not in sections}
        for name, keys in sections.items():
            text += f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        self.cli.write(text)

    @property
    def subnets(self):
        """The subnets' ids, each in a zone of its own."""
        return list(self.ec2.subnets.values())

    def scale_up(self, *options, timeout=90):
        """`autoscaler scale-up`; returns the CompletedProcess, in whose output there is no secret."""
        done = self.cli.call(*options, "scale-up", timeout=timeout)
        assert self.ec2.secret_key not in done.stdout + done.stderr
        return done

    def listed(self):
        """The instances that HAProxy knows."""
        return [line.split()[3] for line in self.cli("list-hosts").splitlines()]

    def tried(self):
        """(subnet, type, verdict) of each RunInstances, in order."""
        return [(call.params["SubnetId"], call.params["InstanceType"], call.verdict)
                for call in self.ec2.calls("RunInstances")]

    def tokens(self):
        """The ClientToken of each RunInstances, in order."""
        return [call.params["ClientToken"] for call in self.ec2.calls("RunInstances")]

    def _boot(self, instance_id, address, params):
        if self.serves:
            self._apps[instance_id] = socket.create_server((address, self.port))

    def _off(self, instance_id):
        if app := self._apps.get(instance_id):
            app.close()
