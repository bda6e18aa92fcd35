"""Where rows come from: a hub, files, or the project's own generators, behind one contract.

A source gives the raw rows of one split as plain dicts. It knows no task and changes no value; mapping
columns and labels is the business of `skillneurons.data`. Its `kind` is its key in a task's YAML; `roles` says what
it has rows for, `read` gives those of one role in its own order, with relative paths starting at a folder, and
`describe` tells a role's origin in words without machine-specific paths.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from skillneurons.data.generated.catalogue import GENERATORS, roles_of
from skillneurons.errors import InputError, listed

Row = Mapping[str, object]
Role = Annotated[str, Field(pattern="^(train|dev|test)$")]
STRICT = ConfigDict(extra="forbid")  # an unknown key in a YAML is a mistake, never ignored
Texts = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]
TextKeys = BeforeValidator(lambda value: _by_key(value) if isinstance(value, dict) else value)
LARGEST_CELL = 2**31 - 1  # characters; csv's own limit is 131,072
OFFLINE_HELP = (
    "Pass data_dir=<folder> with the files that the task's 'file:' names, or set HF_DATASETS_OFFLINE=1 with "
    "a filled Hugging Face cache, or take a built-in task such as film_notes."
)


def label_key(value: object) -> str:
    """A raw label as text, the same however jsonl, csv or parquet, pandas or a spreadsheet write it.

    1, 1.0, "1", "1.0" and " 1 " are one label, and True, "True" and "TRUE" another; null, NaN and an empty cell
    are the label "". What no writer does by itself is left alone: "01" may be a code beside "1".
    """
    if value is None or value != value:
        return ""
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else re.sub(r"^(-?(?:0|[1-9]\d*))\.0*$", r"\1", text)  # type: ignore[call-overload]


def _by_key(names: Mapping[object, object]) -> dict[str, object]:
    keyed = {label_key(key): name for key, name in names.items()}
    if len(keyed) < len(names):
        raise ValueError("two of these raw labels are the same label")
    return keyed


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mapped:
    """How a source's columns and raw labels map to a task's fields and label names.

    Attributes:
        columns: task field -> column; a field not named here is a column of the same name.
        label: the column of the raw label.
        label_names: raw label -> label name; without it the raw labels are the names.
        drop: label names whose rows are left out.
        extras: columns carried along as metadata, where the source has them.
        originals: for adversarial rows whose column `original` holds key -> clean text: key -> field; a key not
            named here is a field's own name.
    """

    columns: Mapping[str, str] = Field(default_factory=dict)
    label: str = "label"
    label_names: Annotated[Mapping[str, str], TextKeys] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    originals: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HubSource(Mapped):
    """A dataset on the Hugging Face hub, or a local folder in the hub's format.

    Attributes:
        splits: role -> hub split.
        files: hub split -> file pattern in the repository, for one that declares no splits.
    """

    kind: ClassVar[str] = "hub"
    id: str
    config: str | None = None
    revision: str | None = None
    files: Mapping[str, str] = Field(default_factory=dict)
    splits: Annotated[Mapping[Role, str], Field(min_length=1)]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles named under `splits`."""
        return tuple(self.splits)

    def describe(self, role: str) -> str:
        """For example `hub:nyu-mll/glue/sst2@validation`."""
        return "hub:" + "/".join(part for part in (self.id, self.config) if part) + f"@{self.splits[role]}"

    def read(self, role: str, folder: Path) -> list[Row]:
        """The rows of one hub split.

        Raises:
            InputError: The hub cannot be reached, or has no such dataset, configuration or split.
        """
        import datasets  # a second of imports that file and built-in tasks need not wait for

        split = self.splits[role]
        files = {split: self.files[split]} if split in self.files else None
        try:
            table = datasets.load_dataset(self.id, self.config, data_files=files, split=split, revision=self.revision)
        except Exception as error:  # hub clients raise their own, httpx's and plain Python's errors alike
            got = f"{type(error).__name__}: {error}"
            raise InputError(f"{self.describe(role)} must be readable", got, _hub_help(error)) from error
        return list(table.to_list())


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FileSource(Mapped):
    """Files of one split: jsonl, csv, tsv (without quoting, as GLUE writes it) or parquet.

    Attributes:
        splits: role -> paths or globs; several files are read in sorted order, one after another.
    """

    kind: ClassVar[str] = "file"
    splits: Annotated[Mapping[Role, Texts], Field(min_length=1)]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles named under `splits`."""
        return tuple(self.splits)

    def describe(self, role: str) -> str:
        """For example `file:sst2/dev.jsonl`."""
        return "file:" + "+".join(self.splits[role])

    def read(self, role: str, folder: Path) -> list[Row]:
        """The rows of every file of one role.

        Raises:
            InputError: A folder or file is missing, of unknown kind, or cannot be decoded.
        """
        if not folder.is_dir():
            raise InputError("data_dir must be a folder", str(folder), "Give the folder that holds the files.")
        paths = [path for pattern in self.splits[role] for path in _expand(pattern, folder)]
        return [row for path in paths for row in read_file(path)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BuiltinSource(Mapped):
    """Rows the project generates itself.

    Attributes:
        name: a key of `skillneurons.data.generated.catalogue.GENERATORS`.
        seed: what the generator draws from; the same seed gives the same bytes.
    """

    kind: ClassVar[str] = "builtin"
    name: str
    seed: str

    @property
    def roles(self) -> tuple[str, ...]:
        """All three, or test alone for an adversarial task."""
        return roles_of(self.name)

    def describe(self, role: str) -> str:
        """For example `builtin:film_notes/v1@dev`."""
        return f"builtin:{self.name}/{self.seed}@{role}"

    def read(self, role: str, folder: Path) -> list[Row]:
        """The generated rows of one role.

        Raises:
            InputError: No generator has this name.
        """
        if self.name not in GENERATORS:
            must = "A built-in task must be one of " + listed(sorted(GENERATORS))
            raise InputError(must, repr(self.name), "Correct 'builtin: {name: ...}'.")
        return list(GENERATORS[self.name](self.seed)[role])


def read_file(path: Path) -> list[Row]:
    """Reads one jsonl, csv, tsv or parquet file, chosen by its ending.

    Raises:
        InputError: The ending is unknown, or the file cannot be decoded (with the line where there is one).
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        must = f"A data file must end in one of {listed(READERS)}"
        raise InputError(must, str(path), "Convert or rename it.")
    try:
        return list(reader(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text", str(error), "Save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} must be readable", str(error), "Check the file.") from error


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _json_object(line, path, number)


def _json_object(line: str, path: Path, number: int) -> Row:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _bad_line(path, number, "a JSON object with each key once", str(error)) from error
    if not isinstance(row, dict):
        raise _bad_line(path, number, "a JSON object", type(row).__name__)
    return row


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"{_twice(key for key, _ in pairs)} twice")
    return row


