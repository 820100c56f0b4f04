"""`simulate`: traces as sysstat writes them, the decisions of a real daemon, the report and the picture."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from cli import environment, refusal, run
from conftest import ROOT
from lab import wait_until
from peers import Master

RECORDED = ROOT / "tests/traces"
SHIPPED = ROOT / "packaging/traces"
SADC = "/usr/lib/sysstat/sadc"
EVENT = re.compile(r"^  (\S.*?)  +(\d+) (->|= ) +(\d+) +(.*)$", re.M)


def events(report):
    """(time, from, to) of each change."""
    return [(time, int(before), int(after)) for time, before, _, after, _ in EVENT.findall(report)]


def trace(cli, rows):
    path = cli.dir / "trace.csv"
    path.write_text("time,percent\n" + "".join(f"{time},{percent}\n" for time, percent in rows))
    return path


# What sysstat writes

@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording of this machine by sysstat itself, with a restart in the middle."""
    path = tmp_path_factory.mktemp("sysstat") / "sa"
    for arguments in (["1", "4", path], [path], ["1", "3", path]):
        subprocess.run([SADC, *arguments], check=True, env=environment(), stdout=subprocess.DEVNULL)
    return path


def sysstat(*argv, **extra):
    return subprocess.run(argv, check=True, capture_output=True, env=environment(LC_ALL="C", TZ="UTC", **extra)).stdout


def test_every_output_of_sysstat_tells_the_same(cli, recording):
    loads = [each["cpu-load"][0] for each in json.loads(sysstat("sadf", "-j", recording, "--", "-u"))
             ["sysstat"]["hosts"][0]["statistics"] if each.get("cpu-load")]
    assert len(loads) >= 4
    busy = [100 - each["idle"] - each["iowait"] for each in loads]
    texts = {"-": sysstat("sar", "-u", "-f", recording),
             "ISO": sysstat("sar", "-u", "-f", recording, S_TIME_FORMAT="ISO"),
             "headers": sysstat("sar", "-u", "-f", recording, S_REPEAT_HEADER="1"),
             "pretty": sysstat("sar", "--pretty", "-u", "-f", recording),
             "all CPUs": sysstat("sar", "-u", "ALL", "-P", "ALL", "-f", recording),
             "all": sysstat("sar", "-A", "-f", recording)}
    for options in ([], ["-p"], ["-h"], ["-d"], ["-d", "-U"], ["-d", "-T"]):
        for more in ([], ["-P", "ALL"], ["-r"]):
            texts[str(options + more)] = sysstat("sadf", *options, recording, "--", "-u", *more)
    for name, text in texts.items():
        picture = cli.dir / "x.svg"
        done = subprocess.run(cli.argv("simulate", "-", "--threshold", "99", "--svg", picture), input=text,
                              capture_output=True, env=environment())
        assert (done.returncode, done.stderr) == (0, b""), name
        lowest, highest = map(float, re.search(rb"machine at (\d+)% to (\d+)% CPU", done.stdout).groups())
        # `--pretty` and the rounding of two parts cost a little.
        assert abs(lowest - min(busy)) < 1.2 and abs(highest - max(busy)) < 1.2, (name, busy, done.stdout)
        assert done.stdout.startswith(b"stdin: ")


def test_recordings_of_other_languages(cli):
    """Real output with a 12-hour clock and with decimal commas: the same recording each time."""
    pictures = {}
    for path in sorted(RECORDED.iterdir()):
        picture = cli.dir / f"{path.name}.svg"
        report = cli("simulate", path, "--window", "2s", "--boot-time", "1s", "--cooldown", "1s", "--svg", picture)
        assert [change[1:] for change in events(report)] == [(1, 3)], report
        pictures[path.name] = re.search(r'<path class="load" d="(.*?)"', picture.read_text())[1]
    assert len(pictures) == 4 and len(set(pictures.values())) == 1


# The same decisions as the daemon's

def cpu(busy, idle):
    return f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\nintr 0\n"


class Feeder:
    """A /proc/stat that a daemon reads just when it is given something to read: pipes with a name, one a reading."""

    def __init__(self, directory):
        self.path = directory / "stat"
        directory.mkdir()
        self.busy = self.idle = 1000
        self._renew()

    def _renew(self):
        following = self.path.with_name("next")
        os.mkfifo(following)
        following.rename(self.path)

    def wait(self, alive):
        """Until the daemon wants to read, so has worked through all it has read before; returns the pipe."""
        def reader():
            assert alive()
            try:
                return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return None  # not yet

        return wait_until(reader, 30, "the daemon reads its CPU", every=0.002)

    def feed(self, pipe, busy, idle):
        """More ticks, to the one who opened `pipe`; the next reading is of a pipe of its own."""
        self.busy, self.idle = self.busy + busy, self.idle + idle
        self._renew()
        os.write(pipe, cpu(self.busy, self.idle).encode())
        os.close(pipe)


