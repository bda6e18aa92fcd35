"""The weight files of a model folder, and what is seen to be wrong with them before they are loaded."""

import json
import os
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skillneurons.errors import InputError, listed

# in the order in which transformers looks: one file, or an index that names several
KINDS = (("model.safetensors", "model*.safetensors"), ("pytorch_model.bin", "pytorch_model*.bin"))
FLOATS = {"F64", "F32", "F16", "BF16"}
LFS = b"version https://git-lfs"
AGAIN = "Fetch the file again, or name another folder."
SAVED = "Use the config.json that the weights were saved with."

Shape = tuple[int, ...]


def weight_files(folder: Path, gguf_file: str | None = None) -> tuple[Path, ...]:
    """The files that hold a model's weights, all there and whole as far as their first bytes tell.

    Raises:
        InputError: one is missing, cut off, empty, unreadable, or a git-LFS pointer.
    """
    files = (folder / gguf_file,) if gguf_file else _found(folder)
    for file in files:
        try:
            fault = _fault(file)
        except OSError as error:
            fault = f"{type(error).__name__} ({error.strerror or error})"
        if fault:
            raise InputError(f"the weight file {file} is there and whole", fault, _advice(fault))
    return files


def check_tensors(
    files: Sequence[Path], shapes: Mapping[str, Shape], prefix: str, ignored: Sequence[str], tied: Collection[str]
) -> None:
    """Compare the tensors that safetensors files name with those of the architecture that config.json describes.

    Args:
        files: the weight files; of other kinds nothing is known before loading.
        shapes: name -> shape of the architecture's own tensors.
        prefix: what a checkpoint of the bare model leaves out at the start of its names.
        ignored: patterns of names that the architecture knows and does not take.
        tied: names that share their tensor with another, of which one is saved.

    Raises:
        InputError: a layer would be left out, has no weights, or a tensor has another shape or is no float.
    """
    held = {_own_name(name, shapes, prefix): tensor for name, tensor in _tensors(files)}
    for name, (dtype, shape) in held.items():
        if name in shapes and (dtype not in FLOATS or shape != shapes[name]):
            must = f"{name} is a float tensor {list(shapes[name])}, as config.json has it"
            raise InputError(must, f"{dtype} {list(shape)}", SAVED)
    check_layers([name for name in held if not any(re.search(pattern, name) for pattern in ignored)], shapes)
    kinds = {_kind(name) for name in held}
    own = (name for name in shapes if name not in held and name not in tied)
    if lacking := sorted(name for name in own if "#" in _kind(name) and _kind(name) in kinds):
        must = "the weights have all layers of the architecture in config.json"
        raise InputError(must, f"none for {listed(lacking, 3)}", SAVED)


def check_layers(held: Iterable[str], shapes: Mapping[str, Shape]) -> None:
    """Refuse weights of more layers than the architecture has: those would be left out without a word.

    What the architecture has nowhere (a pooler, another head) is left out rightly.
    """
    kinds = {_kind(name) for name in shapes}
    if dropped := sorted(name for name in held if name not in shapes and _kind(name) in kinds):
        must = "the architecture in config.json has all layers of the weights"
        raise InputError(must, f"none for {listed(dropped, 3)}", SAVED)


def _found(folder: Path) -> tuple[Path, ...]:
    for name, pattern in KINDS:
        index, there = folder / f"{name}.index.json", set(folder.glob(pattern))
        if os.path.lexists(folder / name):  # a link that leads nowhere is a fault of the file
            return tuple(sorted(there))
        if os.path.lexists(index):
            return tuple(sorted({*there, *(folder / shard for shard in _shards(index))}))
    others = sorted(file.name for _, pattern in KINDS for file in folder.glob(pattern))
    must = "a model folder holds model.safetensors or pytorch_model.bin, or the index of their parts"
    got = f"{f'only {listed(others, 3)}' if others else 'neither'} in {folder}"
    raise InputError(must, got, "Fetch the weights, or name another folder.")


def _shards(index: Path) -> set[str]:
    try:
        return set(map(str, json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} maps weights to files", f"{type(error).__name__}: {error}", AGAIN) from error


def _fault(file: Path) -> str | None:
    """What is wrong with a file, or None."""
    with file.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(LFS):
        return "a git-LFS pointer in its place"
    if not head:
        return "an empty file"
    if file.suffix == ".safetensors":
        return _cut_off(file)
    if file.suffix == ".gguf" and not head.startswith(b"GGUF"):
        return "a file that is not GGUF"
    if file.suffix == ".bin" and not zipfile.is_zipfile(file) and not head.startswith(b"\x80"):
        return "a file that is cut off, or not PyTorch's"
    return None


def _cut_off(file: Path) -> str | None:
    try:
        header, start = _header(file)
        end = start + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "a file that is cut off, or not of safetensors"
    size = file.stat().st_size
    return None if size == end else f"{size} bytes of {end}"


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """Name -> description of each tensor, and where the tensors begin."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size:
            raise ValueError("a header longer than its file")
        header = json.loads(stream.read(length))
    return {name: value for name, value in header.items() if name != "__metadata__"}, 8 + length


def _tensors(files: Sequence[Path]) -> Iterator[tuple[str, tuple[str, Shape]]]:
    for file in files:
        if file.suffix == ".safetensors":
            for name, tensor in _header(file)[0].items():
                yield name, (tensor["dtype"], tuple(tensor["shape"]))


def _own_name(name: str, shapes: Mapping[str, Shape], prefix: str) -> str:
    """A name as the architecture has it: the bare model's weights lack its prefix."""
    if name in shapes:
        return name
    kinds = {_kind(own) for own in shapes}
    return f"{prefix}.{name}" if _kind(name) not in kinds and _kind(f"{prefix}.{name}") in kinds else name


def _kind(name: str) -> str:
    """A name without its numbers: the same for every layer."""
    return re.sub(r"\d+", "#", name)


def _advice(fault: str) -> str:
    if "LFS" in fault:
        return "Run `git lfs pull` in the folder."
    return "Let yourself read it (chmod)." if "Permission" in fault else AGAIN
