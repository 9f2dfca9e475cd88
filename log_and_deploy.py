"""What the command line does with the agent of this folder, in order. Yours to read and change."""

import json
from pathlib import Path

from stateful_agent.cli import parse, plain_output
from stateful_agent.deploy import check, deploy, log, register, set_up_database, write_path

AGENT = Path(__file__).with_name("agent.py")


def main() -> None:
    """Log the agent, check what was logged, register it, deploy it; and set up its database."""
    args = parse(agent=AGENT)
    with plain_output():
        match args.command:
            case "log":
                print("Logging the agent ...", flush=True)
                model = log(args.agent, args.requirements)  # with the code and the requirements that it stands on
                print(f"Logged {model}.", flush=True)
                if args.check:
                    print("Checking it in another process ...", flush=True)
                    check(model)  # it answers with what was logged, and nothing else of this machine
                    print("It answers.", flush=True)
                if args.register:
                    print(f"Registered {args.register}, version {register(model, args.register)}.")
                if args.path_file:
                    write_path(model, args.path_file)  # for `make serve`
            case "deploy":
                print(json.dumps(deploy(args.name, args.version, dry_run=args.dry_run), indent=2))
            case "set-up-database":
                print(set_up_database(args.grant))  # as the owner of the tables, ahead of the first start


if __name__ == "__main__":
    main()
