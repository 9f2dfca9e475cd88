"""What the banner shows works when it is pasted into a shell."""

import json
import subprocess
from pathlib import Path

from stateful_agent.server.banner import welcome


def test_it_works_when_pasted(url: str) -> None:
    printed = welcome(Path("agent.py"), "the offline model", "a database", url)
    pasted = printed[printed.index("# A conversation") :]
    done = subprocess.run(["bash", "-e"], input=pasted, capture_output=True, text=True, check=True)
    assert "You said you are going to SF" in done.stdout
    branches = json.loads(done.stdout[done.stdout.rindex('[{"checkpoint_id"') :])
    assert [branch["last_message"] for branch in branches] == [
        "You said you are going to SF.",
        "Noted: you are going to Oslo.",
    ]
