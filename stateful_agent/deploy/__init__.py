"""From an agent's file to production: log it, check what was logged, register it, deploy it, set up its database."""

from stateful_agent.deploy.check import check
from stateful_agent.deploy.database import set_up_database
from stateful_agent.deploy.endpoint import deploy
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.log import log, register, write_path

__all__ = ["Failure", "check", "deploy", "log", "register", "set_up_database", "write_path"]
