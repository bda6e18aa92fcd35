"""Content addresses: the same thing gives the same SHA-256 on every machine."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SHA256 = re.compile("[0-9a-f]{64}")


def of_value(value: object) -> str:
    """SHA-256 (hex) of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_tensor(tensor: torch.Tensor) -> str:
    """SHA-256 (hex) of a tensor's shape and its values as little-endian float32."""
    values = tensor.detach().to("cpu", torch.float32).contiguous()
    head = json.dumps(list(values.shape)).encode()
    return hashlib.sha256(head + values.numpy().astype("<f4").tobytes()).hexdigest()


def of_file(file: Path) -> str:
    """SHA-256 (hex) of a file's contents; the hub's cache names its large files by it, which saves reading them."""
    blob = file.resolve()
    if file.is_symlink() and blob.parent.name == "blobs" and SHA256.fullmatch(blob.name):
        return blob.name
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_files(contents: Mapping[str, str]) -> str:
    """SHA-256 (hex) of files: their names and what `of_file` gives for each, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(name.encode() + b"\0" + bytes.fromhex(contents[name]))
    return digest.hexdigest()


def of_array(array: NDArray[Any]) -> str:
    """SHA-256 (hex) of an array's shape, type and values."""
    head = json.dumps([list(array.shape), array.dtype.str]).encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
