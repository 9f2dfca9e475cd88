"""Every snippet of the README and of docs/ works as written."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, free_port, serving
from databases import left_running
from snippets import snippets

ADDRESS = "http://127.0.0.1:8000"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def python(code: str, cwd: Path) -> str:
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_conversation_and_fork(url: str, tmp_path: Path) -> None:
    lines = python("".join(snippets("README.md", "python")[:2]).replace(ADDRESS, url), tmp_path).splitlines()
    assert lines[2:] == [
        "You said you are going to SF.",
        "Noted: you are going to New York.",
        "You said you are going to New York.",
        "You said you are going to SF.",
    ]


def test_the_readmes_tool_goes_into_agent_py(tmp_path: Path) -> None:
    """As a user adds it: the snippet above `tools()`, its name in the list."""
    agent = (ROOT / "agent.py").read_text()
    tool = snippets("README.md", "python")[2]
    edited = agent.replace("def tools()", f"{tool}\n\ndef tools()").replace(
        "return [current_time,", "return [order_status,"
    )
    assert edited.count("order_status") > agent.count("order_status") + 1
    (tmp_path / "agent.py").write_text(edited)
    code = "import agent; print([tool.name for tool in agent.tools()]); agent.graph()"
    assert "'order_status'" in python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}", tmp_path)


def test_the_tutorial(tmp_path: Path) -> None:
    output = python("".join(snippets("docs/tutorial.md", "python")), tmp_path)
    assert output.count("You said you are going to Oslo.") == 2
    assert "61°F" in output
    assert left_running(tmp_path) == []  # a script that ends takes its database along


def test_asking_a_person(tmp_path: Path) -> None:
    output = python("".join(snippets("docs/ask-a-person.md", "python")), tmp_path)
    lines = output.splitlines()
    assert lines[0] == "⏸ Book the flight to Oslo?"
    assert lines[2:5] == ["Booked.", "Not booked: too expensive.", "2"]
    assert lines[5] == 'search {"query": "weather in SF"}'
    approved, _, edited = output.partition("⏸ Waiting for approval of search(")
    assert "61°F" in approved
    assert "77°F" in edited


def test_approving_with_curl(logged_model: str, tmp_path: Path) -> None:
    port = free_port()
    script = "".join(snippets("docs/ask-a-person.md", "sh")).replace(ADDRESS, f"http://127.0.0.1:{port}")
    with serving(logged_model, tmp_path, port, "--workers", "1", TOOLS_TO_APPROVE="search"):
        done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True)
    assert "mcp_approval_request" in done.stdout
    assert "61°F" in done.stdout


@pytest.mark.parametrize(
    ("page", "last"), [("docs/time-travel.md", "You said you are going to Oslo."), ("docs/requests.md", "completed")]
)
def test_pages_for_a_served_agent(url: str, tmp_path: Path, page: str, last: str) -> None:
    output = python("".join(snippets(page, "python")).replace(ADDRESS, url), tmp_path)
    assert output.splitlines()[-1].endswith(last)


@pytest.mark.parametrize("page", ["README.md", "docs/time-travel.md"])
def test_curl(url: str, page: str) -> None:
    script = "".join(part for part in snippets(page, "sh") if "curl" in part).replace(ADDRESS, url)
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True)
    assert '"error":{' not in done.stdout
    assert "headed to SF" in done.stdout
    httpx.delete(f"{url}/threads/my-trip")


def test_a_project_of_ones_own(tmp_path: Path) -> None:
    found = snippets("docs/your-own-graph.md", "python")
    for code in found:
        if name := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / name[1]).write_text(code)
    port = free_port()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with serving(str(tmp_path / "my_agent.py"), elsewhere, port, "--workers", "1"):
        answer = httpx.post(f"http://127.0.0.1:{port}/responses", json={"input": "My name is Ada"}, timeout=30)
    assert "Ada" in answer.text
    assert python(found[-1] + "print(graph.compile().get_name())", tmp_path)


@pytest.mark.parametrize("page", ["docs/models.md", "docs/tools.md"])
def test_what_the_built_in_graph_takes(tmp_path: Path, page: str) -> None:
    assert python("".join(snippets(page, "python")) + "print(graph.compile().get_name())", tmp_path)


def test_memory_across_threads(tmp_path: Path) -> None:
    output = python("".join(snippets("docs/memory.md", "python")), tmp_path)
    assert output.startswith("You have asked 1 times.\nYou have asked 2 times.\n[{'namespace': ['visits']")


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000
