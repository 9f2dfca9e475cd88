import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from conftest import http
from listening_servers import served

from stateful_agent.server import connections
from stateful_agent.server.connections import MOST_HEADER_BYTES, BoundedConnection

HEAD = b"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture
def url(agent: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.5)
    with served(agent, http=BoundedConnection) as url:
        yield url


@pytest.fixture
def connection(url: str) -> Iterator[socket.socket]:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as connection:
        yield connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:  # it hangs up on what it has not read
        pass
    return b"".join(parts)


def test_a_header_without_an_end_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"x-endless: ")
    sent = 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < 20 * MOST_HEADER_BYTES:
            sent += connection.send(b"a" * 4096)
            time.sleep(0.001)
    assert sent < 20 * MOST_HEADER_BYTES


def test_that_the_headers_are_too_large_is_said(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"x-endless: " + b"a" * (MOST_HEADER_BYTES + 1))
    told = answer(connection)
    assert told.startswith(b"HTTP/1.1 431 ")
    assert b'"code": "headers_too_large"' in told


def test_slow_headers(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    assert b'"code": "request_timeout"' in answer(connection)


def test_a_slow_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"content-length: 100\r\n\r\n{")
    told = answer(connection)
    assert told.startswith(b"HTTP/1.1 408 ")
    assert b'"code": "request_timeout"' in told


def test_a_body_that_keeps_coming_is_waited_for(connection: socket.socket) -> None:
    body = b'{"input": "hi"}'
    connection.sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body))
    for byte in body:
        time.sleep(0.1)
        connection.sendall(bytes([byte]))
    assert answer(connection).startswith(b"HTTP/1.1 200 ")


def test_one_on_which_nothing_is_asked_is_closed(connection: socket.socket) -> None:
    assert answer(connection) == b""


def test_how_long_an_answer_takes_is_not_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        assert http.post(f"{url}/responses", json={"input": "hi"}).status_code == 200
