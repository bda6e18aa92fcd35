"""The service's processes as `docker/compose.yaml` starts them, on this machine: same scripts, same variables.

Each is a context manager that ends what it started, whatever happens in it.
"""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from conftest import ROOT, environment

DOCKER = ROOT / "docker"
LOOPBACK = "127.0.0.1"
ADMIN = "admin"
PUBLIC_URL = "https://runs.example.org"
PATIENCE = 180  # seconds until a service must answer, on a busy machine


def postgresql_binaries() -> Path | None:
    """The newest installed server's programs: Debian keeps them out of PATH, a folder a version."""
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    newest = max(versions, key=lambda path: float(path.parent.name), default=None)
    found = shutil.which("initdb")
    return newest or (Path(found).resolve().parent if found else None)


needs_postgresql = pytest.mark.skipif(
    postgresql_binaries() is None, reason="no PostgreSQL server on this machine (apt-get install postgresql)"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Database:
    """A running PostgreSQL with the service's databases; `env` is how libpq finds it."""

    process: subprocess.Popen[bytes]
    env: dict[str, str]

    def again(self) -> None:
        """All databases fresh."""
        for name in ("tracking", "accounts", "studies"):
            self.run("--dbname=postgres", "--command", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.run("--dbname=postgres", "--file", str(DOCKER / "databases.sql"))

    def answers(self) -> bool:
        return self._psql("--dbname=postgres", "--command", "SELECT 1").returncode == 0

    def run(self, *arguments: str) -> str:
        """What psql prints."""
        done = self._psql(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def copied(self, name: str) -> str:
        """A database restored from a backup of another, as docs/service.md makes both; returns its name."""
        binaries, env, copy = postgresql_binaries(), {**environment(), **self.env}, f"{name}_copy"
        assert binaries
        dump = subprocess.run(
            [binaries / "pg_dump", "--format=custom", name], env=env, capture_output=True, check=True
        )
        self.run("--dbname=postgres", "--command", f"CREATE DATABASE {copy}")
        restore = [binaries / "pg_restore", "--clean", "--if-exists", f"--dbname={copy}"]
        subprocess.run(restore, env=env, input=dump.stdout, capture_output=True, check=True)
        return copy

    def _psql(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        binaries = postgresql_binaries()
        assert binaries
        command = [str(binaries / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", *arguments]
        env = {**environment(), **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def postgresql() -> Iterator[Database]:
    """A PostgreSQL server of one's own: a new folder, a free port of the loopback, a password."""
    binaries, port, password = postgresql_binaries(), free_port(), secrets.token_hex(16)
    assert binaries
    folder = Path(tempfile.mkdtemp(prefix="skillneurons-postgresql-"))
    # PostgreSQL refuses to run as root
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    if who:
        shutil.chown(folder, "postgres", "postgres")
    where = {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **who}
    try:
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        rules = ["--auth=scram-sha-256", "--username=skillneurons", f"--pwfile={folder}/password", "--no-sync"]
        subprocess.run([binaries / "initdb", "-D", "data", *rules], check=True, capture_output=True, **where)
        settings = [f"listen_addresses={LOOPBACK}", f"port={port}", "unix_socket_directories=", "fsync=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([binaries / "postgres", "-D", "data", *options], stderr=log, **where)
        try:
            env = {"PGHOST": LOOPBACK, "PGPORT": str(port), "PGUSER": "skillneurons", "PGPASSWORD": password}
            database = Database(process, env)
            wait_for(database.answers, process, folder / "log")
            database.again()
            yield database
        finally:
            process.send_signal(signal.SIGQUIT)  # at once, whoever is connected
            process.wait(30)
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Server:
    """A running tracking server; `env` is what a client or worker needs to reach it and the database."""

    process: subprocess.Popen[bytes]
    url: str
    database: Database
    log: Path
    password: str
    env: dict[str, str] = field(default_factory=dict)

    def family(self) -> list[psutil.Process]:
        """Every process of the service: the tracking server, PostgreSQL, and their children."""
        return [
            one
            for started in (self.process, self.database.process)
            for one in (psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True))
        ]


def tracking_environment(database: Database, folder: Path) -> dict[str, str]:
    """What compose gives the tracking server; secrets are new each time."""
    return {
        **database.env,
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_hex(12),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(24),
        "ARTIFACTS": str(folder / "artifacts"),
        "PORT": str(free_port()),
        "SERVER_PROCESSES": "1",
        "PUBLIC_URL": PUBLIC_URL,
    }


def run_script(name: str, env: dict[str, str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start one of docker/'s scripts in a process group of its own."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [DOCKER / name],
            cwd=folder,
            env=environment(**env),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextlib.contextmanager
def tracking(database: Database, folder: Path) -> Iterator[Server]:
    """The tracking server, by its script, on a free port."""
    env, log = tracking_environment(database, folder), folder / "tracking.log"
    process = run_script("tracking.sh", env, folder, log)
    url = f"http://{LOOPBACK}:{env['PORT']}"
    try:
        wait_for(lambda: status(f"{url}/health") == 200, process, log)
        client = {
            **database.env,
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": env["MLFLOW_AUTH_ADMIN_PASSWORD"],
            "SKILLNEURONS_STORAGE": "postgresql:///studies",
        }
        yield Server(process, url, database, log, env["MLFLOW_AUTH_ADMIN_PASSWORD"], client)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.terminate()
        _, alive = psutil.wait_procs(family, timeout=20)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def status(
    url: str,
    credentials: tuple[str, str] | None = None,
    data: object = None,
    method: str | None = None,
    **headers: str,
) -> int:
    """The HTTP status of a request, 0 where nobody answers; `data` is sent as JSON."""
    body = None if data is None else json.dumps(data).encode()
    headers["Content-Type"] = "application/json"
    if credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
    try:
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)
    except OSError:
        return 0


def wait_for(ready, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
