"""A PostgreSQL server of one's own, on a socket in a folder; PostgreSQL refuses to run as root."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.simulators.broker import free_port, wait_until


def _bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
    on_path = shutil.which("initdb")
    return found[-1] if found else (Path(on_path).resolve().parent if on_path else None)


BIN = _bin()


def _as_somebody(command: list[str]) -> list[str]:
    """Give root up."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]


@contextmanager
def postgres() -> Iterator[str]:
    """Give the URL of a server up to its last part, the name of a database."""
    assert BIN is not None
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.chown(data, 65534, 65534)
    subprocess.run(
        _as_somebody(
            [str(BIN / "initdb"), "-D", str(data), "-U", "fleet", "-A", "trust", "-E", "UTF8", "--no-sync"]
        ),
        check=True,
        capture_output=True,
    )
    port = free_port()
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
        "fsync": "off",  # it is thrown away
        "max_connections": 60,
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            _as_somebody([str(BIN / "postgres"), "-D", str(data), *options]), stdout=log, stderr=log
        )
    base = f"postgresql://fleet@127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        try:
            psycopg.connect(f"{base}/postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        wait_until(answers, 30.0)
        yield base
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def new_database(base: str) -> str:
    """Make an empty database and give its URL."""
    name = f"fleet_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{base}/{name}"
