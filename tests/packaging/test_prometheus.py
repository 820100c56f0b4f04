"""packaging/prometheus: alerts, dashboard and what writes the metrics, by Prometheus' own tool and node_exporter's rules."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from cli import environment
from conftest import ROOT
from peers import Master
from prometheus_client.parser import text_string_to_metric_families

PACKAGING = ROOT / "packaging/prometheus"
# Unpacked by tests/setup, as a Prometheus would start if it were installed.
PROMTOOL = ROOT / "target/debian/prometheus/usr/bin/promtool"
needs_promtool = pytest.mark.skipif(not PROMTOOL.exists(), reason="prometheus is not unpacked: run tests/setup")

SOURCE = (ROOT / "src/core/report/metrics.rs").read_text()
METRICS = set(re.findall(r"\bautoscaler_\w+", SOURCE))
# node_exporter's own.
OTHERS = {"node_textfile_mtime_seconds"}


def promtool(*arguments):
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True)


def alerts():
    """{name: rule}"""
    [group] = yaml.safe_load((PACKAGING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def dashboard_expressions():
    dashboard = json.loads((PACKAGING / "dashboard.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    return panels, variables


def names(expression):
    """The metrics in an expression."""
    return set(re.findall(r"\b(?:autoscaler|node)_\w+", re.sub(r'"[^"]*"', "", expression)))


def test_alerts_and_dashboard_go_by_metrics_that_there_are():
    panels, variables = dashboard_expressions()
    assert len(panels) > 15 and len(variables) == 1 and len(alerts()) > 10
    for expression in (*panels, *variables, *(rule["expr"] for rule in alerts().values())):
        assert names(expression) and names(expression) <= METRICS | OTHERS, expression
    keys = set(re.findall(r'\("scaling", "(\w+)",', (ROOT / "src/config/keys.rs").read_text()))
    for key in re.findall(r'key="(\w+)"', "".join(panels) + (PACKAGING / "alerts.yml").read_text()):
        assert key in keys, key


@needs_promtool
def test_promtool_takes_the_rules_and_what_the_dashboard_asks(tmp_path):
    done = promtool("check", "rules", PACKAGING / "alerts.yml")
    assert done.returncode == 0 and f"{len(alerts())} rules found" in done.stdout, done
    rules = [{"record": f"dashboard:{number}", "expr": expression.replace("$master", ".+")}
             for number, expression in enumerate(dashboard_expressions()[0])]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_alert_is_raised_and_only_when_it_should_be():
    done = promtool("test", "rules", ROOT / "tests/packaging/alerts.yml")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    tried = {each["alertname"] for test in yaml.safe_load((ROOT / "tests/packaging/alerts.yml").read_text())["tests"]
             for each in test.get("alert_rule_test", []) if each["exp_alerts"]}
    assert tried == set(alerts())


def test_every_alert_says_what_to_do():
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"].keys() == {"summary", "description"}, name
        assert name in (ROOT / "docs/alerts.md").read_text()


class Writer:
    """The script of cron and of the timer, with the binary on its PATH."""

    def __init__(self, binary, directory):
        self.out = directory / "textfile"
        self.out.mkdir()
        (directory / "bin").mkdir()
        (directory / "bin/autoscaler").symlink_to(binary)
        self.path = f"{directory}/bin:/usr/bin:/bin"

    def __call__(self, ini, *app):
        return subprocess.run([PACKAGING / "write", self.out, *app], capture_output=True, text=True,
                              env=environment(PATH=self.path, AUTOSCALER_CONFIG=str(ini)))

    def metrics(self, name="autoscaler.prom"):
        """{metric: [sample]}"""
        families = text_string_to_metric_families((self.out / name).read_text())
        return {sample.name: sample for family in families for sample in family.samples}


def test_the_file_is_whole_and_says_so_when_no_master_answers(tmp_path, binary):
    write = Writer(binary, tmp_path)
    with Master(binary, tmp_path / "master", secret="") as master:
        ini = tmp_path / "autoscaler.ini"
        ini.write_text(f"[master]\ntunnel_ports = {master.port}\n")
        done = write(ini)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert os.listdir(write.out) == ["autoscaler.prom"]
        assert (write.out / "autoscaler.prom").stat().st_mode & 0o777 == 0o644
        metrics = write.metrics()
        assert metrics["autoscaler_master_up"].value == 1 and METRICS >= metrics.keys()
        assert metrics["autoscaler_setting"].labels["master"] == metrics["autoscaler_master_up"].labels["master"]
    done = write(ini)
    assert (done.returncode, done.stderr) == (0, "")
    assert {sample.value for sample in write.metrics().values()} == {0} and "autoscaler_master_up" in write.metrics()
    # What is wrong here is said, and the old file stays.
    ini.write_text("nonsense\n")
    done = write(ini)
    assert done.returncode == 74 and "autoscaler.ini:1: " in done.stderr
    assert os.listdir(write.out) == ["autoscaler.prom"] and write.metrics()["autoscaler_master_up"].value == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
def test_several_apps_have_a_label_each(tmp_path, binary):
    """/etc/autoscaler/<app>, in a namespace of the test's own."""
    write = Writer(binary, tmp_path)
    with Master(binary, tmp_path / "master", secret="") as master:
        for app in ("shop", "blog"):
            (tmp_path / "etc" / app).mkdir(parents=True)
            port = master.port if app == "shop" else 1
            (tmp_path / f"etc/{app}/autoscaler.ini").write_text(f"[master]\ntunnel_ports = {port}\n")
        script = ('mkdir -p /etc/autoscaler 2>/dev/null; mount --bind "$1" /etc/autoscaler && shift && '
                  '"$@" shop && "$@" blog')
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", tmp_path / "etc", PACKAGING / "write", write.out],
                              env=environment(PATH=f"{write.path}:/usr/sbin:/sbin"), capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(write.out)) == ["autoscaler-blog.prom", "autoscaler-shop.prom"]
    shop, blog = write.metrics("autoscaler-shop.prom"), write.metrics("autoscaler-blog.prom")
    assert {sample.labels["app"] for sample in shop.values()} == {"shop"} and "master" in shop["autoscaler_epoch"].labels
    assert (blog["autoscaler_master_up"].labels, blog["autoscaler_master_up"].value) == ({"app": "blog", "master": ""}, 0)