def _twice(names: Iterable[str]) -> str:
    """The names that are there more than once; columns without a name cannot be asked for."""
    return listed(repr(name) for name, n in Counter(names).items() if n > 1 and name)


def _read_delimited(path: Path, delimiter: str, quoting: int) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
        limit = csv.field_size_limit(LARGEST_CELL)
        try:
            header = _columns(next(filter(None, reader), []), path)
            for cells in reader:
                if len(cells) == len(header):
                    yield dict(zip(header, cells, strict=True))
                elif cells:
                    wanted = f"{len(header)} cells, as the header has"
                    raise _bad_line(path, reader.line_num, wanted, f"{len(cells)} cells")
        except csv.Error as error:
            raise _bad_line(path, reader.line_num, "well-formed cells", str(error)) from error
        finally:
            csv.field_size_limit(limit)


def _columns(names: list[str], path: Path) -> list[str]:
    if twice := _twice(names):
        raise InputError(f"{path} must have each column once", f"{twice} twice or more", "Rename or remove one.")
    return names


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        _columns(pq.read_schema(path).names, path)
        yield from pq.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path} must be a parquet file", str(error), "Write it again.") from error


READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".csv": partial(_read_delimited, delimiter=",", quoting=csv.QUOTE_MINIMAL),
    ".tsv": partial(_read_delimited, delimiter="\t", quoting=csv.QUOTE_NONE),
    ".parquet": _read_parquet,
}


def _bad_line(path: Path, number: int, wanted: str, got: str) -> InputError:
    return InputError(f"{path} line {number} must hold {wanted}", got, "Mend or remove that line.")


def _expand(pattern: str, folder: Path) -> list[Path]:
    """Existing files of one path or glob, sorted; an absolute one is taken as it is."""
    base = Path(pattern)
    anchor, relative = (Path(base.anchor), base.relative_to(base.anchor)) if base.is_absolute() else (folder, base)
    exact = anchor / relative
    matches = anchor.glob(str(relative)) if relative.parts else ()
    found = [exact] if exact.is_file() else sorted(path for path in matches if path.is_file())
    if not found:
        must = f"{pattern} must be a file in {anchor}"
        raise InputError(must, "no such file", "Check data_dir and the task's 'file:'.")
    return found


def _hub_help(error: Exception) -> str:
    """Advice by kind: a definition the hub refuses, or a hub that is out of reach."""
    if isinstance(error, ValueError):
        return "Correct the task's 'hub:' (id, config, splits, revision)."
    if "gated" in str(error):
        return "Accept its terms on the hub and set HF_TOKEN, or pass data_dir=<folder>."
    if "scripts are no longer supported" in str(error):
        return "Give 'hub:' a 'revision: refs/convert/parquet' and 'files:', or pass data_dir=<folder>."
    return OFFLINE_HELP
