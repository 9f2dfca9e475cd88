import json
import socket
from typing import Any
from urllib.parse import urlsplit

Event = dict[str, Any]


class Stream:
    """A turn that a client listens to as it likes: it reads up to an event, and may hang up at any time."""

    def __init__(self, url: str, thread_id: str, text: str) -> None:
        """Send the request; nothing is read yet."""
        address = urlsplit(url)
        body = json.dumps({"input": text, "stream": True, "custom_inputs": {"thread_id": thread_id}})
        self.events: list[Event] = []
        self._socket = socket.create_connection((address.hostname, address.port), timeout=30)
        head = f"POST /responses HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._socket.sendall(f"{head}\r\n\r\n{body}".encode())
        self._lines = self._socket.makefile()

    def until(self, kind: str) -> Event:
        """Read up to the next event of that type."""
        for line in self._lines:
            if line.startswith("data: {"):
                self.events.append(json.loads(line[6:]))
                if self.events[-1]["type"] == kind:
                    return self.events[-1]
        raise AssertionError(f"the stream ended without {kind}, after {[event['type'] for event in self.events]}")

    def rest(self) -> str:
        """Read what is left."""
        return self._lines.read()

    def hang_up(self) -> None:
        self._lines.close()
        self._socket.close()