def test_nobody_ever_reads_half_of_it(tmp_path, binary):
    write = Writer(binary, tmp_path)
    ini = tmp_path / "autoscaler.ini"
    with Master(binary, tmp_path / "master", secret="") as master:
        ini.write_text(f"[master]\ntunnel_ports = {master.port}\n")
        assert write(ini).returncode == 0
        last = (write.out / "autoscaler.prom").read_text().splitlines()[-1].split("{")[0]
        loop = subprocess.Popen(["sh", "-c", 'for i in 1 2 3 4 5 6 7 8; do "$@" || exit; done', "sh", PACKAGING / "write", write.out],
                                env=environment(PATH=write.path, AUTOSCALER_CONFIG=str(ini)))
        with loop:
            while loop.poll() is None:
                assert (write.out / "autoscaler.prom").read_text().splitlines()[-1].startswith(last)
        assert loop.returncode == 0


def test_cron_and_timer_run_the_script():
    line = "/usr/local/share/doc/autoscaler/packaging/prometheus/write"
    assert re.search(rf"^\* \* \* \* \* root {line}$", (PACKAGING / "cron").read_text(), re.M)
    assert f"\nExecStart={line}\n" in (PACKAGING / "autoscaler-metrics.service").read_text()


def test_systemd_takes_the_units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for name in ("autoscaler-metrics.service", "autoscaler-metrics.timer"):
        text = (PACKAGING / name).read_text().replace("/usr/local/share/doc/autoscaler/packaging", str(ROOT / "packaging"))
        (tmp_path / name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "autoscaler-metrics.timer",
                           tmp_path / "autoscaler-metrics.service"], capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "autoscaler-metrics" in line]) == (0, [])
