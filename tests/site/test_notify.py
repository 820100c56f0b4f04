"""[notify]: a command and a webhook are told what happened, and nothing ever waits for them."""

import http.server
import json
import socket
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from lab import missing, wait_until
from lab.ec2_http import Server
from lab.support import make_certificate
from loopback import Loopback
from site_lab import Site
from test_scale_down import CALM

needs = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

# Answers every POST with STATUS, and writes each body as a line.
WEBHOOK = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        print("POST", self.path, body.decode(), flush=True)
        self.send_response(int(sys.argv[1])); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("", 8099), Handler)
print("listening", flush=True)
server.serve_forever()
"""
URL = "http://aws:8099/hook/s3cret-token"


def started(site, **options):
    """The site, with a webhook on the host `aws`; its Process."""
    site.start(**options)
    hook = site.net.hosts["aws"].popen([sys.executable, "-c", WEBHOOK, "200"], log="hook.log")
    hook.wait_line("listening")
    return hook


def posted(hook):
    """What the webhook was sent."""
    return [json.loads(line.split(" ", 2)[2]) for line in hook.text().splitlines() if line.startswith("POST ")]


def running(host):
    """All command lines of a host."""
    return host.run(["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' ' '"], check=False).stdout


@needs
def test_a_machine_comes_and_goes(tmp_path, binary):
    command = "env >/tmp/$AUTOSCALER_EVENT.tmp && mv /tmp/$AUTOSCALER_EVENT.tmp /tmp/$AUTOSCALER_EVENT"
    settings = {"notify": {"command": command, "webhook": URL}, "scaling": CALM["scaling"]}
    with Site(tmp_path, binary, settings=settings) as site:
        site.boot_load = 30
        hook = started(site)
        [app] = site.apps
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        [new] = site.ec2.launched
        site.load["app1"].load = 30
        told = wait_until(lambda: [each for each in posted(hook) if each["event"] == "launched"], 10, "the webhook is told")
        assert len(told) == 1 and {key: told[0][key] for key in ("cluster", "node", "instance", "host", "port")} == {
            "cluster": "test", "node": "app1", "instance": new, "host": site.net.hosts[new].address, "port": "80"}
        assert told[0]["reason"].startswith("CPU at ") and "threshold 50%" in told[0]["reason"]
        assert told[0]["text"] == f"test: app1: launched {new}: {told[0]['reason']}" and int(told[0]["time"]) > 1e9
        path = app.path("/tmp/launched")
        wait_until(path.exists, 10, "the command is told")
        given = dict(line.split("=", 1) for line in path.read_text().splitlines())
        assert {key.removeprefix("AUTOSCALER_").lower(): value for key, value in given.items()
                if key.startswith("AUTOSCALER_")} == told[0]
        assert all(secret not in path.read_text() for secret in (site.secret, site.ec2.secret_key))
        # It leaves.
        site.daemons[new].wait_line("master lb1: connected")
        site.load[new].load = 5
        wait_until(lambda: not site.net.hosts[new].alive, 30, f"{new} is terminated")
        [left] = wait_until(lambda: [each for each in posted(hook) if each["event"] == "retired"], 10, "it is told of")
        assert (left["node"], left["instance"]) == (new, new) and "threshold 20%" in left["reason"]
        # The master tells the reason as well.
        decisions = json.loads(app.run(["autoscaler", "status", "--json"]).stdout)["masters"][0]["decisions"]
        [added] = [each for each in decisions if (each["request"], each["outcome"]) == ("SCALE", "ok")]
        assert added["text"] == f"launched {new}: {told[0]['reason']}"


@needs
def test_what_fails_and_what_is_blocked(tmp_path, binary):
    settings = {"notify": {"webhook": URL, "blocked_after": "2s"}, "scaling": {"max_hosts": "1"}}
    with Site(tmp_path, binary, settings=settings) as site:
        hook = started(site, daemons=False)
        [app] = site.apps
        ini = app.path("/etc/autoscaler/autoscaler.ini")
        right = ini.read_text()
        ini.write_text(right.replace(site.ec2.secret_key, "wrong").replace("max_hosts = 1", "max_hosts = 9"))
        site.masters["lb1"].kill()
        lb = site.balancers[0]
        lb_ini = lb.path("/etc/autoscaler/autoscaler.ini")
        lb_ini.write_text(right.replace("max_hosts = 1", "max_hosts = 9"))
        site.start_master(lb)
        # By hand as well; the command ends when all has been told. The master starts with a rest.
        wait_until(lambda: site.scale_up(app).returncode == 77, 20, "EC2 refuses the credentials")
        [failed] = posted(hook)
        assert failed["event"] == "failed" and "SignatureDoesNotMatch" in failed["reason"]
        assert "wrong" not in failed["text"] and failed["instance"] == failed["host"] == ""
        # There is a machine for each entry that may be.
        ini.write_text(right)
        site.masters["lb1"].wait_line("app1: gave the lease back")  # or its end would be the end of the first wait
        site.masters["lb1"].kill()
        lb_ini.write_text(right)
        site.start_master(lb)
        site.start_daemon(app)
        site.load["app1"].load = 90
        [blocked] = wait_until(lambda: posted(hook)[1:], 20, "it is blocked")
        assert blocked["event"] == "blocked" and "threshold 50%" in blocked["reason"]
        steps = site.load["app1"].steps
        wait_until(lambda: site.load["app1"].steps >= steps + 50, 20, "five seconds more of it")
        assert len(posted(hook)) == 2
        assert site.daemons["app1"].text().count("blocked: ") == 1


@needs
def test_a_command_that_hangs_holds_up_nobody(tmp_path, binary):
    command = "sleep 98765 & sleep 98765"
    with Site(tmp_path, binary, settings={"notify": {"command": command, "timeout": "3s"}}) as site:
        site.start()
        [app] = site.apps
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        site.masters["lb1"].wait_line("app1: launched a machine")
        daemon = site.daemons["app1"]
        daemon.wait_line("notify: command: no end after 3 s, stopped", timeout=20)
        wait_until(lambda: "sleep 98765" not in running(app), 10, "it is gone, with what it started")
        assert daemon.text().count("notify: ") == 1 and daemon.alive


@needs
def test_a_command_ends_with_its_daemon(tmp_path, binary):
    command = "sleep 98765 & sleep 98765"
    with Site(tmp_path, binary, settings={"notify": {"command": command}}) as site:
        site.start()
        [app] = site.apps
        site.load["app1"].load = 90
        wait_until(lambda: "sleep 98765" in running(app), 30, "the command runs")
        site.daemons["app1"].kill()
        wait_until(lambda: "sleep 98765" not in running(app), 10, "and is gone, with what it started")


@needs
@pytest.mark.parametrize("status, said", [(500, "HTTP 500"), (None, "onnection refused")])
def test_failures_are_one_line_each(tmp_path, binary, status, said):
    settings = {"notify": {"command": "echo the disk is full >&2; exit 3", "webhook": URL}}
    with Site(tmp_path, binary, settings=settings) as site:
        site.start()
        if status:
            hook = site.net.hosts["aws"].popen([sys.executable, "-c", WEBHOOK, str(status)], log="hook.log")
            hook.wait_line("listening")
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        daemon = site.daemons["app1"]
        daemon.wait_line("notify: webhook: ", timeout=20)
        lines = [line for line in daemon.text().splitlines() if "notify: " in line]
        assert lines[0] == "autoscaler: notify: command: the disk is full (exit status: 3)"
        assert len(lines) == 2 and said in lines[1] and "aws" in lines[1], lines
        assert "s3cret" not in daemon.text()
        site.masters["lb1"].wait_line("app1: launched a machine")


@contextmanager
def https(context):
    """A webhook on this machine by that TLS context; its URL without the path, and what it was sent."""
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with closing(Server(socket.create_server(("127.0.0.1", 0)), Handler, context)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"https://127.0.0.1:{server.socket.getsockname()[1]}", bodies


def test_a_webhook_by_tls(tmp_path, binary):
    (tmp_path / "tls").mkdir()
    ca_bundle, context = make_certificate(tmp_path / "tls", "127.0.0.1")
    with https(context) as (url, bodies), Loopback(binary, tmp_path) as site:
        site.settings["notify"] = {"webhook": f"{url}/s3cret-token"}
        # Whom no known CA vouches for is told nothing, and the machine comes all the same.
        site.configure()
        done = site.scale_up()
        [first] = site.ec2.launched
        assert done.returncode == 0 and site.listed() == [first] and bodies == []
        [said] = done.stderr.splitlines()
        assert said.startswith(f"autoscaler: notify: webhook: {url.removeprefix('https://')}: "), said
        assert said.endswith("name the CA in ca_bundle or AWS_CA_BUNDLE") and "s3cret" not in said, said
        site.configure(ca_bundle=ca_bundle)
        done = site.scale_up()
        assert (done.returncode, done.stderr) == (0, "")
        [told] = bodies
        assert (told["event"], told["instance"]) == ("launched", site.ec2.launched[1])


def test_a_webhook_is_a_secret(cli):
    cli.write(f"[notify]\nwebhook = {URL}\n[machine]\nscale_up_command = true\n", 0o644)
    complaint = cli.refused(78, "daemon")
    assert "chmod 600" in complaint and "s3cret" not in complaint
    for line in ("webhook = ftp://x", "timeout = 0"):
        cli.write(f"[notify]\n{line}\n")
        assert cli.refused(78, "list-hosts").startswith(f"{cli.ini}:2: ")
