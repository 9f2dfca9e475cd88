import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, free_port, serving
from test_storage import servers

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_conversation_and_the_fork_work_as_written(logged_model: str, tmp_path: Path) -> None:
    port = free_port()
    with serving(logged_model, tmp_path, port):
        code = "".join(SNIPPETS[:2]).replace(":8000", f":{port}")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line[-40:] for line in done.stdout.splitlines()][2:] == [
        "You said you are going to SF."[-40:],
        "Noted: you are going to New York."[-40:],
        "You said you are going to New York."[-40:],
        "You said you are going to SF."[-40:],
    ]


def test_time_travel_in_python_works_as_written(tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", SNIPPETS[2]]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "You said you are going to SF." in done.stdout
    assert servers(tmp_path) == []  # a script that ends takes its database along
