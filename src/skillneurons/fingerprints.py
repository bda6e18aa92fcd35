"""Content addresses: the same thing gives the same SHA-256 on every machine."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def of_value(value: object) -> str:
    """SHA-256 (hex) of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_tensor(tensor: torch.Tensor) -> str:
    """SHA-256 (hex) of a tensor's shape and its values as little-endian float32."""
    values = tensor.detach().to("cpu", torch.float32).contiguous()
    head = json.dumps(list(values.shape)).encode()
    return hashlib.sha256(head + values.numpy().astype("<f4").tobytes()).hexdigest()


def of_files(files: Iterable[Path]) -> str:
    """SHA-256 (hex) of files: their names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def of_array(array: NDArray[Any]) -> str:
    """SHA-256 (hex) of an array's shape, type and values."""
    head = json.dumps([list(array.shape), array.dtype.str]).encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