@pytest.mark.parametrize("samples", [
    [20] * 12 + [90] * 20,
    [int(30 + n * 1.5) for n in range(40)],
    [(n * 37 + n * n * 11) % 90 for n in range(60)] + [75] * 15,
], ids=["step", "ramp", "noise"])
def test_a_real_daemon_decides_at_the_same_sample(binary, tmp_path, cli, samples):
    report = cli("simulate", trace(cli, enumerate(samples)), "--threshold", "55", "--window", "10s")
    time = events(report)[0][0]
    hours, minutes, seconds = map(int, time.split(":"))
    foretold = hours * 3600 + minutes * 60 + seconds  # the n-th sample ends n seconds after the beginning

    with Master(binary, tmp_path / "master") as master:
        ini = tmp_path / "daemon.ini"
        ini.write_text(f"[machine]\nscale_up_command = true\n[master]\ntunnel_ports = {master.port}\n[cluster]\n"
                       f"secret = {master.secret}\n[haproxy]\nservers = lb1\n[scaling]\nprocfs = {tmp_path}/proc\nthreshold = 55\n"
                       "sample_interval = 20ms\nwindow = 200ms\n")
        ini.chmod(0o600)
        log = tmp_path / "daemon.log"
        feeder = Feeder(tmp_path / "proc")
        with open(log, "wb") as out:
            daemon = subprocess.Popen([binary, "-c", ini, "daemon"], env=environment(), stdin=subprocess.DEVNULL,
                                      stdout=out, stderr=out)
        try:
            def wait():
                return feeder.wait(lambda: daemon.poll() is None)

            decided = None
            pipe = wait()
            while "connected" not in log.read_text():
                feeder.feed(pipe, 0, 0)  # without a tick between them, two readings are no sample
                pipe = wait()
            feeder.feed(pipe, 0, 0)
            pipe = wait()
            for number, percent in enumerate(samples, 1):
                feeder.feed(pipe, percent, 100 - percent)
                pipe = wait()
                if "scale-up: CPU at" in log.read_text():
                    decided = number
                    break
            os.close(pipe)
            wait_until(lambda: "may add a machine" in master.log.read_text(), 10, "the master grants")
        finally:
            daemon.kill()
            daemon.wait(10)
        assert decided is not None, log.read_text()
        assert decided == foretold, report


# The report

def test_by_hand(cli):
    report = cli("simulate", trace(cli, [(0, 0), (100, 60), (600, 60)]), "--hosts", 2)
    assert events(report) == [("00:01:49", 2, 3)]
    assert "CPU at 54% over 10 s" in report
    [row] = re.findall(r"^threshold 50%  .*", report, re.M)
    # 2 machines for 1100 s, one more from 109 s on; over the threshold from 100 s until it serves at 169 s.
    assert row.split()[2:] == ["1", "0", "0.89", "1.1", "min", "0.0", "min", "0.0%", "60%", "3"]
    # To compare with: the two machines alone, at 60% from 100 s on.
    assert re.search(r"^ +up +down .* over 50% .*\nwithout scaling +0 +0 +0.61 +16.7 min +0.0 min +0.0% +60% +2\nthreshold 50% ",
                     report, re.M), report


def test_rows_are_comparable(cli):
    """The time over a threshold is that over the first row's, in every row."""
    path = trace(cli, [(minute * 60, minute) for minute in range(0, 100)])
    first, *others = cli("simulate", path, "--threshold", "40,60,80").splitlines()[-3:]
    minutes = [float(row.split()[5]) for row in (first, *others)]
    assert minutes == sorted(minutes) and minutes[2] > minutes[0] + 30, minutes
    alone = cli("simulate", path, "--threshold", "40").splitlines()[-1]
    assert alone.split() == first.split()


