"""A /proc/stat that shows exactly the load asked for."""

import os
import threading
from pathlib import Path

_TICKS = 10  # per CPU and step: USER_HZ is 100 and there are ten steps a second


class ProcStat:
    """Keeps `<directory>/stat` in the format of proc(5); point the ini's `procfs` key at `directory`.

    `load` is the busy share in percent, settable at any time; every step adds ten ticks per CPU, busy and
    idle in exactly that share (fractions are carried over), however late the thread is. A tenth of the
    idle time is shown as iowait, which is not busy. With `running=False` only step() advances it.
    Use as a context manager, or call close().
    """

    def __init__(self, directory, load=0, cpus=2, running=True):
        self.path = Path(directory)
        self.path.mkdir(parents=True, exist_ok=True)
        self.load = load
        self._lock = threading.Lock()
        self._carry = 0.0
        # Like a machine that has been up for a while: [busy, idle] ticks of each CPU.
        self._cpus = [[10_000, 200_000] for _ in range(cpus)]
        self._steps = 0
        self._stop = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._run, daemon=True) if running else None
        if self._thread:
            self._thread.start()

    @property
    def steps(self):
        """How many tenths of a second it has shown so far."""
        return self._steps

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops advancing; the file stays as it is, as if the kernel had stopped."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def step(self, count=1):
        """Advances by `count` tenths of a second."""
        for _ in range(count):
            with self._lock:
                exact = _TICKS * self.load / 100 + self._carry
                busy = min(int(exact + 1e-9), _TICKS)
                self._carry = exact - busy
                for cpu in self._cpus:
                    cpu[0] += busy
                    cpu[1] += _TICKS - busy
                self._steps += 1
        self._write()

    def go_back(self, ticks=500):
        """Lets the counters fall, as iowait does on some kernels and all do after a live migration."""
        with self._lock:
            for cpu in self._cpus:
                cpu[0], cpu[1] = max(0, cpu[0] - ticks), max(0, cpu[1] - ticks)
        self._write()

    def add_cpu(self):
        """Plugs in one more CPU, whose counters begin at zero; the sums grow from there."""
        with self._lock:
            self._cpus.append([0, 0])
        self._write()

    def remove_cpu(self):
        """Unplugs the last CPU: its line and its share of the sum vanish."""
        with self._lock:
            self._cpus.pop()
        self._write()

    def garble(self, text=""):
        """Replaces the file by `text` until the next step."""
        self._replace(text)

    def _run(self):
        while not self._stop.wait(0.1):
            self.step()

    def _write(self):
        with self._lock:
            rows = [("cpu ", [sum(column) for column in zip(*self._cpus)])]
            rows += [(f"cpu{number}", cpu) for number, cpu in enumerate(self._cpus)]
            text = "".join(f"{name} {_fields(*counts)}\n" for name, counts in rows)
            text += (f"intr {self._steps * 100} 0 9 0 0\nctxt {self._steps * 200}\nbtime 1700000000\n"
                     f"processes {1000 + self._steps}\nprocs_running 1\nprocs_blocked 0\n"
                     f"softirq {self._steps * 50} 0 10 0 5 0 0 1 20 0 14\n")
        self._replace(text)

    def _replace(self, text):
        temporary = self.path / f".stat.{threading.get_ident()}"
        temporary.write_text(text)
        os.replace(temporary, self.path / "stat")


def _fields(busy, idle):
    """user nice system idle iowait irq softirq steal guest guest_nice: each rises with its sum."""
    system, iowait = busy * 3 // 10, idle // 10
    return f"{busy - system} 0 {system} {idle - iowait} {iowait} 0 0 0 0 0"
