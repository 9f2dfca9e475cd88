import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from databases import servers

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_conversation_the_fork_and_the_travel_work_as_written(url: str) -> None:
    code = "".join(SNIPPETS[:3]).replace("http://127.0.0.1:8000", url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[2:6] == [
        "You said you are going to SF.",
        "Noted: you are going to New York.",
        "You said you are going to New York.",
        "You said you are going to SF.",
    ]
    assert len(lines) == 6 + 18 + 1
    assert lines[-1] == "You said you are going to Oslo."


def test_time_travel_in_python_works_as_written(tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", SNIPPETS[3]]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "You said you are going to SF." in done.stdout
    assert servers(tmp_path) == []  # a script that ends takes its database along
