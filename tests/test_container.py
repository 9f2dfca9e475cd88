"""The container: what can be seen of it without an engine that builds it."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from stateful_agent.settings import Settings

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_the_dockerfile_is_well_formed() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, check=True)


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    assert any(fnmatch.fnmatch("tests", pattern) for pattern in ignored)


def test_the_image_runs_as_nobody_in_particular() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001$", final, re.MULTILINE)
    assert "pip" not in final


def test_the_agent_waits_for_its_database_and_keeps_no_state(compose: Any) -> None:
    agent, postgres = compose["services"]["agent"], compose["services"]["postgres"]
    assert agent["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert postgres["healthcheck"]["test"][1] == "pg_isready"
    assert agent["read_only"]
    assert postgres["volumes"] == [f"{name}:/var/lib/postgresql/data" for name in compose["volumes"]]
    assert {name.lower() for name in agent["environment"]} <= Settings.model_fields.keys()


def test_no_password_is_written_down(compose: Any) -> None:
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or value.startswith("${POSTGRES_PASSWORD:?")
