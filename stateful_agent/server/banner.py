"""What a server prints once it answers: what is served, and what to try first."""

import os
from pathlib import Path

WELCOME = """
  agent     {target}
            answers come from {answers}
  database  {database}
  address   {address}     (open it in a browser; all routes: {address}/docs)

Ctrl-C stops the server and its database. Try it, in another terminal:

# A conversation is a thread. Its name is yours to choose.
curl -s {address}/responses -H 'content-type: application/json' \\
  -d '{{"input": "I am headed to SF!", "custom_inputs": {{"thread_id": "my-trip"}}}}'

# Time travel: note the checkpoint that the thread is at, go on, then ask from that checkpoint again: a fork.
CHECKPOINT=$(curl -s '{address}/threads/my-trip/history?limit=1' \\
  | grep -o '"checkpoint_id":"[^"]*"' | head -n 1 | cut -d '"' -f 4)
curl -s {address}/responses -H 'content-type: application/json' \\
  -d '{{"input": "I am headed to Oslo instead!", "custom_inputs": {{"thread_id": "my-trip"}}}}'
curl -s {address}/responses -H 'content-type: application/json' \\
  -d '{{"input": "Where am I going?", "custom_inputs": {{"thread_id": "my-trip", "checkpoint_id": "'$CHECKPOINT'"}}}}'
# Both branches are kept.
curl -s {address}/threads/my-trip/branches
"""


def welcome(target: Path, answers: str, database: str, address: str) -> str:
    """The banner. `answers` and `database` are the agent's own words for its model and its storage."""
    return WELCOME.format(target=os.path.relpath(target), answers=answers, database=database, address=address)
