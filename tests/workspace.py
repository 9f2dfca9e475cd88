"""A stand-in for a Databricks workspace with a Lakebase in it: the API over HTTP, and a real Postgres behind TLS."""

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import psycopg
from databricks_apps import APP_USER, DatabricksApps
from psycopg import sql
from serving_endpoints import ServingEndpoints
from unity_catalog import Refused, UnityCatalog

USER = "agent@example.com"
DATABASE = "databricks_postgres"
BRANCH = "projects/trips/branches/production"
ENDPOINT = f"{BRANCH}/endpoints/primary"


class Workspace:
    """A workspace that mints tokens. Postgres takes the newest of them as the user's password, and no other."""

    def __init__(self, postgres: str, tls_port: int) -> None:
        self.postgres = postgres
        self.tls_port = tls_port
        self.key = f"dapi{secrets.token_hex(16)}"
        self.url = ""
        self.app_key = f"dapi{secrets.token_hex(16)}"
        """What an app identifies itself with."""

        self.app_token: str | None = None
        self.minting = threading.Lock()
        self.postgres_host = "127.0.0.1"
        self.tokens: list[str] = []
        self.failing: dict[str, int] = {}  # the status to answer with, by the part of the API
        self.delay = 0.0
        self.questions: list[str] = []
        """What Genie and Vector Search were asked."""

        self.is_pondering = False
        self.catalog = UnityCatalog()
        self.serving: ServingEndpoints | None = None
        self.apps: DatabricksApps | None = None
        self.secrets: dict[str, str] = {}
        """Values by `scope/key`."""

        self.refused: dict[str, tuple[int, str]] = {}
        """The status and the message to answer with, by method and path."""

        self.cut_off: str | None = None
        """The part of the API that does the next request, and loses the connection instead of answering it."""

    def users(self) -> dict[str, str]:
        """Who is who, by what they identify themselves with."""
        return {self.key: USER, self.app_key: APP_USER}

    def mint(self, user: str = USER) -> str:
        """A token in the form of a JWT, as long as they are.

        A role of Postgres has one password: the processes of an app, which ask at once, get the same.
        """
        with self.minting:
            if user == APP_USER and self.app_token:
                return self.app_token
            parts = ({"alg": "RS256", "typ": "JWT"}, {"sub": user, "scope": "database", "aud": "0" * 300})
            encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
            self.tokens.append(".".join([*encoded, secrets.token_urlsafe(256)]))
            self.set_password(self.tokens[-1], user)
            if user == APP_USER:
                self.app_token = self.tokens[-1]
            return self.tokens[-1]

    def expire(self) -> None:
        """Let no token be good any more."""
        self.set_password(secrets.token_hex())

    def set_password(self, password: str, user: str = USER) -> None:
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(password)))

    def connect(self, token: str, sslmode: str = "require") -> psycopg.Connection[Any]:
        """A connection by hand."""
        return psycopg.connect(
            host="127.0.0.1", port=self.tls_port, user=USER, dbname=DATABASE, password=token, sslmode=sslmode
        )

    def answer(self, method: str, path: str, body: dict[str, Any], user: str) -> Any:
        """What the API answers, `None` for what it does not have."""
        endpoint = {
            "name": ENDPOINT,
            "status": {"endpoint_type": "ENDPOINT_TYPE_READ_WRITE", "hosts": {"host": self.postgres_host}},
        }
        for part in (self.catalog, self.serving, self.apps):
            if part and (found := part.answer(method, path, body)) is not None:
                return found
        match method, path, body:
            case "GET", "secrets/get", {"scope": str(scope), "key": str(key)}:
                if (place := f"{scope}/{key}") not in self.secrets:
                    raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Secret does not exist with scope: {scope}.")
                return {"key": key, "value": base64.b64encode(self.secrets[place].encode()).decode()}
            case "GET", path, _ if path.startswith("unity-catalog/tables/"):
                return {"table_exists": False}
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
            case "GET", "/.well-known/databricks-config", _:
                return {"workspace_id": "1234567890", "cloud": "aws", "oidc_endpoint": f"{self.url}/oidc"}
            case "GET", "preview/scim/v2/Me", _:
                return {"userName": user}
            case "GET", "database/instances/memory", _:
                return {"name": "memory", "read_write_dns": self.postgres_host}
            case "POST", "database/credentials", {"instance_names": ["memory"]}:
                return {"token": self.mint(user)}
            case "GET", path, _ if path == f"postgres/{ENDPOINT}":
                return endpoint
            case "GET", path, _ if path == f"postgres/{BRANCH}/endpoints":
                return {"endpoints": [endpoint]}
            case "GET", path, _ if path == f"postgres/{BRANCH}/databases":
                status = {"postgres_database": DATABASE}
                return {"databases": [{"name": f"{BRANCH}/databases/databricks-postgres", "status": status}]}
            case "POST", "postgres/credentials", {"endpoint": endpoint_name} if endpoint_name == ENDPOINT:
                return {"token": self.mint(user)}
        return None


