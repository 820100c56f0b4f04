"""What is linked into the binary: these packages, of the registry, under these licences, one version of each."""

import json
import re
import subprocess
import tomllib

import pytest
from conftest import ROOT

TARGET = "x86_64-unknown-linux-musl"
# Each package that is linked in was looked at once; a new one is a decision, made by adding it here.
KNOWN = """
base64 block-buffer bytes cfg-if cmov const-oid cpufeatures crypto-common ctutils deranged digest getrandom hmac
http httparse hybrid-array itoa lexopt libc log num-conv once_cell percent-encoding powerfmt ring rustls
rustls-pki-types rustls-webpki sha2 subtle time time-core time-macros typenum untrusted ureq ureq-proto utf8-zero
webpki-roots zeroize
""".split()
LICENCES = {"MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "Unicode-3.0", "CDLA-Permissive-2.0"}


@pytest.fixture(scope="module")
def linked():
    """{id: package} of cargo metadata, of what the release binary holds: no build scripts' and no tests' packages."""
    done = subprocess.run(["cargo", "metadata", "--locked", "--offline", "--format-version=1", f"--filter-platform={TARGET}"],
                          cwd=ROOT, check=True, capture_output=True, text=True)
    metadata = json.loads(done.stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    reached, ahead = set(), [metadata["resolve"]["root"]]
    while ahead:
        node = ahead.pop()
        if node not in reached:
            reached.add(node)
            ahead += [dep["pkg"] for dep in nodes[node]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    return {package["id"]: package for package in metadata["packages"] if package["id"] in reached}


def permitted(expression):
    """Whether one choice that an SPDX expression leaves is under LICENCES alone."""
    # The old form of OR, and the exception that allows more than Apache-2.0 does.
    expression = expression.replace("/", " OR ").replace(" WITH LLVM-exception", "")
    words = re.findall(r"[()]|[\w.+-]+", expression)
    python = " ".join({"OR": "or", "AND": "and", "(": "(", ")": ")"}.get(word, str(word in LICENCES)) for word in words)
    return eval(python)  # noqa: S307, only the words above are left


def test_these_packages_and_no_others(linked):
    assert sorted(package["name"] for package in linked.values()) == sorted([*KNOWN, "autoscaler"])


def test_licences(linked):
    assert permitted("MIT OR GPL-3.0") and permitted("(MIT OR X) AND ISC") and not permitted("MIT AND GPL-3.0")
    for package in linked.values():
        assert package["license"] and (package["name"] == "autoscaler" or permitted(package["license"])), package["id"]


def test_everything_is_of_the_registry_and_sealed_by_its_checksum():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    for package in lock["package"]:
        if package["name"] != "autoscaler":
            assert package["source"] == "registry+https://github.com/rust-lang/crates.io-index", package
            assert re.fullmatch("[0-9a-f]{64}", package["checksum"]), package
