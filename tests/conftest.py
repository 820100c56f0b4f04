"""What all tests share: the binary under test, and a network of their own."""

import os
import signal
from pathlib import Path

import pytest
from cli import Cli
from lab import Network
from lab.namespaces import own_loopback
from loopback import Loopback

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption("--without-sites", action="store_true", help="skip each test that takes minutes, or once it sets up a whole site")


def left_out(*_, **__):
    """In the place of what sets up a whole site."""
    pytest.skip("whole sites are left out")


# Last, as the plug-ins of a worker reach the others by the machine's own loopback.
@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    # A shell's background job ignores Ctrl-C, and so would all that is started here, which is told to end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid() == 0 and (hasattr(config, "workerinput") or not config.getoption("numprocesses", None)):
        own_loopback()
    if config.getoption("without_sites"):
        Network.__init__ = Loopback.__init__ = left_out
    config.addinivalue_line("markers", "minutes: takes more than one, and is left out with whole sites")
    config.addinivalue_line("markers", "native: looks into the process or the file, and so not under an emulator")


def pytest_collection_modifyitems(config, items):
    # What takes longest is dealt out evenly: each worker begins with an equal part of the list.
    long = [item for item in items if item.get_closest_marker("minutes")]
    items[:] = [item for item in items if item not in long]
    for number, item in enumerate(long):
        items.insert(number * (len(items) // len(long) + 1), item)
    for item in items:
        if config.getoption("without_sites") and item.get_closest_marker("minutes"):
            item.add_marker(pytest.mark.skip("takes minutes"))


@pytest.fixture(scope="session")
def binary():
    """The release binary, built by `make`."""
    path = Path(os.environ.get("AUTOSCALER", ROOT / "target/x86_64-unknown-linux-musl/release/autoscaler"))
    if not path.exists():
        pytest.exit(f"{path} is missing: run make first", returncode=1)
    return path


@pytest.fixture
def cli(binary, tmp_path):
    """The binary with a directory of its own."""
    return Cli(binary, tmp_path / "etc")
