"""From an agent's file to production: log it, check what was logged, register it, deploy it, set up its database."""

from stateful_agent.deploy.app import (
    app_logs,
    app_of,
    app_status,
    create_app,
    database_of,
    delete_app,
    let_into_database,
    source_path,
    upload_and_run,
)
from stateful_agent.deploy.app_source import DatabricksApp, app_configuration, app_resources, app_yaml, write_app
from stateful_agent.deploy.check import check, check_served
from stateful_agent.deploy.configuration import Configuration, configuration
from stateful_agent.deploy.database import set_up_database
from stateful_agent.deploy.encryption import encrypt_anew
from stateful_agent.deploy.endpoint import Deployment, create, undeploy
from stateful_agent.deploy.endpoint_state import endpoint_of, logs, status, wait
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.log import log, planned, write_path
from stateful_agent.deploy.preflight import check_app, check_configured, refuse, refuse_app
from stateful_agent.deploy.questions import SNIPPET, Asked, try_out
from stateful_agent.deploy.register import register, version_of

__all__ = [
    "SNIPPET",
    "Asked",
    "Configuration",
    "DatabricksApp",
    "Deployment",
    "Failure",
    "app_configuration",
    "app_logs",
    "app_of",
    "app_resources",
    "app_status",
    "app_yaml",
    "check",
    "check_app",
    "check_configured",
    "check_served",
    "configuration",
    "create",
    "create_app",
    "database_of",
    "delete_app",
    "encrypt_anew",
    "endpoint_of",
    "let_into_database",
    "log",
    "logs",
    "planned",
    "refuse",
    "refuse_app",
    "register",
    "set_up_database",
    "source_path",
    "status",
    "try_out",
    "undeploy",
    "upload_and_run",
    "version_of",
    "wait",
    "write_app",
    "write_path",
]
