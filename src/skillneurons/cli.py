"""The command line: `python -m skillneurons NAME --key value`."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Literal, get_args, get_origin

from pydantic_core import PydanticUndefined
from rich.console import Console

from skillneurons import __version__
from skillneurons.errors import InputError, listed

# name -> (module with run(given, console), its configuration's class, one line of help)
STAGES = {
    "main": ("stage_main", "MainConfig", "the whole chain on the embedded default"),
    "tune": ("stage_tune", "TuneConfig", "tune one soft prompt a seed on a frozen model"),
    "discover": ("stage_discover", "DiscoverConfig", "find the skill neurons that a task's prompts activate"),
    "suppress": ("stage_suppress", "SuppressConfig", "accuracy with skill neurons suppressed, beside random ones"),
    "robustness": (
        "stage_robustness",
        "RobustnessConfig",
        "adversarial accuracy, and what becomes of the skill neurons",
    ),
    "transfer": ("stage_transfer", "TransferConfig", "accuracy of every task under every task's prompts"),
    "search": ("stage_search", "SearchConfig", "search the tune parameters with Optuna, on many workers"),
    "pretrain": ("stage_pretrain", "PretrainConfig", "train the pair of small backbones from a folder of texts"),
}

SHARED = ("tune", "discover")  # what several processes of a launcher work at together


def main(argv: Sequence[str] | None = None) -> int:
    """Run an entry point; returns the exit code (0 done, 1 failed, 2 bad input, 130 interrupted)."""
    console = Console()
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv), console)
    except InputError as error:
        _refuse(str(error))
        return 2
    except ArithmeticError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        _complain("interrupted; the same command takes up where this one stopped")
        return 130


def arguments(words: Sequence[str]) -> dict[str, str]:
    """`--key value` and `--key=value` as a mapping.

    Raises:
        InputError: a word that is neither, a value that is missing, a key given twice.
    """
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise InputError("parameters are given as --key value", word, "See --help.")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not rest:
                raise InputError(f"--{key} is followed by its value", "nothing", "Give one.")
            value = rest.pop(0)
        if key in given:
            raise InputError("each parameter is given once", f"--{key} twice", "Take one away.")
        given[key] = value
    return given


def help_text(entry: str | None = None) -> str:
    """What `--help` prints: the entry points, or the parameters of one."""
    if entry is None:
        lines = [f"skillneurons {__version__}", "", "python -m skillneurons NAME --key value", ""]
        lines += [f"  {name:<8} {about}" for name, (_, _, about) in STAGES.items()]
        return "\n".join([*lines, "", "NAME --help lists the parameters of one."])
    _, kind, about = STAGES[entry]
    config = getattr(import_module("skillneurons.config"), kind)
    own: Mapping[str, str] = getattr(config, "DEFAULTS", {})
    lines = [f"{entry}: {about}", ""]
    for name, field in config.model_fields.items():
        default = own.get(name, field.default)
        shown = "required" if default is PydanticUndefined else _written(default)
        choices = " | ".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else ""
        # a description that explains the choices has named them
        told = "" if all(choice in str(field.description) for choice in choices.split(" | ")) else f": {choices}"
        lines.append(f"  --{name:<16} {field.description}{told} ({shown})")
    if "model" in config.model_fields:
        lines += [
            "",
            "A model's file in experiments/models may set other defaults for what is not given"
            + (f", save {listed(own)}." if own else "."),
        ]
    return "\n".join(lines)


def _dispatch(words: list[str], console: Console) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    entry, rest = words[0], words[1:]
    if entry not in STAGES:
        raise InputError("the first word is an entry point", entry, f"There are: {listed(STAGES)}.")
    if "--help" in rest or "-h" in rest:
        print(help_text(entry))
        return 0
    _check_alone(entry)
    run: Callable[[Mapping[str, str], Console], int]
    run = import_module(f"skillneurons.{STAGES[entry][0]}").run
    return run(arguments(rest), console)


def _check_alone(entry: str) -> None:
    # each process would do all the work, and write it once more
    if entry not in SHARED and (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
        do = f"Start it without accelerate launch or torchrun: python -m skillneurons {entry}."
        raise InputError(f"{entry} is worked by one process", f"{processes} of a launcher", do)


def _refuse(message: str) -> None:
    _complain(message)
    if "MLFLOW_RUN_ID" in os.environ and _speaks():  # importing mlflow takes seconds
        import_module("skillneurons.tracking").fail_adopted(message)


def _complain(message: str) -> None:
    if _speaks():
        print(f"skillneurons: {message}", file=sys.stderr)


def _speaks() -> bool:
    # of several processes that meet the same mistake, one says it
    return os.environ.get("RANK", "0") == "0"


def _written(value: object) -> str:
    if isinstance(value, tuple):
        value = ",".join(str(part) for part in value)
    return "optional" if value is None else f"default {str(value).lower() if isinstance(value, bool) else value}"
