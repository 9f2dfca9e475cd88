"""The page's libraries are those of npm, in the versions and with the hashes of their lock file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

VENDOR = Path("stateful_agent/server/page/vendor")


def test_they_are_what_make_vendor_copies_from_npm(tmp_path: Path) -> None:
    if shutil.which("npm", path=f"{ROOT}/.local/clients/bin:{os.environ['PATH']}") is None:
        missing = "npm is not here: `make clients` installs it"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    there = tmp_path / VENDOR
    there.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / VENDOR / name, there)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".local").symlink_to(ROOT / ".local")
    ready = ["-o", ".local/clients/ready"]  # as it is
    subprocess.run(["make", *ready, "vendor"], cwd=tmp_path, check=True, capture_output=True)
    assert {file.name for file in there.iterdir()} == {file.name for file in (ROOT / VENDOR).iterdir()}
    for file in there.iterdir():
        assert file.read_bytes() == (ROOT / VENDOR / file.name).read_bytes(), file.name
