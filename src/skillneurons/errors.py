"""Errors that are the user's to mend."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: what must hold, what came, what to do, in one line.

    The command line prints the message alone and exits with code 2. Raised before any model is
    loaded and before anything is written.
    """

    def __init__(self, must: str, got: str, do: str) -> None:
        self.must, self.got, self.do = must, got, do
        super().__init__(" ".join(f"{must}; got {got}. {do}".split()))


def first_line(error: BaseException) -> str:
    """Another library's error as part of one of ours: its type and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].rstrip('.')}"


def listed(names: object, limit: int = 12) -> str:
    """Names in one line for an error message, cut after `limit`."""
    items = [str(name) for name in names]  # type: ignore[attr-defined]
    more = f", … ({len(items)} in all)" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def meant(word: str, names: Iterable[str]) -> str:
    """`Did you mean tune? `, or nothing where no name is near."""
    near = difflib.get_close_matches(word.lower(), list(names), 1)
    return f"Did you mean {near[0]}? " if near else ""
