"""What the reader of `make demo` and `make bench` sees: lines, and signs of life in between."""

import itertools
import os
import sys
import time


class Screen:
    """Lines on `stream`, and on a terminal one more that moves while something takes time."""

    def __init__(self, stream=sys.stdout):
        self.stream = stream
        self.live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.live and not os.environ.get("NO_COLOR")
        self._frames = itertools.cycle("|/-\\")
        self._drawn, self._next = False, 0.0

    def paint(self, code, text):
        """`text` in a colour, where colours are welcome."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def line(self, text=""):
        """One line, at once; takes the place of the moving one."""
        print(("\r\x1b[K" if self._drawn else "") + text, file=self.stream, flush=True)
        self._drawn = False

    def title(self, text):
        """A line that begins a part."""
        self.line()
        self.line(self.paint("1", text))

    def waiting(self, text):
        """The moving line."""
        if self.live and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            moving = f"  {next(self._frames)} {text}"[:79]
            print(f"\r\x1b[K{moving}", end="", file=self.stream, flush=True)
            self._drawn = True

    def pause(self, seconds, text):
        """Waits with the moving line."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.waiting(text)
            time.sleep(min(0.05, left))
