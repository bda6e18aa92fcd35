"""Checkpoints of a tuning on disk, and the lock that keeps one command to one address."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from skillneurons.errors import InputError
from skillneurons.prompts import write_atomically


def state_dir() -> Path:
    """Where interrupted work waits: SKILLNEURONS_STATE, or `.skillneurons` here."""
    return Path(os.environ.get("SKILLNEURONS_STATE") or ".skillneurons")


class FileCheckpoint:
    """One state in one file, replaced atomically; satisfies `tuning.Checkpoint`."""

    def __init__(self, address: str) -> None:
        self.path = state_dir() / "checkpoints" / f"{address}.pt"

    def load(self) -> dict[str, Any] | None:
        """The last state saved, or None."""
        if not self.path.is_file():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state: after a crash at any moment the file is the old one or the new one."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.path, buffer.getvalue())

    def drop(self) -> None:
        """Forget the state: its work is finished, or is to be done anew."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(address: str, wait: bool = False) -> Iterator[None]:
    """Hold the address' lock, which the kernel frees however the process ends; wait for it or not.

    Raises:
        InputError: another process on this machine holds it, and we do not wait.
    """
    path = state_dir() / "locks" / f"{address}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise InputError(
            "one process at a time works on one configuration",
            f"a second one for {address[:12]}",
            "Wait for the other to end (the same command then names its run), or change a parameter.",
        ) from error
    try:
        yield
    finally:
        lock.release()
