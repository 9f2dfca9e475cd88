"""The clients of a server, as one frugal process: bare sockets, and no more of an answer read than is asked of it.

python -m benchmarks.load turns URL [--clients 32] [--seconds N] [--turns N] ...    prints what it saw, as JSON
python -m benchmarks.load streams URL [--count 500] ...
python -m benchmarks.load first URL [--turns N] ...

`--protocol responses` asks as OpenAI's clients do, `runs` as LangGraph's do.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
import uuid
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

QUESTION = "q" * 200
END_OF_HEAD = b"\r\n\r\n"


def http_request(thread_id: str, *, stream: bool = False) -> bytes:
    """A turn on a thread."""
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"input": messages, "stream": stream, "custom_inputs": {"thread_id": thread_id}}).encode()
    head = "POST /responses HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}".encode() + END_OF_HEAD + body


def run_request(thread_id: str, *, stream: bool = False) -> bytes:
    """The same as LangGraph's clients ask it: a run on a thread, which begins with its first."""
    place = uuid.uuid5(uuid.NAMESPACE_URL, thread_id)
    asked = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": QUESTION}]}}
    body = json.dumps(asked | {"if_not_exists": "create", "stream_mode": ["messages-tuple"] if stream else ["values"]})
    path = f"/threads/{place}/runs/{'stream' if stream else 'wait'}"
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


REQUESTS = {"responses": http_request, "runs": run_request}
FIRST_TOKEN = {"responses": b"output_text.delta", "runs": b"event: messages"}


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer, at once or in chunks. Returns its body.

    Raises:
        RuntimeError: it is not a 200.
    """
    head = (await reader.readuntil(END_OF_HEAD)).lower()
    if b"content-length:" in head:
        body = await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    else:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] or b'"__error__"' in body:
        raise RuntimeError(body.decode()[:500])
    return body


async def turns(
    host: str,
    port: int,
    *,
    clients: int,
    seconds: float,
    limit: int,
    first: int,
    threads: int,
    pause: float,
    name: str,
    protocol: str,
) -> dict[str, float]:
    """Turns until `seconds` or `limit` have passed, each on one of `threads` threads, which last ten turns each."""
    numbers = itertools.count(first)
    taken: list[float] = []
    began = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while (n := next(numbers)) < first + limit and time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            thread = n // (10 * threads) * threads + n % threads
            writer.write(REQUESTS[protocol](f"{name} {thread}"))
            await answer(reader)
            taken.append(time.perf_counter() - asked)
            await asyncio.sleep(pause)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed = time.perf_counter() - began
    per_second = len(taken) / elapsed
    return {"turns": len(taken), "seconds": elapsed, "per_second": per_second, "median": statistics.median(taken)}


async def first(host: str, port: int, *, turns: int, name: str, protocol: str) -> dict[str, float]:
    """Streamed turns one after the other, each on a new thread. Returns the median of the seconds to the first."""
    taken: list[float] = []
    for n in range(turns):
        reader, writer = await asyncio.open_connection(host, port)
        began = time.perf_counter()
        writer.write(REQUESTS[protocol](f"first {name} {n}", stream=True))
        seen = b""
        while FIRST_TOKEN[protocol] not in seen:
            if not (data := await reader.read(65536)):
                raise RuntimeError(seen.decode()[:500])
            seen += data
        taken.append(time.perf_counter() - began)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):  # the rest of it
                while await reader.read(65536):
                    pass
        writer.close()
    return {"turns": len(taken), "median": statistics.median(taken)}


class Listener(asyncio.Protocol):
    """The client of one stream."""

    def __init__(self, request: bytes) -> None:
        self.first = self.done = math.inf
        """When its first delta came, and its end."""
        self.is_complete = False
        self.is_closed = asyncio.get_running_loop().create_future()
        self._request, self._tail = request, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Look for the words that matter. One may be cut where a piece ends and the next begins."""
        data, self._tail = self._tail + data, data[-20:]
        if self.first == math.inf and b"output_text.delta" in data:
            self.first = time.perf_counter()
        if b'"response.completed"' in data:
            self.is_complete = True
        if b"[DONE]" in data:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Note the end."""
        self.done = time.perf_counter()
        self.is_closed.set_result(None)


async def streams(host: str, port: int, *, count: int, name: str) -> dict[str, Any]:
    """So many streams at once. Returns the seconds up to each one's first delta, and to its end."""
    connect, began = asyncio.get_running_loop().create_connection, time.perf_counter()

    async def stream(n: int) -> Listener:
        _, listener = await connect(lambda: Listener(http_request(f"{name} {n}", stream=True)), host, port)
        await listener.is_closed
        return listener

    listeners = await asyncio.gather(*(stream(n) for n in range(count)))
    firsts = [listener.first - began for listener in listeners]
    return {
        "streams": count,
        "completed": sum(listener.is_complete for listener in listeners),
        "first_median": statistics.median(firsts),
        "first_max": max(firsts),
        "total": max(listener.done for listener in listeners) - began,
    }


def run(*arguments: Any) -> Any:
    """Run the clients in a process of their own. Returns what they saw."""
    command = [sys.executable, "-m", "benchmarks.load", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    command = kinds.add_parser("turns", help="turns one after the other, by several clients")
    command.add_argument("url")
    command.add_argument("--clients", type=int, default=32)
    command.add_argument("--seconds", type=float, default=1e9)
    command.add_argument("--turns", type=int, default=10**9, dest="limit")
    command.add_argument("--first", type=int, default=0, help="number of the first turn")
    command.add_argument("--threads", type=int, default=100)
    command.add_argument("--pause", type=float, default=0.0, help="seconds between two turns of a client")
    command.add_argument("--name", default="thread")
    command.add_argument("--protocol", choices=REQUESTS, default="responses")
    command = kinds.add_parser("first", help="streamed turns, one after the other")
    command.add_argument("url")
    command.add_argument("--turns", type=int, default=20)
    command.add_argument("--name", default="thread")
    command.add_argument("--protocol", choices=REQUESTS, default="responses")
    command = kinds.add_parser("streams", help="streams all at once")
    command.add_argument("url")
    command.add_argument("--count", type=int, default=500)
    command.add_argument("--name", default="stream")
    args = vars(parser.parse_args())
    kind, url = args.pop("kind"), urlsplit(args.pop("url"))
    work: Any = {"turns": turns, "streams": streams, "first": first}[kind]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work(str(url.hostname), int(url.port or 80), **args))))


if __name__ == "__main__":
    main()
