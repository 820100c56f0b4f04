"""What all tests share: the binary under test, and a whole site of hosts."""

import os
import signal
from pathlib import Path

import pytest
from cli import Cli

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    # A shell's background job ignores Ctrl-C, and so would all that is started here, which is told to end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "native: looks into the process or the file, and so not under an emulator")


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
