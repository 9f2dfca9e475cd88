"""The way of the agent of this folder to an endpoint. Yours to read and change.

`python log_and_deploy.py all catalog.schema.model` goes all the way; each step is also a command of its own. An app is
not a registered model, so the way to one is shorter: `deploy --app NAME`.
"""

import os
from argparse import Namespace
from pathlib import Path

from stateful_agent import deploy
from stateful_agent.arguments import parse
from stateful_agent.cli import deploy_endpoint, plain_output, run, tell

AGENT = Path(__file__).with_name("agent.py")


def main() -> None:
    """Do what the command line says."""
    args = parse(agent=AGENT)
    with plain_output():
        if args.command == "all":
            log_and_deploy(args)
        else:
            run(args)


def log_and_deploy(args: Namespace) -> None:
    """Log the agent, check what was logged, register it, deploy it."""
    deploy.configuration(os.environ, dict(args.env), dict(args.secret))  # refuses what could not work, first of all
    tell("Logging the agent ...")
    model = deploy.log(args.agent)  # with the code and the requirements that it stands on
    tell(f"Logged {model}.")
    deploy.check_served(model, tell)  # it answers with what was logged, and nothing else of this machine
    args.version = deploy.register(model, args.name)  # in Unity Catalog
    deploy_endpoint(args)  # with the settings that are set here; then it is asked, and a fork is made


if __name__ == "__main__":
    main()
