"""What the processes of a server import. Only the process that they are forked from imports this."""

import gc
import os
import signal
from contextlib import suppress
from importlib import import_module

from numpy import random

from stateful_agent.server.fork_server import SAFE_PATH
from stateful_agent.server.signals import signal_at_end_of_parent

MODULES = (
    "stateful_agent.agent",
    "stateful_agent.graph",
    "stateful_agent.server.app",
    "stateful_agent.server.loading",
    "stateful_agent.server.logs",
    "stateful_agent.server.pool_metrics",
    "stateful_agent.server.trace_store",
    "stateful_agent.server.tracing",
)

signal_at_end_of_parent(signal.SIGKILL)  # it would import for seconds before it sees that
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the main process ends all others when its terminal is closed
if os.environ.get("PYTHONSAFEPATH") == SAFE_PATH:
    del os.environ["PYTHONSAFEPATH"]  # what tools start looks where it always does
gc.disable()  # it would look through all that is imported, again and again
for module in MODULES:
    with suppress(Exception):  # the first worker meets it again, and says so
        import_module(module)
gc.freeze()  # or the first look for garbage would copy all of it for each process
gc.enable()
os.register_at_fork(after_in_child=random.seed)  # Python does it for its own random numbers
