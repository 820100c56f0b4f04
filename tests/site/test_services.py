"""The service files in packaging/, each under its real supervisor."""

import re
import shutil
import subprocess

import pytest
from conftest import ROOT
from lab import Network, missing, wait_until
from site_lab import TEMPLATE, Site
from supervisors import PACKAGING, SUPERVISORS, OpenRc, unavailable


pytestmark = pytest.mark.native


class SupervisedSite(Site):
    """A site whose master and first daemon run under `supervisor`."""

    def __init__(self, supervisor, *arguments):
        super().__init__(*arguments)
        self.supervisor, self.services = supervisor, {}

    def _supervise(self, host, service):
        self.services[service] = self.supervisor(host, service)
        return self.services[service].log

    def start_master(self, lb):
        self.masters[lb.name] = self._supervise(lb, "master")
        self.masters[lb.name].wait_line("serving on")

    def start_daemon(self, host):
        if host not in self.apps:
            super().start_daemon(host)
            return
        self.daemons[host.name] = self._supervise(host, "daemon")
        self.daemons[host.name].wait_line("watching the CPU")


@pytest.mark.parametrize("supervisor", SUPERVISORS, ids=[each.kind for each in SUPERVISORS])
def test_a_site_under_a_supervisor(tmp_path, binary, supervisor):
    if reason := unavailable(supervisor):
        pytest.skip(reason)
    with SupervisedSite(supervisor, tmp_path, binary) as site:
        site.start()
        app, service = site.apps[0], site.services["daemon"]

        # What it has to do, it may do: a scale-up from the load to the new server.
        site.load[app.name].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=60)
        site.load[app.name].load = 10

        if supervisor is OpenRc:
            rotate(app, service)

        for each in site.services.values():
            before = each.pid
            started = len(re.findall("watching the CPU|serving on", each.log.text()))
            each.kill()
            wait_until(lambda: each.pid not in (None, before), 30, f"{each.service} is started again")
            each.log.wait_line("watching the CPU|serving on", count=started + 1)

        # A wrong INI: down, and said, not tried for ever. Mended: up again.
        for each in site.services.values():
            ini = each.host.path("/etc/autoscaler/autoscaler.ini")
            right, mark = ini.read_text(), len(each.log.text())
            each.down()
            wait_until(each.is_down, 30, f"{each.service} is down")
            ini.write_text("nonsense\n")
            each.up()
            wait_until(lambda: each.stays_down in each.log.text()[mark:] and each.is_down(), 60,
                       lambda: f"{each.service} stays down:\n{each.log.text()[mark:]}")
            tries = each.log.text()[mark:].count("autoscaler.ini:1: ")
            assert tries == (4 if supervisor is OpenRc else 1)
            ini.write_text(right)
            started = len(re.findall("watching the CPU|serving on", each.log.text()))
            each.up()
            each.log.wait_line("watching the CPU|serving on", count=started + 1)


def rotate(host, service):
    """logrotate, on the log that OpenRC's service keeps open."""
    before = service.log.text()
    assert before
    shutil.copy(PACKAGING / "logrotate/autoscaler", host.path("/etc/logrotate.d-autoscaler"))
    host.run(["logrotate", "--force", "--state", "/run/logrotate", "/etc/logrotate.d-autoscaler"])
    assert service.log.path.with_name("daemon.log.1").read_text().startswith(before)
    assert len(service.log.text()) < len(before)


@pytest.mark.parametrize("service", ["master", "master@", "daemon"])
def test_systemd_finds_nothing_to_say(tmp_path, binary, service):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = (PACKAGING / f"systemd/autoscaler-{service}.service").read_text()
    unit = tmp_path / f"autoscaler-{service.replace('@', '@shop')}.service"
    # The one thing that is not here: the installed binary.
    unit.write_text(text.replace("/usr/local/bin/autoscaler", str(binary)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], check=True,
                          capture_output=True, text=True)
    said = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)[1]
    assert f"says {said}, of 10" in text and float(said) < 3


def test_the_unit_of_several_apps_is_that_of_one():
    """But for whose it is."""
    one, several = ((PACKAGING / f"systemd/autoscaler-master{at}.service").read_text().splitlines() for at in ("", "@"))
    differ = [theirs for own, theirs in zip(one[1:], several[1:], strict=True) if own != theirs]
    assert [line.partition("=")[0] for line in differ] == ["Description", "ExecStart", "StateDirectory"]
    assert differ[1:] == ["ExecStart=/usr/local/bin/autoscaler -c /etc/autoscaler/%i/autoscaler.ini master",
                          "StateDirectory=autoscaler/%i"]


@pytest.mark.skipif(missing("cron") is not None, reason=str(missing("cron")))
def test_cron_makes_up_for_what_was_left_undone(tmp_path, binary):
    with Network(tmp_path) as net:
        lb = net.host("lb1")
        lb.install(binary, "autoscaler")
        lb.run(["mount", "--bind", "/etc/lab/bin", "/usr/local/bin"])
        lb.path("/etc/autoscaler/autoscaler.ini").write_text(
            "[haproxy]\nconfig = /etc/haproxy/haproxy.cfg\ncheck_command = true\n"
            "reload_command = id -un >>/var/lib/reloads\n")
        lb.path("/etc/autoscaler/haproxy.cfg").write_text(TEMPLATE)
        lb.path("/etc/autoscaler/hosts.d").mkdir()
        lb.path("/etc/cron.d").mkdir()
        shutil.copy(ROOT / "packaging/cron/autoscaler", lb.path("/etc/cron.d"))
        lb.path("/etc/crontab").write_text("")
        lb.run(["autoscaler", "add-host", "10.77.0.9", "80"])
        lb.popen(["cron", "-f"])
        # The next full minute, and some.
        config = lb.path("/etc/haproxy/haproxy.cfg")
        wait_until(lambda: config.exists() and "server app1 10.77.0.9:80" in config.read_text(), 150, "cron ran it")
        # The shell makes the file before `id` writes to it.
        reloads = lb.path("/var/lib/reloads")
        wait_until(lambda: reloads.exists() and reloads.read_text(), 10, "reloaded")
        assert reloads.read_text() == "root\n"
