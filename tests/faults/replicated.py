"""Debian's PostgreSQL with a standby, and nginx before several servers."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from conftest import eventually, free_port
from debian import installed


class Node:
    """A PostgreSQL of Debian's that listens on a port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder, self._programs = folder, installed("postgresql", "lib/postgresql/*/bin/initdb").parent

    def make(self) -> None:
        """A new cluster, which tells a commit once a standby has it, if there is one."""
        self.run("initdb", "-D", f"{self._folder}/data", "-U", "postgres", "-A", "trust", "--no-sync")
        with (self._folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write("fsync = off\nhot_standby = on\nmax_wal_senders = 4\n")

    def follow(self, primary: "Node") -> None:
        """Become its standby, which it waits for from now on."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        self.run("pg_basebackup", "-D", f"{self._folder}/data", "-d", source, "-R", "-X", "stream", "-c", "fast")
        self.start()
        with (primary._folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write("synchronous_standby_names = '*'\n")
        primary.control("reload")

    def start(self) -> None:
        self.control("-w", "-l", f"{self._folder}/log", "-o", f"-h 127.0.0.1 -p {self.port} -k {self._folder}", "start")

    def control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-D", f"{self._folder}/data", *arguments)

    def run(self, program: str, *arguments: str) -> None:
        as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        command = [*as_postgres, str(self._programs / program), *arguments]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)


@contextmanager
def nodes() -> Iterator[tuple[Node, Node]]:
    """A running PostgreSQL, and a place for another."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        places = [Path(folder, name) for name in ("primary", "standby")]
        for place in places:
            place.mkdir()
            if os.getuid() == 0:
                shutil.chown(place, "postgres")
        primary, standby = (Node(place) for place in places)
        primary.make()
        primary.start()
        try:
            yield primary, standby
        finally:
            for node, place in zip((primary, standby), places, strict=True):
                if (place / "data" / "postmaster.pid").exists():
                    node.control("-m", "immediate", "stop")


class Nginx:
    """An nginx that asks one server after the other, whichever connection a request comes by."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self, urls: Sequence[str]) -> None:
        """Ask these from now on."""
        servers = "".join(f"server {url.removeprefix('http://')} max_fails=1 fail_timeout=2s;" for url in urls)
        (self._folder / "nginx.conf").write_text(f"""
            daemon off; pid {self._folder}/pid; error_log {self._folder}/error.log; worker_processes 1;
            events {{ worker_connections 512; }}
            http {{
                access_log off; client_body_temp_path {self._folder}/body; proxy_temp_path {self._folder}/proxy;
                fastcgi_temp_path {self._folder}/f; uwsgi_temp_path {self._folder}/u; scgi_temp_path {self._folder}/s;
                upstream agents {{ {servers} }}
                server {{
                    listen 127.0.0.1:{self._port};
                    location / {{
                        proxy_pass http://agents; proxy_set_header Host $host; proxy_buffering off;
                        proxy_read_timeout 300s; proxy_connect_timeout 2s;
                    }}
                }}
            }}
        """)
        if self._process is None:
            command = [str(installed("nginx", "sbin/nginx")), "-c", f"{self._folder}/nginx.conf"]
            self._process = subprocess.Popen([*command, "-p", str(self._folder)], stderr=subprocess.DEVNULL)
            eventually(self._listens)
        else:
            self._process.send_signal(1)  # SIGHUP: those that are being answered are answered to their end

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)

    def _listens(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").status_code > 0
        except httpx.TransportError:
            return False
