"""Tasks as data: one YAML file says what a task's fields, labels, words and sources are.

The labels stand in the paper's order (label 0, label 1); hub and files number them otherwise, so a source
maps its raw labels by name. Nothing here reads a row: see `skillneurons.data`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from skillneurons.data.sources import STRICT, BuiltinSource, FileSource, HubSource, Texts, label_key
from skillneurons.declarations import find, folders, read_mapping
from skillneurons.errors import InputError, listed

EXAMPLE = "experiments/tasks/sst2.yaml"
PLACES = ("hub", "file", "builtin", "counterpart")  # keys that say where rows and originals are
FAMILIES = ("masked_lm", "encoder_decoder", "decoder_only")
Family = Annotated[str, Field(pattern=f"^({'|'.join(FAMILIES)})$")]
INHERITED = ("family", "fields", "labels", "templates", "label_words", "published_words")

Word = str | Mapping[str, str]
AnySource = HubSource | FileSource | BuiltinSource


class Segment(str):
    """A rendered segment, which knows what its template wrote and what came from the row.

    Attributes:
        parts: what the template wrote and the field's text behind it, in turn.
    """

    parts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, template: str, row: Mapping[str, str]) -> "Segment":
        """The template with the row's texts in their places."""
        places = Formatter().parse(template)
        parts = tuple((literal, "" if name is None else row[name]) for literal, name, _, _ in places)
        segment = cls("".join(literal + text for literal, text in parts))
        segment.parts = parts
        return segment


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Counterpart:
    """Where the originals of an edited data set are, if not in its own rows.

    Attributes:
        originals: the task whose test rows they are.
        aligned: whether row i of one is the original of row i of the other.
        flips: whether the edit turns the label.
    """

    originals: str
    aligned: bool = True
    flips: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Task:
    """One classification task.

    Attributes:
        fields: the text fields of a row, in order.
        labels: label names in the paper's order; a label is an index into them.
        templates: backbone family -> one or two segments of text with `{field}` places.
        label_words: backbone family -> one word a label, each meant to be a single token.
        published_words: family -> the words of the published prompts, where they differ; a word that is
            several tokens is `{"word": ..., "piece": "first"}`, the piece that was scored.
        clean: for an adversarial task, the task to tune on.
        counterpart: for an edited data set whose originals are a task of their own.
        folder: where the YAML lies; relative file paths start there when no data_dir is given.
    """

    name: str
    version: int
    family: str
    fields: Texts
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    templates: Mapping[Family, Annotated[Texts, Field(max_length=2)]]
    label_words: Mapping[Family, tuple[str, ...]]
    published_words: Mapping[Family, tuple[Word, ...]] = field(default_factory=dict)
    clean: str | None = None
    counterpart: Counterpart | None = None
    hub: HubSource | None = None
    file: FileSource | None = None
    builtin: BuiltinSource | None = None
    folder: Path = field(default=Path(), compare=False)

    def render(self, family: str, row: Mapping[str, str]) -> tuple[str, ...]:
        """The one or two text segments a backbone family reads for one row of field texts."""
        return tuple(Segment.of(template, row) for template in self._of(family, "templates"))

    def words(self, family: str, published: bool = False) -> tuple[Word, ...]:
        """The label words of a backbone family, one a label.

        Args:
            family: One of FAMILIES.
            published: The words of the published prompts; ours where those are the same.
        """
        ours: tuple[Word, ...] = self._of(family, "label_words")
        return self.published_words.get(family, ours) if published else ours

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parsed definition as canonical JSON: formatting and location do not enter."""
        text = json.dumps(_definition(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def source(self, data_dir: str | Path | None = None) -> tuple[AnySource, Path]:
        """The source to read and the folder its relative paths start from.

        Files are read where data_dir is given or the task has no hub source; the generator where it has
        neither.
        """
        if self.file and (data_dir is not None or not self.hub):
            return self.file, self.folder if data_dir is None else Path(data_dir).expanduser()
        found = self.hub or self.builtin
        assert found is not None  # parsing refuses a task without a source
        return found, self.folder

    def _of(self, family: str, what: str) -> Any:
        held: Mapping[str, Any] = getattr(self, what)
        if family not in held:
            must = f"Task {self.name} must have {what} for the backbone family {family}"
            raise InputError(must, f"only {listed(held)}", f"Add '{what}: {{{family}: ...}}' to its YAML.")
        return held[family]


def load_task(name_or_path: str | Path, tasks_dir: Path | None = None) -> Task:
    """Reads a task by name or from a path to its YAML.

    Args:
        name_or_path: A file name without ending in the tasks folder, or a path ending in .yaml or .yml.
        tasks_dir: The tasks folder; without it `experiments/tasks` here, then those of the package.

    Raises:
        InputError: There is no such task, or its YAML breaks a rule.
    """
    places = folders("tasks") if tasks_dir is None else (tasks_dir,)
    path = find(str(name_or_path), "task", places)
    raw = read_mapping(path, "task", EXAMPLE)
    if clean := raw.get("clean"):
        base = read_mapping(find(str(clean), "task", (path.parent, *folders("tasks"))), "task", EXAMPLE)
        raw = {**{key: base[key] for key in INHERITED if key in base}, **raw}
    return _parse(raw, path)


def unsourced(task: Task) -> dict[str, Any]:
    """A task's definition less where its rows come from, which a split's fingerprint covers."""
    return {key: value for key, value in _definition(task).items() if key not in PLACES}


def origin(task: Task, data_dir: str | Path | None) -> dict[str, Any]:
    """Where a task's rows come from, for `restored`: the files alone where they are read, else every source."""
    source, folder = task.source(data_dir)
    kinds = ("file", "counterpart") if source is task.file else PLACES
    held = {kind: asdict(value) for kind in kinds if (value := getattr(task, kind)) is not None}
    return {**held, "folder": str(folder.resolve())}


