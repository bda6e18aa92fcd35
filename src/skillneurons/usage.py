"""What `--help` prints: the entry points, and each one's parameters in groups with their true defaults."""

import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args, get_origin

from pydantic_core import PydanticUndefined

from skillneurons.about import __version__
from skillneurons.declarations import folders, read_mapping

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from skillneurons.commands.config import StageConfig


class Entry(NamedTuple):
    """An entry point: the folder of its capability, a sentence, and a command line to begin with."""

    folder: str
    about: str
    example: str


COMMANDS = {
    "main": Entry("demo", "the whole chain on the embedded default", ""),
    "tune": Entry(
        "tune",
        "tune one soft prompt a seed on a frozen model",
        "--model pocket-roberta --task film_notes --seeds 0,1 --prompt_length 10 --max_steps 120",
    ),
    "discover": Entry(
        "discover", "find the skill neurons that a task's prompts activate", "--prompts runs:/<tune run>"
    ),
    "suppress": Entry(
        "suppress",
        "accuracy with skill neurons suppressed, beside random ones",
        "--prompts runs:/<tune run> --neurons runs:/<discover run> --rates 1,5",
    ),
    "robustness": Entry(
        "robustness",
        "adversarial accuracy, and what becomes of the skill neurons",
        "--prompts runs:/<tune run> --neurons runs:/<discover run>",
    ),
    "transfer": Entry(
        "transfer",
        "accuracy of every task under every task's prompts",
        "--prompts runs:/<tune run of A>,runs:/<tune run of B>",
    ),
    "search": Entry(
        "search",
        "search the tune parameters with Optuna, on many workers",
        "--model pocket-roberta --task film_notes --space rate --trials 4 --max_steps 100",
    ),
    "pretrain": Entry(
        "pretrain", "train the pair of small backbones from a folder of texts", "--corpus data --recipe pocket"
    ),
}
REQUIRED = "required"
# class that brings a parameter -> what its group is called; others are of the command itself
GROUPS = {
    "TuneSettings": "how a prompt is trained",
    "ParallelConfig": "where it computes",
    "ComputeConfig": "where it computes",
    "StageConfig": "every command",
}
OWN = "what is done"
INDENT = 22


def configuration(entry: str) -> "type[StageConfig]":
    """The class of an entry point's parameters."""
    kind: type[StageConfig] = import_module(f"skillneurons.{COMMANDS[entry].folder}.config").CONFIG
    return kind


def help_text(entry: str | None = None, width: int | None = None) -> str:
    """What `--help` prints: the entry points, or the parameters of one, in lines of a width."""
    width = max(40, width or shutil.get_terminal_size().columns)
    if entry is None:
        call = "skillneurons NAME --key value      (in a checkout: python -m skillneurons NAME …)"
        lines = [f"skillneurons {__version__}", "", call, ""]
        lines += [f"  {name:<10} {one.about}" for name, one in COMMANDS.items()]
        return "\n".join([*lines, "", "NAME --help lists the parameters of one."])
    one, config = COMMANDS[entry], configuration(entry)
    lines = [*textwrap.wrap(f"{entry}: {one.about}.", width), "", f"  skillneurons {entry} {one.example}".rstrip()]
    for group, names in _groups(config).items():
        lines += ["", f"{group}:"]
        for name in names:
            text = _line(entry, name, config.model_fields[name])
            head = f"  --{name}"
            lines += _hanging(head, text, width)
    ends = "A flag needs no value; - and _ in a name are the same."
    return "\n".join([*lines, "", *textwrap.wrap(ends, width)])


def _groups(config: "type[StageConfig]") -> Mapping[str, list[str]]:
    """Group -> its parameters, the required ones first, those of every command last."""
    found: dict[str, list[str]] = {name: [] for name in (REQUIRED, OWN, *dict.fromkeys(GROUPS.values()))}
    own: Mapping[str, str] = getattr(config, "DEFAULTS", {})
    for name, field in config.model_fields.items():
        required = field.default is PydanticUndefined and name not in own
        found[REQUIRED if required else _group(config, name)].append(name)
    return {group: names for group, names in found.items() if names}


def _group(config: "type[StageConfig]", name: str) -> str:
    """By the class that brings it."""
    kinds = [kind for kind in config.__mro__ if name in inspect.get_annotations(kind)]
    return GROUPS.get(kinds[-1].__name__, OWN)


def _line(entry: str, name: str, field: "FieldInfo") -> str:
    config = configuration(entry)
    own: Mapping[str, str] = getattr(config, "DEFAULTS", {})
    default = own.get(name, field.default)
    choices = " | ".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else ""
    # a description that explains the choices has named them
    told = "" if all(choice in str(field.description) for choice in choices.split(" | ")) else f": {choices}"
    shown = _written(default)
    if "model" in config.model_fields and name not in own and name in set(_of_models()):
        shown += ", or from the model's file"
    if default is PydanticUndefined:
        shown = REQUIRED
    return f"{field.description}{told} ({shown})"


def _of_models() -> Iterator[str]:
    """Parameters that a model's file sets."""
    for folder in folders("models"):
        for file in sorted(folder.glob("*.yaml")):
            yield from read_mapping(file, "model", "experiments/models/t5-base.yaml").get("tune") or {}


def _hanging(head: str, text: str, width: int) -> list[str]:
    """A parameter and its description, which is wrapped under itself."""
    lines = textwrap.wrap(text, width - INDENT, break_long_words=False, break_on_hyphens=False)
    if len(head) >= INDENT:
        return [head, *(" " * INDENT + line for line in lines)]
    return [f"{head:<{INDENT}}{lines[0]}", *(" " * INDENT + line for line in lines[1:])]


def _written(value: object) -> str:
    if isinstance(value, tuple):
        value = ",".join(str(part) for part in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "optional" if value is None else f"default {value}"
