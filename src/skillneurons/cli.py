"""The command line: `skillneurons NAME --key value`, or `python -m skillneurons NAME --key value`."""

import os
import sys
from collections.abc import Collection, Sequence
from importlib import import_module

from rich.console import Console

from skillneurons.about import __version__
from skillneurons.errors import InputError, listed, meant
from skillneurons.interrupts import Terminated, follow_launcher, interruptible
from skillneurons.usage import COMMANDS, configuration, help_text

SHARED = ("tune", "discover")  # what several processes of a launcher work at together


def main(argv: Sequence[str] | None = None) -> int:
    """Run an entry point; returns the exit code (0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated)."""
    console = Console()
    try:
        with interruptible():
            return _dispatch(list(sys.argv[1:] if argv is None else argv), console)
    except InputError as error:
        _refuse(str(error))
        return 2
    except ArithmeticError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt as stop:
        _complain(f"{str(stop) or 'interrupted'}; the same command takes up where this one stopped")
        return 143 if isinstance(stop, Terminated) else 130


def arguments(words: Sequence[str], flags: Collection[str] = ()) -> dict[str, str]:
    """`--key value`, `--key=value` and flags alone as a mapping; `-` in a name is `_`.

    Args:
        words: of the command line.
        flags: parameters that need no value.

    Raises:
        InputError: a word that is none of these, a value that is missing, a key given twice.
    """
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise InputError("parameters are given as --key value", word, "See --help.")
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")
        if not equals and key in flags and (not rest or rest[0].lower() not in ("true", "false")):
            value = "true"
        elif not equals:
            if not rest:
                raise InputError(f"--{key} is followed by its value", "nothing", "Give one.")
            value = rest.pop(0)
        if key in given:
            raise InputError("each parameter is given once", f"--{key} twice", "Take one away.")
        given[key] = value
    return given


def _dispatch(words: list[str], console: Console) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    entry, rest = words[0], words[1:]
    if entry not in COMMANDS:
        raise InputError(
            "the first word is an entry point", entry, f"{meant(entry, COMMANDS)}There are: {listed(COMMANDS)}."
        )
    if "--help" in rest or "-h" in rest:
        print(help_text(entry))
        return 0
    _check_alone(entry)
    follow_launcher()
    flags = [name for name, field in configuration(entry).model_fields.items() if field.annotation is bool]
    given = arguments(rest, flags)
    command = import_module(f"skillneurons.{COMMANDS[entry].folder}.command").COMMAND
    return int(command.run(given, console))


def _check_alone(entry: str) -> None:
    # each process would do all the work, and write it once more
    if entry not in SHARED and (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
        do = f"Start it without accelerate launch or torchrun: python -m skillneurons {entry}."
        raise InputError(f"{entry} is worked by one process", f"{processes} of a launcher", do)


def _refuse(message: str) -> None:
    _complain(message)
    if "MLFLOW_RUN_ID" in os.environ and _speaks():  # importing mlflow takes seconds
        import_module("skillneurons.tracking.runs").fail_adopted(message)


def _complain(message: str) -> None:
    if _speaks():
        print(f"skillneurons: {message}", file=sys.stderr)


def _speaks() -> bool:
    # of several processes that meet the same mistake, one says it
    return os.environ.get("RANK", "0") == "0"
