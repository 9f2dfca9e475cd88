import os
import subprocess
import sys

import pytest

from stateful_agent.cli import main

AT_AN_ENDPOINT = ("deploy", "status", "call", "logs", "undeploy")
COMMANDS = ("serve", "log", "check", "evaluate", "register", *AT_AN_ENDPOINT, "encrypt-anew", "set-up-database")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert f"usage: stateful-agent {' '.join(command)}".strip() in capsys.readouterr().out


def test_help_is_quick() -> None:
    code = "import sys, stateful_agent.cli; print({'mlflow', 'langgraph', 'fastapi', 'uvicorn'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_as_a_module() -> None:
    shown = subprocess.check_output([sys.executable, "-m", "stateful_agent", "--help"], text=True)
    assert "usage: stateful-agent" in shown


@pytest.mark.parametrize(
    ("arguments", "settings", "line"),
    [
        (["serve", "nothing.py"], {}, "There is no file nothing.py."),
        (["serve", "agent.py", "--port", "0"], {}, "--port must be 1 to 65535"),
        (["log", "nothing.py"], {}, "nothing.py cannot be read: No such file or directory."),
        (["log", "agent.py", "--requirements", "none.txt"], {}, "The requirements cannot be read: none.txt: "),
        (["deploy", "a.b.c", "1"], {}, "The conversations would be lost: "),
        (["deploy", "a.b.c", "1", "--dry-run"], {"MAX_STEPS": "0"}, "MAX_STEPS: Input should be greater than"),
        (["set-up-database"], {}, "Set DATABASE_URL or LAKEBASE_*"),
        (["set-up-database"], {"DATABASE_URL": "postgresql://127.0.0.1:9/x"}, "Nothing was set up: connection failed"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], settings: dict[str, str], line: str) -> None:
    command = [sys.executable, "-m", "stateful_agent", *arguments]
    ended = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (shown,) = ended.stderr.splitlines()
    assert line in shown
