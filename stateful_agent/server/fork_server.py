"""The process that the others of a server are forked from: it has imported what they need, which takes seconds.

So a worker starts in a moment, also when it replaces one that has died, and they share the memory of what is imported.
"""

import importlib.machinery
import multiprocessing
import multiprocessing.forkserver
import os
import sys
from multiprocessing.context import ForkServerContext, SpawnContext

import uvicorn._subprocess

import stateful_agent
from stateful_agent.server.signals import interrupts_delayed

PRELOADED = "stateful_agent.server.preloaded"

SAFE_PATH = "for the imports of the server"
"""Any value of `PYTHONSAFEPATH` keeps the current folder out of the way; this one does not outlive the imports."""

Context = ForkServerContext | SpawnContext
"""How processes are started: forked from one that has imported what they need, or new ones, which import it."""


def start_fork_server() -> Context:
    """Start it, let uvicorn fork its workers from it, and wait until it has imported all.

    New processes are started instead where forked ones are not safe (macOS), or would run other code than this.
    """
    if sys.platform != "linux" or not _finds_this_code():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    if not sys.flags.safe_path:
        os.environ["PYTHONSAFEPATH"] = SAFE_PATH
    with interrupts_delayed():  # it and all that are forked from it
        multiprocessing.forkserver.ensure_running()
    first = context.Process(target=int)
    first.start()  # once all is imported; Ctrl-C ends the waiting
    first.join()
    uvicorn._subprocess.spawn = context  # type: ignore[assignment]
    return context


def _finds_this_code() -> bool:
    """Whether a process would import this package, though it does not look in the current folder or the script's."""
    path = sys.path if sys.flags.safe_path else sys.path[1:]
    found = importlib.machinery.PathFinder.find_spec("stateful_agent", path)
    return found is not None and found.origin == stateful_agent.__file__