def test_a_setting_that_flaps_is_named(cli):
    """Half of the time busy, half idle, in periods of ten minutes: what scales down at once turns each time."""
    path = trace(cli, [(minute * 60, 60 if minute // 10 % 2 else 5) for minute in range(240)])
    report = cli("simulate", path, "--hosts", 2, "--scale-down-threshold", 30, "--scale-down-window", "2m,45m",
                 "--scale-down-cooldown", "1m")
    [line] = re.findall(r"^note: .* flaps: .*", report, re.M)
    assert report.endswith(line + "\n") and line.startswith("note: threshold 50%, scale_down_window 2m flaps: ")
    turns = int(re.search(r"(\d+) changes of direction", line)[1])
    assert 5 <= turns <= 7, report


def test_a_constant_load_under_the_threshold_changes_nothing(cli):
    report = cli("simulate", trace(cli, [(minute * 60, 49) for minute in range(600)]), "--hosts", 3)
    assert events(report) == [] and "no change" in report
    assert report.splitlines()[-1].split()[2:6] == ["0", "0", "30.0", "0.0"]


def test_settings_come_from_the_ini_and_from_options(cli):
    path = trace(cli, [(0, 45), (600, 45)])
    assert events(cli("simulate", path)) == []
    cli.write("[scaling]\nthreshold = 40\nwindow = 30s\n")
    assert events(cli("simulate", path))[0] == ("00:00:30", 1, 2)
    report = cli("simulate", path, "--threshold", "40,50", "--window", "5s,60s")
    titles = [line for line in report.splitlines() if line.endswith("no scale-down)")]
    titles = [title.partition(" (")[0] for title in titles]
    assert titles == ["threshold 40%, window 5s", "threshold 40%, window 60s", "threshold 50%, window 5s",
                      "threshold 50%, window 60s"]
    assert [time for time, before, _ in events(report) if before == 1] == ["00:00:05", "00:01:00"]


@pytest.mark.parametrize("arguments, named", [
    (["--threshold", "0"], "--threshold"), (["--threshold", "40,,50"], "--threshold"),
    (["--window", "10ms"], "--window"), (["--scale-down-threshold", "60"], "--scale-down-threshold"),
    (["--hosts", "0"], "--hosts"), (["--start", "many"], "--start"), (["--spread", "200"], "--spread"),
    (["--boot-time", "1 day"], "--boot-time"), (["--boot-time", "10m"], "--boot-time"),
    (["--boot-time", "90s-45s"], "--boot-time"), (["--seed", "x"], "--seed"),
    (["--threshold", "1,2,3,4", "--window", "1s,2s,3s,4s"], "--window"), (["--start", "20"], "simulate"),
    (["--hosts", "6", "--max-hosts", "9,5"], "simulate"),
], ids=str)
def test_usage(cli, arguments, named):
    assert cli.refused(64, "simulate", trace(cli, [(0, 5), (60, 5)]), *arguments).startswith(f"{named}: ")


@pytest.mark.parametrize("text, line, named", [
    ("", "", "is empty$"), ("# a comment\n", "", "is empty$"), ("hello\n", "", "neither CSV"), ("time,percent\n0,5\n60,nan\n", ":3", "nan"),
    ("0,5\n60,101\n", ":2", "101"), ("0,5\n60,5\n30,5\n", ":3", "not after"), ("0,5\n60,5,6\n", ":2", "fields"),
    ("0,5\n12 o'clock,5\n", ":2", "o'clock|o\\\\'clock"),
], ids=repr)
def test_a_trace_that_is_none_is_refused_with_its_line(cli, text, line, named):
    path = cli.dir / "trace.csv"
    path.write_text(text)
    complaint = cli.refused(78, "simulate", path, "--svg", cli.dir / "x.svg")
    assert complaint.startswith(f"{path}{line}: ") and re.search(named, complaint)


def test_a_trace_or_picture_that_cannot_be_used(cli):
    assert cli.refused(74, "simulate", cli.dir / "none.csv").startswith(f"{cli.dir}/none.csv: ")
    path = trace(cli, [(0, 5), (60, 5)])
    assert "/nonexistent/x.svg" in cli.refused(74, "simulate", path, "--svg", "/nonexistent/x.svg")


def test_a_picture_into_a_pipe_leaves_the_pipe(cli):
    pipe, path = cli.dir / "pipe", trace(cli, [(0, 5), (60, 5)])
    os.mkfifo(pipe)
    with cli.start("simulate", path, "--svg", pipe) as writer:
        assert pipe.read_text().endswith("</svg>\n")
        assert writer.wait(20) == 0
    assert pipe.is_fifo()
    assert "directory" in cli.refused(74, "simulate", path, "--svg", cli.dir)


def test_it_needs_no_ini_where_none_is_installed(binary, cli):
    path = trace(cli, [(0, 5), (60, 5)])
    assert "autoscaler init" in refusal(run([binary, "-c", cli.dir / "x.ini", "simulate", path]), 78)
    if not Path("/etc/autoscaler").exists():
        assert run([binary, "simulate", path]).returncode == 0


# The picture

def test_the_picture(cli):
    path, picture = SHIPPED / "flash-crowd.csv", cli.dir / "x.svg"
    arguments = ["simulate", path, "--hosts", 3, "--threshold", "40,60", "--boot-time", "3m", "--svg", picture]
    report = cli(*arguments)
    assert picture.stat().st_mode & 0o777 == 0o644
    text = picture.read_text()
    cli(*arguments)
    assert picture.read_text() == text, "the same input, the same bytes"
    assert "<script" not in text and re.findall(r'(?:href|src|url)[=(]"?([^")]*)', text) == ["#load"] * 2
    tree = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    words = [each.text for each in tree.iter(f"{space}text")]
    for wanted in ("flash-crowd.csv: load and machines", "threshold 40%", "threshold 60%", "machines", "time, h:min",
                   "window 10 s, cooldown 10 s, 1 to 10 machines, no scale-down", "machines serving", "booting", "time over the threshold (paler: less of it)", "01:30"):
        assert wanted in words, wanted
    # As many boots as the report has changes upwards, and the numbers of its table.
    boots = [each for each in tree.iter(f"{space}rect") if each.get("class") == "boot"]
    ups = [change for change in events(report) if change[2] > change[1]]
    assert ups and len(boots) == len(ups) + 1, "one is in the legend"
    assert all(float(each.get("width")) >= 4 for each in boots), "a short boot can be seen"
    # Each panel: the label of the worst load stands over the highest line, in its middle column.
    paths = [each for each in tree.iter(f"{space}path") if each.get("class") == "serving" and "H940" in each.get("d")]
    labels = [each for each in tree.iter(f"{space}text") if (each.text or "").startswith("worst ")]
    circles = list(tree.iter(f"{space}circle"))
    assert len(paths) == len(labels) == len(circles) == 2
    for line, label, circle in zip(paths, labels, circles):
        highest = min(map(float, re.findall(r"(?:V|M60 )([\d.]+)", line.get("d"))))
        assert float(label.get("y")) + 3 < min(highest, float(circle.get("cy")))
        assert abs(float(label.get("x")) - float(circle.get("cx"))) <= 36
    # The legend has the stripe as well as its foot.
    assert [each.get("class") for each in tree.iter(f"{space}rect")][1:4] == ["boot", "mark veil", "mark"]
    for row in re.findall(r"^threshold \d+%  .*", report, re.M):
        hours = row.split()[4]
        assert any(each.startswith(f"{hours} machine-hours") for each in words), row
    # Nothing runs out of the picture.
    for each in tree.iter(f"{space}text"):
        if each.get("x") and "e" not in (each.get("class") or "").split():
            assert float(each.get("x")) + 6.3 * len(each.text) < 960 or "m" in each.get("class"), each.text


def test_long_settings_do_not_run_into_each_other(cli):
    cli("simulate", SHIPPED / "flash-crowd.csv", "--scale-down-threshold", "10,20", "--scale-down-window", "5m,15m",
        "--svg", cli.dir / "x.svg")
    texts = list(ElementTree.parse(cli.dir / "x.svg").iter("{http://www.w3.org/2000/svg}text"))
    heads = [each for each in texts if re.match(r"threshold|window \d|\d.* machine-hours", each.text or "")]
    assert len(heads) == 4 * 3 and len({each.get("y") for each in heads}) == len(heads)


def test_a_setting_that_is_compared_stands_in_the_title_alone(cli):
    cli("simulate", SHIPPED / "day.csv", "--window", "10s,1m", "--svg", cli.dir / "x.svg")
    text = (cli.dir / "x.svg").read_text()
    assert ">threshold 50%, window 1m<" in text and text.count(">cooldown 10 s, 1 to 10 machines, no scale-down<") == 2


def test_a_name_cannot_leave_its_place_in_the_picture(cli):
    path = cli.dir / "<script>alert(1)</script>&.csv".replace("/", "|")
    path.write_text("0,5\n60,5\n")
    cli("simulate", path, "--svg", cli.dir / "x.svg")
    tree = ElementTree.fromstring((cli.dir / "x.svg").read_text())
    assert not list(tree.iter("{http://www.w3.org/2000/svg}script"))
    assert tree.find("{http://www.w3.org/2000/svg}title").text.endswith(path.name)


def test_a_day_of_seconds_is_a_small_picture(cli):
    rows = [(second, (second * 7919 % 60) + 20) for second in range(86_400)]
    cli("simulate", trace(cli, rows), "--threshold", "40,50,60", "--svg", cli.dir / "x.svg")
    assert (cli.dir / "x.svg").stat().st_size < 150_000


# The traces that come with it

def test_the_shipped_traces_are_what_their_pattern_makes(tmp_path, cli):
    (tmp_path / "make.py").write_text((SHIPPED / "make.py").read_text())
    subprocess.run([sys.executable, tmp_path / "make.py"], check=True)
    made = sorted(path.name for path in tmp_path.glob("*.csv"))
    assert made == ["day.csv", "flash-crowd.csv", "slow-leak.csv"]
    for name in made:
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes(), name
        machines = re.search(r"(\d) machines", (SHIPPED / name).read_text().splitlines()[0])[1]
        report = cli("simulate", SHIPPED / name)
        assert events(report) and f", {machines} machines at " in report, name
        assert report == cli("simulate", SHIPPED / name, "--hosts", machines)
        assert ", 1 machine at " in cli("simulate", SHIPPED / name, "--hosts", 1)


# For programs, and several machines at once

def report(cli, *arguments):
    return json.loads(cli("simulate", *arguments, "--json"))


def test_the_same_for_programs(cli):
    path = trace(cli, [(0, 0), (100, 60), (600, 60)])
    told = report(cli, path, "--hosts", 2, "--threshold", "50,90")
    assert (told["trace"], told["seconds"], told["machines"], told["boot_seconds"]) == ("trace.csv", 1100, 2, [60, 60])
    assert told["load"] == [[0, 0], [100, 1.2], [600, 1.2]]
    first, second = told["runs"]
    assert first["events"] == [{"at": 109, "from": 2, "to": 3, "why": "CPU at 54% over 10 s"}] and not second["events"]
    assert first["serving"] == [[0, 2], [169, 3]]
    assert (first["up"], first["down"], first["machine_hours"], first["over_minutes"]) == (1, 0, 0.886, 1.15)
    assert (first["full_minutes"], first["unmet_percent"], first["worst_percent"], first["most_machines"]) == (0, 0, 60, 3)
    assert told["without_scaling"]["machine_hours"] == second["machine_hours"] == 0.611


def test_as_many_as_are_missing_at_once_and_the_work_that_nobody_did(cli):
    """Four machines' work on four: 400% of one is under 50% with nine; with two, half of it is left for a minute."""
    path = trace(cli, [(0, 98), (600, 98)])
    told = report(cli, path, "--hosts", 4)
    assert [(e["at"], e["from"], e["to"]) for e in told["runs"][0]["events"]] == [(10, 4, 8)]
    one_by_one = report(cli, path, "--hosts", 4, "--max-step", 1)["runs"][0]
    assert all(e["to"] == e["from"] + 1 for e in one_by_one["events"]) and one_by_one["over_minutes"] > 1.5
    short = report(cli, path, "--hosts", 4, "--start", 2, "--boot-time", "2m", "--cooldown", "30s")["runs"][0]
    assert short["serving"][:2] == [[0, 2], [130, 5]]
    # Of 3.92 machines' work two do two for 130 s of the 1200.
    assert abs(short["unmet_percent"] - 100 * (1.92 * 130) / (3.92 * 1200)) < 0.01


def test_boots_of_varying_length_are_the_same_in_each_run(cli):
    path = trace(cli, [(0, 98), (600, 98)])
    def boots(*more):
        return [at for at, _ in report(cli, path, "--hosts", 4, "--boot-time", "45s-90s", *more)["runs"][0]["serving"][1:]]
    first = boots()
    assert len(first) == 4 and all(55 <= at <= 100 for at in first) and len(set(first)) == 4
    assert boots() == first and boots("--seed", 1) == first and boots("--seed", 2) != first


def test_the_requests_show_the_load_beyond_a_hundred_percent(cli):
    path = cli.dir / "step.csv"
    path.write_text("time,percent,machines\n" + "".join(f"{t},{10 if t < 600 else 95},4\n" for t in range(0, 2400, 60)))
    with_requests, without = (report(cli, path, "--start", 1, *more)["runs"][0] for more in ([], ["--loads-alone"]))
    assert with_requests["over_minutes"] < without["over_minutes"]
    assert max(e["to"] - e["from"] for e in with_requests["events"]) > max(e["to"] - e["from"] for e in without["events"])


def test_machines_leave_one_after_another_while_the_others_have_room(cli):
    path = trace(cli, [(minute * 60, 5) for minute in range(40)])
    run_ = report(cli, path, "--hosts", 6, "--scale-down-threshold", 40)["runs"][0]
    times = [e["at"] for e in run_["events"]]
    assert [e["to"] for e in run_["events"]] == [5, 4, 3, 2, 1]
    assert times[0] >= 180 and all(later - earlier < 60 for earlier, later in zip(times, times[1:])), times
