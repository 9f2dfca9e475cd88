"""`python -m stateful_agent` is the command `stateful-agent`."""

from stateful_agent.cli import main

main()
