"""Some rows of the fault table, one per kind of fault; `make faults` runs them all."""

import pytest
from faults import rows, run_row
from lab import missing

# native: processes are found by the program's name, and memory is limited.
pytestmark = [pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy"))),
              pytest.mark.native]
CHOSEN = {
    "the daemon that scales is killed": "launching",
    "a master is killed": "booting",
    "all ssh of a HAProxy host and of the daemon are killed": "entering",
    "a HAProxy is killed": "entering",
    "cable cut: app server from everything, for longer than a lease": "granted",
    "a master is killed, and its disk is full when it comes back": "booting",
    "/etc of a HAProxy host is read-only": "entering",
    "the clock of the app server steps an hour forward, then two back": "booting",
    "the clock of a HAProxy host steps so, and its master is killed each time": "booting",
    "64 MB of memory and 40 files, for masters and daemons": "granted",
}


@pytest.mark.parametrize("what", CHOSEN)
def test_the_site_recovers(what, tmp_path, binary):
    [fault] = [fault for fault, step in rows() if (fault.what, step) == (what, CHOSEN[what])]
    assert run_row(fault, CHOSEN[what], binary, tmp_path).wrong == []
