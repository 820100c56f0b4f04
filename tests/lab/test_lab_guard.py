"""What a host of the lab sees of this machine under its private directories, it cannot change."""

import pytest
from lab import Network, missing


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_what_is_kept_is_read_only_wherever_it_shows(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("ours")
    scratch = tmp_path / "scratch"
    with Network(scratch, keep=[kept]) as net:
        host = net.host("one")
        # Where it belongs, and once more below the scratch directory, which the host sees too.
        for place in (kept, host.path(kept)):
            assert host.run(["cat", f"{place}/file"]).stdout == "ours"
            for command in (["touch", f"{place}/new"], ["rm", f"{place}/file"]):
                done = host.run(command, check=False)
                assert done.returncode != 0 and "Read-only file system" in done.stderr, done
        host.run(["touch", "/tmp/its-own", f"{scratch}/shared"])
    assert [path.name for path in kept.iterdir()] == ["file"] and (scratch / "shared").exists()
