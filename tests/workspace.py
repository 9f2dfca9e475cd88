"""A stand-in for a Databricks workspace with a Lakebase in it: the API over HTTP, and a real Postgres behind TLS."""

import asyncio
import base64
import datetime
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg import sql

USER = "agent@example.com"
DATABASE = "databricks_postgres"
BRANCH = "projects/trips/branches/production"
ENDPOINT = f"{BRANCH}/endpoints/primary"
SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # what a Postgres client says first when it wants TLS


class Workspace:
    """A workspace that mints tokens. Postgres takes the newest of them as the user's password, and no other."""

    def __init__(self, postgres: str, tls_port: int) -> None:
        self.postgres = postgres
        self.tls_port = tls_port
        self.key = f"dapi{secrets.token_hex(16)}"
        self.tokens: list[str] = []
        self.failing: dict[str, int] = {}  # the status to answer with, by the part of the API
        self.delay = 0.0
        self.questions: list[str] = []
        """What Genie and Vector Search were asked."""

        self.is_pondering = False

    def mint(self) -> str:
        """A token in the form of a JWT, as long as they are."""
        parts = ({"alg": "RS256", "typ": "JWT"}, {"sub": USER, "scope": "database", "aud": "0" * 300})
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
        self.tokens.append(".".join([*encoded, secrets.token_urlsafe(256)]))
        self.set_password(self.tokens[-1])
        return self.tokens[-1]

    def expire(self) -> None:
        """Let no token be good any more."""
        self.set_password(secrets.token_hex())

    def set_password(self, password: str) -> None:
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(USER), sql.Literal(password)))

    def connect(self, token: str, sslmode: str = "require") -> psycopg.Connection[Any]:
        """A connection by hand."""
        return psycopg.connect(
            host="127.0.0.1", port=self.tls_port, user=USER, dbname=DATABASE, password=token, sslmode=sslmode
        )

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What the API answers, `None` for what it does not have."""
        endpoint = {
            "name": ENDPOINT,
            "status": {"endpoint_type": "ENDPOINT_TYPE_READ_WRITE", "hosts": {"host": "127.0.0.1"}},
        }
        match method, path, body:
            case "GET", "genie/spaces/0a1b", _:
                return {"space_id": "0a1b", "title": "Trips", "description": "Trips and where they went."}
            case "POST", "genie/spaces/0a1b/start-conversation", {"content": str(question)}:
                self.questions.append(question)
                return {"conversation_id": "c", "message_id": "m"}
            case "GET", "genie/spaces/0a1b/conversations/c/messages/m", _:
                if len(self.questions) == 1 and not self.is_pondering:
                    self.is_pondering = True
                    return {"conversation_id": "c", "status": "ASKING_AI"}
                if "fail" in self.questions[-1]:
                    return {"conversation_id": "c", "status": "FAILED", "error": "no such table"}
                query = {"query": "SELECT city, count(*) ...", "description": "Trips by city"}
                attachments = [{"attachment_id": "a", "query": query}]
                return {"conversation_id": "c", "status": "COMPLETED", "attachments": attachments}
            case "GET", "genie/spaces/0a1b/conversations/c/messages/m/attachments/a/query-result", _:
                columns = [{"name": "city", "type_name": "STRING"}, {"name": "trips", "type_name": "LONG"}]
                rows = [["Oslo", "3"], ["Rome", "2"]]
                answer = {"status": {"state": "SUCCEEDED"}, "manifest": {"schema": {"columns": columns}}}
                return {"statement_response": answer | {"result": {"data_array": rows}}}
            case "GET", "vector-search/indexes/main.docs.trips", _:
                source = {"embedding_source_columns": [{"name": "text", "embedding_model_endpoint_name": "e"}]}
                about = {"endpoint_name": "vs", "index_type": "DELTA_SYNC", "primary_key": "id"}
                return about | {"name": "main.docs.trips", "delta_sync_index_spec": source, "status": {"ready": True}}
            case "GET", "serving-endpoints/e", _:
                return {"name": "e"}
            case "GET", "vector-search/indexes/main.docs.trips/query", {"query_text": str(text)}:  # with a body
                self.questions.append(text)
                columns = [{"name": "id"}, {"name": "text"}, {"name": "score"}]
                found = {"row_count": 1, "data_array": [["1", "Oslo is cold.", 0.9]]}
                return {"manifest": {"column_count": 3, "columns": columns}, "result": found}
            case "GET", "preview/scim/v2/Me", _:
                return {"userName": USER}
            case "GET", "database/instances/memory", _:
                return {"name": "memory", "read_write_dns": "127.0.0.1"}
            case "POST", "database/credentials", {"instance_names": ["memory"]}:
                return {"token": self.mint()}
            case "GET", path, _ if path == f"postgres/{ENDPOINT}":
                return endpoint
            case "GET", path, _ if path == f"postgres/{BRANCH}/endpoints":
                return {"endpoints": [endpoint]}
            case "POST", "postgres/credentials", {"endpoint": endpoint_name} if endpoint_name == ENDPOINT:
                return {"token": self.mint()}
        return None


@contextmanager
def serving_api(workspace: Workspace) -> Iterator[str]:
    """The workspace's API on a port of this machine. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(workspace.delay)
            path = self.path.removeprefix("/api/2.0/").partition("?")[0]
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            status = next((status for part, status in workspace.failing.items() if part in path), 200)
            if self.headers["Authorization"] != f"Bearer {workspace.key}" and not path.startswith("/.well-known"):
                status = 401
            answer = workspace.answer(self.command, path, body) if status == 200 else None
            status = 404 if status == 200 and answer is None else status
            with suppress(BrokenPipeError):  # the client has given up
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer or {"message": "No."}).encode())

        do_POST = do_GET

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def behind_tls(unix_socket: str, folder: Path) -> Iterator[int]:
    """Whatever listens on the Unix socket, on a port that takes nothing but TLS: the wheel's Postgres has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(folder))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            if await reader.readexactly(8) == SSL_REQUEST:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(context)
                inner_reader, inner_writer = await asyncio.open_unix_connection(unix_socket)
                await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def self_signed(folder: Path) -> Path:
    """A certificate with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    file = folder / "server.pem"
    file.write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file
