"""From an agent's file to production: log it, check what was logged, register it, deploy it, set up its database."""

from stateful_agent.deploy.check import check, check_served
from stateful_agent.deploy.configuration import configuration
from stateful_agent.deploy.database import set_up_database
from stateful_agent.deploy.encryption import encrypt_anew
from stateful_agent.deploy.endpoint import Deployment, create, undeploy
from stateful_agent.deploy.endpoint_state import endpoint_of, logs, status, wait
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.log import log, planned, write_path
from stateful_agent.deploy.preflight import check_configured, refuse
from stateful_agent.deploy.questions import SNIPPET, Asked, try_out
from stateful_agent.deploy.register import register, version_of

__all__ = [
    "SNIPPET",
    "Asked",
    "Deployment",
    "Failure",
    "check",
    "check_configured",
    "check_served",
    "configuration",
    "create",
    "encrypt_anew",
    "endpoint_of",
    "log",
    "logs",
    "planned",
    "refuse",
    "register",
    "set_up_database",
    "status",
    "try_out",
    "undeploy",
    "version_of",
    "wait",
    "write_path",
]
