"""Files whole or absent, checkpoints, the lock that keeps one command to one address, how its processes agree."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout
from torch import distributed

from skillneurons.errors import InputError

T = TypeVar("T")
ROUND_SECONDS = 30.0  # of waiting for a lock; NCCL gives a collective up after ten minutes


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all (temporary file, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def on_main(ask: Callable[[], T]) -> T:
    """What the main process, and no other, finds; all processes of a command call this together, and hear it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ask()
    told: list[Any] = [ask() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(told, src=0)
    found: T = told[0]
    return found


def state_dir() -> Path:
    """Where interrupted work waits: SKILLNEURONS_STATE, or `.skillneurons` here."""
    return Path(os.environ.get("SKILLNEURONS_STATE") or ".skillneurons")


class FileCheckpoint:
    """One state in one file, replaced atomically; satisfies `commands.resumable.Checkpoint`."""

    def __init__(self, address: str) -> None:
        self.path = state_dir() / "checkpoints" / f"{address}.pt"

    def load(self) -> dict[str, Any] | None:
        """The last state saved, or None; of several processes one reads it, so that all go on alike."""
        return on_main(self._read)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state: after a crash at any moment the file is the old one or the new one."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.path, buffer.getvalue())

    def drop(self) -> None:
        """Forget the state: its work is finished, or is to be done anew."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        if not self.path.is_file():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state


@contextlib.contextmanager
def alone(address: str, wait: bool = False) -> Iterator[None]:
    """Hold the address' lock, which the kernel frees however the process ends; wait for it or not.

    Of several processes the main one holds it, and all call this together.

    Raises:
        InputError: another command on this machine holds it, and we do not wait; or our processes were given
            different work.
    """
    path = state_dir() / "locks" / f"{address}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    ours, held = on_main(lambda: (address, _acquired(lock, 0)))
    while wait and not held:
        held = on_main(lambda: _acquired(lock, ROUND_SECONDS))
    try:
        _check(address, ours, held)
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, seconds: float) -> bool:
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=seconds)
    return lock.is_locked


def _check(address: str, ours: str, held: bool) -> None:
    if address != ours:
        must, do = "all processes of a command find the same prompts, data and tasks", "Start the command again."
        raise InputError(must, f"{address[:12]} beside {ours[:12]}", do)
    if not held:
        raise InputError(
            "one process at a time works on one configuration",
            f"a second one for {address[:12]}",
            "Wait for the other to end (the same command then names its run), or change a parameter.",
        )
