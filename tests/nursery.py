"""Real processes of the program whose imports are done: forked from one that has imported all and done nothing.

A process of its own takes six seconds to import torch, transformers and mlflow before it does anything; tests of
kills, locks and many processes start dozens. `Nursery.start` gives what `subprocess.Popen` gives, as far as tests use
it. A command that starts processes of its own (workers, a launcher, its ranks) may have spares: children that were
forked before it did anything, and become what it starts.
"""

import inspect
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

from spared import spare_what_repeats

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.02
CLOSE_SECONDS = 5

SCHEMA = "SKILLNEURONS_TEST_SCHEMA"  # a database that fresh ones are copied from; empty: each is migrated
IMPORTED = (
    "accelerate",
    "skillneurons.discover.command",
    "skillneurons.search.command",
    "skillneurons.tune.command",
    # what they import when it is needed
    "alembic.command",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna.storages._rdb.alembic",
    "optuna.visualization",
    "optuna.visualization.matplotlib",
    "plotly.graph_objects",
    "pyarrow.parquet",
    "sqlalchemy.dialects.sqlite",
)
MODULES = ("skillneurons", "accelerate.commands.launch")


class Asked(NamedTuple):
    """What a process is to be: `python -m module argv`."""

    module: str
    argv: list[str]
    cwd: str
    env: dict[str, str]
    spares: int = 0
    new_session: bool = False


class Child:
    """A process of the program: `subprocess.Popen` in small."""

    def __init__(self, nursery: "Nursery", pid: int, out: int) -> None:
        self._nursery, self.pid = nursery, pid
        self.stdout = os.fdopen(out, encoding="utf-8")

    @property
    def returncode(self) -> int | None:
        return self._nursery.codes.get(self.pid)

    def poll(self) -> int | None:
        self._nursery.listen()
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(POLL_SECONDS)
        code = self.returncode
        assert code is not None
        return code

    def communicate(self) -> tuple[str, None]:
        out = self.stdout.read()
        self.wait()
        return out, None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    """The process that forks; started for the first child."""

    def __init__(self, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, __file__, str(theirs.fileno())]
        # modules of the tests can be run too; a served prompt that was loaded here brings another copy of the package
        here = [path for path in sys.path if Path(path).is_relative_to(ROOT) and ".venv" not in path]
        found_here = {"PYTHONPATH": os.pathsep.join(here)}
        self._process = subprocess.Popen(command, env={**env, **found_here}, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket, self._heard = ours, b""
        self.codes: dict[int, int] = {}
        self._born: list[int] = []

    def start(
        self, argv: list[str], cwd: Path, env: Mapping[str, str], spares: int = 0, module: str = "skillneurons"
    ) -> Child:
        reading, writing = os.pipe()
        _ask(self._socket, Asked(module, argv, str(cwd), dict(env), spares), [writing, writing])
        os.close(writing)
        while not self._born:
            self._hear()
        return Child(self, self._born.pop(), reading)

    def listen(self) -> None:
        while select.select([self._socket], [], [], 0)[0]:
            self._hear()

    def close(self) -> None:
        self._socket.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hear(self) -> None:
        heard = self._socket.recv(65536)
        assert heard, "the nursery has died"
        *lines, self._heard = (self._heard + heard).split(b"\n")
        for told in map(json.loads, lines):
            if "born" in told:
                self._born.append(told["born"])
            else:
                self.codes[told["pid"]] = told["code"]


def _serve(connection: socket.socket) -> None:
    for name in IMPORTED:
        import_module(name)
    import_module("torch").set_num_threads(1)
    living: set[int] = set()
    while True:
        if select.select([connection], [], [], POLL_SECONDS)[0]:
            asked, fds = _hear(connection)
            if asked is None:
                return
            pid = os.fork()
            if pid == 0:
                connection.close()
                _live(asked, fds)
            for fd in fds:
                os.close(fd)
            living.add(pid)
            connection.sendall(json.dumps({"born": pid}).encode() + b"\n")
        for pid in list(living):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                living.remove(pid)
                code = {"pid": pid, "code": os.waitstatus_to_exitcode(status)}
                connection.sendall(json.dumps(code).encode() + b"\n")


def _ask(connection: socket.socket, asked: Asked, outs: list[int]) -> None:
    text = json.dumps(asked._asdict()).encode()
    socket.send_fds(connection, [len(text).to_bytes(4, "big")], outs)
    connection.sendall(text)


def _hear(connection: socket.socket) -> tuple[Asked | None, list[int]]:
    head, fds, _, _ = socket.recv_fds(connection, 4, 2)
    if not head:
        return None, fds
    text = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
    return Asked(**json.loads(text)), fds


def _live(asked: Asked, outs: list[int]) -> None:
    code: object = 1
    try:
        os.chdir(asked.cwd)
        os.environ.clear()
        os.environ.update(asked.env)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for out, fd in zip(outs, (1, 2), strict=True):
            os.dup2(out, fd)
            os.close(out)
        if asked.new_session:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if template := asked.env.get(SCHEMA):
            spare_what_repeats(Path(template))
        _Spares(asked.spares).become_what_is_started(asked.spares)
        sys.argv = [asked.module, *asked.argv]
        runpy.run_module(asked.module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as left:
        code = left.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


class _Spares:
    """Children that wait for what to become; they end with the process that forked them."""

    def __init__(self, count: int) -> None:
        self._waiting: list[tuple[int, socket.socket]] = []
        for _ in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                for end in (ours, *(other for _, other in self._waiting)):
                    end.close()
                asked, outs = _hear(theirs)
                theirs.close()
                if asked is None:
                    os._exit(0)
                _live(asked, outs)
            theirs.close()
            self._waiting.append((pid, ours))

    def become_what_is_started(self, theirs: int) -> None:
        """From now on a module of ours that `subprocess` starts, output inherited, runs in a spare with spares."""
        plain = Popen._execute_child

        def execute(process: Any, args: Any, *rest: Any) -> None:
            given = inspect.signature(plain).bind(process, args, *rest).arguments
            words = [str(word) for word in args] if isinstance(args, list | tuple) else []
            at = words.index("-m") + 1 if "-m" in words else 0
            ours = at and words[0] == sys.executable and words[at] in MODULES
            if not (ours and self._waiting and given["c2pwrite"] == given["errwrite"] == -1):
                return plain(process, args, *rest)
            env = given["env"] if given["env"] is not None else os.environ
            asked = Asked(words[at], words[at + 1 :], os.getcwd(), dict(env), theirs, given["start_new_session"])
            process.pid, connection = self._waiting.pop(0)
            process._child_created = process._closed_child_pipe_fds = True
            _ask(connection, asked, [1, 2])
            connection.close()

        Popen._execute_child = execute


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