@contextmanager
def serving_api(workspace: Workspace) -> Iterator[str]:
    """The workspace's API on a port of this machine. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(workspace.delay)
            url = urlsplit(self.path)
            path = unquote(url.path).removeprefix("/api/2.0/").removeprefix("/api/2.1/")
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = next((status for part, status in workspace.failing.items() if part in path), 200)
            user = workspace.users().get(self.headers.get("Authorization", "").removeprefix("Bearer "))
            if user is None and not path.startswith(("/.well-known", "/oidc")):
                status = 401
            with suppress(BrokenPipeError):  # the client has given up
                if status != 200:
                    self.send(status, {"message": "No."})
                elif path.startswith("/oidc/"):
                    self.send_login(path)
                elif path == "workspace/import" and workspace.apps:
                    workspace.apps.put(self.headers["Content-Type"], content)
                    self.send(200, {})
                elif path.startswith("/apps-proxy/"):
                    self.forward_to_app(path, content, str(user))
                elif path.startswith("fs/"):
                    self.send_file(path.removeprefix("fs/"), content)
                elif path in ("/serving-endpoints/responses", "/serving-endpoints/chat/completions"):
                    self.forward(path, content)
                else:
                    self.send_answer(path, dict(parse_qsl(url.query)) | json.loads(content or "{}"), str(user))

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

        def send_answer(self, path: str, body: dict[str, Any], user: str) -> None:
            if found := workspace.refused.get(f"{self.command} {path}"):
                self.send(found[0], {"error_code": "REFUSED", "message": found[1]})
                return
            try:
                answer = workspace.answer(self.command, path, body, user)
            except Refused as refused:
                self.send(refused.status, {"error_code": refused.code, "message": str(refused)})
                return
            if workspace.cut_off and workspace.cut_off in f"{self.command} {path}":
                workspace.cut_off = None
                self.close_connection = True
                return
            if answer is None:
                answer = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No."}
                self.send(404, answer)
                return
            self.send(200, answer)

        def send_login(self, path: str) -> None:
            """OAuth for machines: the client's id is whom it is, and its secret is its token."""
            host = f"http://{self.headers['Host']}/oidc"
            if path.endswith("/oauth-authorization-server"):
                self.send(200, {"authorization_endpoint": f"{host}/authorize", "token_endpoint": f"{host}/v1/token"})
                return
            _, secret = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode().split(":")
            self.send(200, {"access_token": secret, "token_type": "Bearer", "expires_in": 3600})

        def send_file(self, path: str, content: bytes) -> None:
            kind, _, name = path.partition("/")
            name = f"/{name}"
            if kind == "directories":
                entries = workspace.catalog.folder(name)
                self.send(404 if entries is None else 200, {"contents": entries})
            elif self.command == "PUT":
                workspace.catalog.files[name] = content
                self.send(204, None)
            elif name in workspace.catalog.files:
                self.send(200, workspace.catalog.files[name])
            else:
                self.send(404, {"error_code": "NOT_FOUND", "message": f"There is no {name}."})

        def forward(self, path: str, content: bytes) -> None:
            """To what an endpoint serves, and back as it comes."""
            assert workspace.serving is not None
            try:
                base = workspace.serving.url_of(json.loads(content)["model"])
            except Refused as refused:
                self.send(refused.status, {"error_code": refused.code, "message": str(refused)})
                return
            self.pass_on(base + path.removeprefix("/serving-endpoints"), content, {})

        def forward_to_app(self, path: str, content: bytes, user: str) -> None:
            """To an app, which is told who calls."""
            assert workspace.apps is not None
            name, _, rest = path.removeprefix("/apps-proxy/").partition("/")
            self.pass_on(f"{workspace.apps.urls[name]}/{rest}", content, {"X-Forwarded-User": user})

        def pass_on(self, url: str, content: bytes, headers: dict[str, str]) -> None:
            headers = headers | {"Content-Type": "application/json"}
            with httpx.stream(self.command, url, content=content, headers=headers, timeout=60) as answer:
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.end_headers()
                for chunk in answer.iter_raw():
                    self.wfile.write(chunk)

        def send(self, status: int, answer: Any) -> None:
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content) if status != 204 else 0))
            self.end_headers()
            if status != 204 and self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        workspace.url = f"http://127.0.0.1:{server.server_port}"
        yield workspace.url
        server.shutdown()
