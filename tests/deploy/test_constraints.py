"""What is noted of packages that requirements bring along."""

from importlib.metadata import version

import pytest

from stateful_agent.deploy.requirements import constraints_of

LANGGRAPH = f"langgraph=={version('langgraph')}"


def test_all_that_is_brought_along_in_the_versions_that_are_installed() -> None:
    constraints = constraints_of([LANGGRAPH, "# nothing", "no-such-package; sys_platform == 'plan9'"])
    assert f"langgraph-sdk=={version('langgraph-sdk')}" in constraints
    assert LANGGRAPH not in constraints
    assert not any(line.startswith(("mlflow", "stateful-agent")) for line in constraints)


@pytest.mark.parametrize(
    "lines",
    [
        ["langgraph<0.1"],
        ["no-such-package-anywhere"],
        ["git+https://example.com/x.git"],
        [LANGGRAPH, "-c versions.txt"],
    ],
)
def test_none_where_they_could_contradict_the_requirements(lines: list[str]) -> None:
    assert constraints_of(lines) == []
