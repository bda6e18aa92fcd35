"""The command line: `skillneurons NAME --key value`, or `python -m skillneurons NAME --key value`."""

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined
from rich.console import Console

from skillneurons.about import __version__
from skillneurons.errors import InputError, listed

if TYPE_CHECKING:
    from skillneurons.commands.config import StageConfig

# name -> (folder of its capability, one line of help)
COMMANDS = {
    "main": ("demo", "the whole chain on the embedded default"),
    "tune": ("tune", "tune one soft prompt a seed on a frozen model"),
    "discover": ("discover", "find the skill neurons that a task's prompts activate"),
    "suppress": ("suppress", "accuracy with skill neurons suppressed, beside random ones"),
    "robustness": ("robustness", "adversarial accuracy, and what becomes of the skill neurons"),
    "transfer": ("transfer", "accuracy of every task under every task's prompts"),
    "search": ("search", "search the tune parameters with Optuna, on many workers"),
    "pretrain": ("pretrain", "train the pair of small backbones from a folder of texts"),
}

SHARED = ("tune", "discover")  # what several processes of a launcher work at together


def main(argv: Sequence[str] | None = None) -> int:
    """Run an entry point; returns the exit code (0 done, 1 failed, 2 bad input, 130 interrupted)."""
    console = Console()
    try:
        with _interruptible():
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


@contextmanager
def _interruptible() -> Iterator[None]:
    """An interrupt that comes inside a finaliser, where Python drops whatever is raised, is raised a moment later."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_name == "__del__" or frame.f_code.co_filename == weakref.__file__:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler and hasattr(signal, "setitimer")
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, interrupt)) for number in (signal.SIGINT, signal.SIGVTALRM)]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)  # the signal would end the process once it is not ours
        for number, handler in before:
            signal.signal(number, handler)


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


def configuration(entry: str) -> "type[StageConfig]":
    """The class of an entry point's parameters."""
    kind: type[StageConfig] = import_module(f"skillneurons.{COMMANDS[entry][0]}.config").CONFIG
    return kind


def help_text(entry: str | None = None) -> str:
    """What `--help` prints: the entry points, or the parameters of one."""
    if entry is None:
        call = "skillneurons NAME --key value      (in a checkout: python -m skillneurons NAME …)"
        lines = [f"skillneurons {__version__}", "", call, ""]
        lines += [f"  {name:<10} {about}" for name, (_, about) in COMMANDS.items()]
        return "\n".join([*lines, "", "NAME --help lists the parameters of one."])
    about = COMMANDS[entry][1]
    config = configuration(entry)
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
    if entry not in COMMANDS:
        raise InputError("the first word is an entry point", entry, f"There are: {listed(COMMANDS)}.")
    if "--help" in rest or "-h" in rest:
        print(help_text(entry))
        return 0
    _check_alone(entry)
    command = import_module(f"skillneurons.{COMMANDS[entry][0]}.command").COMMAND
    return int(command.run(arguments(rest), console))


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


def _written(value: object) -> str:
    if isinstance(value, tuple):
        value = ",".join(str(part) for part in value)
    return "optional" if value is None else f"default {str(value).lower() if isinstance(value, bool) else value}"
