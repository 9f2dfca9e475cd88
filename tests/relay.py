"""A way to a server that can be broken: then all connections end, and new ones are refused."""

import socket
import threading
from contextlib import suppress


class Relay:
    """Listens on a port of its own, and hands on to the server's."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._open: list[socket.socket] = []
        self.is_broken = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_broken = True
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_broken = False

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self.is_broken:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._open += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