def task_from(definition: Mapping[str, Any], rows: Mapping[str, Any] | None = None) -> Task:
    """The inverse of `unsourced`, and of `origin`; a task without the latter has no rows to read."""
    return Task(**definition, **(rows or {}))


def _definition(task: Task) -> dict[str, Any]:
    return {key: value for key, value in asdict(task).items() if key != "folder"}


def _parse(raw: Mapping[str, Any], path: Path) -> Task:
    """The task of one definition, or the first rule it breaks as an InputError."""
    known = [key.name for key in fields(Task) if key.name != "folder"]
    if unknown := [key for key in raw if key not in known]:
        raise InputError(f"{path}: keys must be among {listed(known, 20)}", listed(unknown), "Mend or remove them.")
    try:
        task = Task(**raw, folder=path.parent)
    except ValidationError as error:
        raise _invalid(error.errors()[0], path) from error
    for must, got in _broken_rules(task):
        raise InputError(f"{path}: {must}", got, "Mend the YAML.")
    return task


def _invalid(error: Mapping[str, Any], path: Path) -> InputError:
    """What pydantic found, in three parts."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return InputError(f"{path}: the key '{where}' must be there", "none", "Add it.")
    if error["type"] == "unexpected_keyword_argument":
        return InputError(f"{path}: '{where}' must be a known key", f"{error['input']!r:.80}", "Mend or remove it.")
    odd = not isinstance(error["input"], (str, dict, list))
    do = "Mend it." + " Quote a number, true, false or null that is a word." * odd
    got = f"{error['input']!r:.80} ({error['msg']})"
    return InputError(f"{path}: '{where}' must be as a task needs it", got, do)


def _broken_rules(task: Task) -> Iterator[tuple[str, str]]:
    """What must hold and what came, for every rule between keys that the task breaks."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", task.name):
        yield "'name' must be letters, digits, _ and - only", repr(task.name)
    if not (task.hub or task.file or task.builtin):
        yield "one of 'hub', 'file' and 'builtin' must be there", "none"
    for key in ("fields", "labels"):
        if len({label_key(name) for name in getattr(task, key)}) < len(getattr(task, key)):
            yield f"'{key}' must differ from one another", listed(getattr(task, key))
    if set(task.templates) != set(task.label_words):
        yield "'templates' and 'label_words' must name the same backbone families", listed(task.label_words)
    for family, segments in task.templates.items():
        yield from _broken_template(family, segments, task.fields)
    for key in ("label_words", "published_words"):
        for family, words in getattr(task, key).items():
            yield from _broken_words(f"{key}.{family}", words, task.labels)
    for source in (task.hub, task.file, task.builtin):
        if source is not None:
            yield from _broken_mapping(source, task)


def _broken_template(family: str, segments: tuple[str, ...], fields: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    must = f"'templates.{family}' must be text with places {listed('{' + name + '}' for name in fields)}"
    try:
        places = [part[1:] for segment in segments for part in Formatter().parse(segment) if part[1] is not None]
    except ValueError as error:
        yield must, f"{segments} ({error})"
        return
    wrong = [name for name, spec, conversion in places if name not in fields or spec or conversion]
    if wrong or not places:
        yield must, listed(segments)


def _broken_words(key: str, words: tuple[Word, ...], labels: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if len(words) != len(labels):
        yield f"'{key}' must have one word for each label ({listed(labels)})", f"{len(words)} words"
    if any(words.count(word) > 1 for word in words):
        yield f"'{key}' must differ from label to label", listed(words)
    for word in words:
        if not isinstance(word, str) and (set(word) != {"word", "piece"} or word["piece"] != "first"):
            yield f"'{key}' must hold words or {{word: ..., piece: first}}", str(dict(word))


def _broken_mapping(source: AnySource, task: Task) -> Iterator[tuple[str, str]]:
    fields, labels = f"the task's fields ({listed(task.fields)})", f"{listed(task.labels)} or a dropped name"
    for key, named, known, must in (
        ("label_names", source.label_names.values(), (*task.labels, *source.drop), f"map to {labels}"),
        ("originals", source.originals.values(), task.fields, f"lead to {fields}"),
        ("columns", source.columns, task.fields, f"name {fields}"),
    ):
        if strange := sorted({*named} - {*known}):
            yield f"'{source.kind}.{key}' must {must}", listed(strange)
