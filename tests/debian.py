"""PostgreSQL and pgbouncer as Debian has them, run for a test in a folder of their own and not as root."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import free_port


def installed(package: str, pattern: str) -> Path:
    """A program of a Debian package, which is installed if need be."""
    may_install = os.getuid() == 0 and shutil.which("apt-get") is not None
    if not list(Path("/usr").glob(pattern)) and may_install:
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *command]  # another worker may be at it
            subprocess.run(apt, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, check=False)
    found = sorted(Path("/usr").glob(pattern))
    if not found:
        missing = f"{package} is neither installed nor can be (that takes root, apt-get and a network)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return found[-1]


@contextmanager
def postgresql(other: Path | None = None) -> Iterator[str]:
    """The URL of Debian's own PostgreSQL, on a new cluster, or of an `other` one: the folder with its `bin`."""
    programs = installed("postgresql", "lib/postgresql/*/bin/initdb").parent
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which others may not enter
        if other:
            programs = shutil.copytree(other, Path(folder, "programs"), symlinks=True) / "bin"
        as_postgres = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            as_postgres = ["runuser", "-u", "postgres", "--"]

        def run(program: str, *arguments: str) -> None:
            command = [*as_postgres, str(programs / program), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)

        run("initdb", "-U", "postgres", "-A", "trust", "--no-sync")
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", f"-h '' -F -k {folder}", "start")
        try:
            yield psycopg.conninfo.make_conninfo(host=folder, user="postgres", dbname="postgres")
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@contextmanager
def pgbouncer(url: str, **settings: str) -> Iterator[str]:
    """The URL of the same database through a pgbouncer, which pools transactions on three connections a role."""
    program = installed("pgbouncer", "sbin/pgbouncer")
    server = psycopg.conninfo.conninfo_to_dict(url)
    host = str(server["host"])
    owner = Path(host).owner() if host.startswith("/") else "postgres"  # may enter the folder of the server's socket
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "users").write_text('"postgres" ""\n"writer" ""\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": f"{folder}/users",
            "pool_mode": "transaction",
            "default_pool_size": "3",
            **settings,
        }
        configured = "".join(f"{name} = {value}\n" for name, value in lines.items())
        Path(folder, "ini").write_text(
            f"[databases]\n* = host={host} port={server.get('port', 5432)}\n[pgbouncer]\n{configured}"
        )
        as_owner = ["-u", owner] if os.getuid() == 0 else []
        process = subprocess.Popen([program, "-q", *as_owner, f"{folder}/ini"], stderr=subprocess.DEVNULL)
        through = psycopg.conninfo.make_conninfo(url, host="127.0.0.1", port=port)
        try:
            for _ in range(100):
                try:
                    psycopg.connect(through).close()
                    break
                except psycopg.OperationalError:
                    time.sleep(0.05)
            yield through
        finally:
            process.terminate()
            process.wait(10)
