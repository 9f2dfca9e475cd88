"""A proxy in front of a Postgres that counts what goes over the wire, and can delay it. It is a process of its own.

python -m benchmarks.proxy SOCKET ROUND_TRIP    prints its port; then, for each line of input, what it has counted
"""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo


@dataclass
class Counts:
    """What clients of a Postgres have asked."""

    statements: int = 0
    """Simple queries, and executions of statements that were parsed and bound before."""

    round_trips: int = 0
    """Times that a client began to send while it was waiting for no answer. A pipeline is one."""

    def __sub__(self, earlier: "Counts") -> "Counts":
        return Counts(self.statements - earlier.statements, self.round_trips - earlier.round_trips)


class Conversation:
    """Counts one connection's messages, as https://www.postgresql.org/docs/current/protocol.html frames them."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._asked = Frames(first_has_no_type=True)
        self._answered = Frames()
        self._unanswered = 1  # logging in is answered too, and is no statement's round trip
        self._is_waiting = True

    def ask(self, data: bytes) -> None:
        """The client has sent `data`."""
        for kind in self._asked.feed(data):
            if kind in b"\0X":  # logging in and out
                continue
            if not self._is_waiting:
                self._counts.round_trips += 1
                self._is_waiting = True
            self._counts.statements += kind in b"QE"
            self._unanswered += kind in b"QS"

    def answer(self, data: bytes) -> None:
        """The server has sent `data`."""
        for kind in self._answered.feed(data):
            if kind in b"Z":
                self._unanswered -= 1
                self._is_waiting = self._unanswered > 0


class Frames:
    """Cuts what goes in one direction into messages: a letter, and a length that counts itself."""

    def __init__(self, *, first_has_no_type: bool = False) -> None:
        self._data = bytearray()
        self._header = 0 if first_has_no_type else 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The kinds of the messages that are complete with `data`; a zero for one that has none."""
        self._data += data
        while len(self._data) >= self._header + 4:
            size = self._header + int.from_bytes(self._data[self._header : self._header + 4])
            if len(self._data) < size:
                return
            kind = bytes(self._data[:1]) if self._header else b"\0"
            del self._data[:size]
            self._header = 1
            yield kind


async def serve(socket: str, round_trip: float, counts: Counts) -> int:
    """Serve the Postgres at a Unix socket on a free port, each direction delayed by half of `round_trip` seconds."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(counts)
        upstream, downstream = await asyncio.open_unix_connection(socket)
        await asyncio.gather(
            _pump(reader, downstream, conversation.ask, round_trip / 2),
            _pump(upstream, writer, conversation.answer, round_trip / 2),
        )

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[bytes], None], delay: float
) -> None:
    clock = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            due, data = await under_way.get()
            if (left := due - clock()) > 0:
                await asyncio.sleep(left)
            if not data:
                writer.close()
                return
            writer.write(data)

    arriving = asyncio.create_task(arrive())
    data = b"-"
    while data:
        try:
            data = await reader.read(65536)
        except ConnectionError:
            data = b""
        count(data)
        if delay or not data:
            under_way.put_nowait((clock() + delay, data))
        else:
            writer.write(data)
    await arriving


class Proxy:
    """A running proxy in front of a database of an embedded Postgres."""

    def __init__(self, url: str, round_trip: float = 0) -> None:
        parts: dict[str, Any] = conninfo_to_dict(url)
        socket = f"{parts['host']}/.s.PGSQL.{parts.get('port') or 5432}"
        command = [sys.executable, "-m", "benchmarks.proxy", socket, str(round_trip)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self._read()["port"]
        # Neither is asked for on a Unix socket.
        self.url = make_conninfo(url, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def counts(self) -> Counts:
        """What has gone over the wire so far."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counts(**self._read())

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Run until the input ends."""
    counts, loop = Counts(), asyncio.new_event_loop()
    port = loop.run_until_complete(serve(sys.argv[1], float(sys.argv[2]), counts))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    print(json.dumps({"port": port}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(asdict(counts)), flush=True)


if __name__ == "__main__":
    main()
