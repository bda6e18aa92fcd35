"""What a command found: a headline and short claims, the one wording of the terminal, MLflow, reports and JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from skillneurons.stats.intervals import Estimate

LONGEST = 120  # words of a finding on the terminal


class Unit(StrEnum):
    """How a figure is written."""

    SHARE = "%"
    POINTS = "points"
    NUMBER = "number"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        verdict: a word or a few, which stand first: `needed`, `not shown`, `cannot tell`.
        text: what the verdict is of, and what the figure is.
        figure: with its interval, and what chance would give where it has such a value.
        unit: how the figure is written.
        chance: what chance is here: `majority rate`, `random neurons`.
        n: what the figure is of, `300 rows`; empty where it is of no sample.
        test: how it was tested, and the p-value.
        holds: True where what was asked is shown, False where it is excluded, None where it cannot be told.
        name: by which a program finds it.
    """

    verdict: str
    text: str
    figure: Estimate | None = None
    unit: Unit = Unit.SHARE
    chance: str = "chance"
    n: str = ""
    test: str = ""
    holds: bool | None = None
    name: str = ""

    @property
    def plain(self) -> str:
        """`the tuned prompts are right on 93.6% [92.8%, 94.5%] (majority rate 50.4%, n=1,000 rows)`."""
        chance = self.figure.chance if self.figure else None
        # of a difference chance is none
        named = chance is not None and isfinite(chance) and not (self.unit is Unit.POINTS and chance == 0)
        known = [f"{self.chance} {_one(chance, self.unit)}"] if named else []
        facts = [*known, *([f"n={self.n}"] if self.n else []), *([self.test] if self.test else [])]
        shown = f" {written(self.figure, self.unit)}" if self.figure and isfinite(self.figure.value) else ""
        told = f" ({', '.join(facts)})" if facts else ""
        return f"{self.text}{shown}{told}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not known is None."""
        figure = asdict(self.figure) if self.figure else {}
        numbers = {name: _known(figure.get(name)) for name in ("value", "low", "high", "chance")}
        words = {"verdict": self.verdict, "text": self.text, "unit": str(self.unit), "chance_is": self.chance}
        return {**words, **numbers, "n": self.n, "test": self.test, "holds": self.holds, "name": self.name}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Claim":
        """The inverse of `to_dict`."""
        nan = float("nan")
        value, low, high = (nan if plain[name] is None else float(plain[name]) for name in ("value", "low", "high"))
        figure = None if plain["value"] is None else Estimate(value, low, high, plain["chance"])
        words = (plain["verdict"], plain["text"], figure, Unit(plain["unit"]), plain["chance_is"])
        return cls(*words, plain["n"], plain["test"], plain["holds"], plain["name"])


@dataclass(frozen=True)
class Finding:
    """A headline, one sentence with the verdict, and claims, the weightiest first."""

    headline: str
    claims: Sequence[Claim] = ()

    @property
    def markdown(self) -> str:
        """For MLflow: the headline, then a list."""
        lines = [f"- **{_capital(claim.verdict)}**: {claim.plain}." for claim in self.claims]
        return "\n".join([f"**{self.headline}**", *(["", *lines] if lines else [])])

    @property
    def text(self) -> str:
        """Without marks, a claim a line."""
        return "\n".join([self.headline, *(f"- {_line(claim)}" for claim in self.claims)])

    def shortened(self, words: int = LONGEST) -> tuple[str, list[str], int]:
        """For the terminal: the headline, as many claims as that many words hold, and how many are left over."""
        lines, room = [], words - _words(self.headline)
        for claim in self.claims:
            room -= _words(line := _line(claim))
            if room < 0:
                break
            lines.append(line)
        return self.headline, lines, len(self.claims) - len(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"headline": self.headline, "claims": [claim.to_dict() for claim in self.claims]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Finding":
        """The inverse of `to_dict`."""
        return cls(plain["headline"], [Claim.from_dict(claim) for claim in plain["claims"]])


def written(figure: Estimate, unit: Unit = Unit.SHARE) -> str:
    """`71.2% [66.0%, 75.9%]`, `+3.2 points [+1.0, +5.4]` or `0.61 [0.50, 0.70]`; unknown ends are left out."""
    if unit is Unit.POINTS:
        value, low, high = (number(100 * one, "+.1f") for one in (figure.value, figure.low, figure.high))
        head = f"{value} points"
    else:
        head, low, high = (_one(one, unit) for one in (figure.value, figure.low, figure.high))
    return f"{head} [{low}, {high}]" if isfinite(figure.low) and isfinite(figure.high) else head


def number(value: float, form: str) -> str:
    """A number in a form, and never -0."""
    text = f"{value:{form}}"
    return f"{0.0:{form}}" if not any(digit in text for digit in "123456789") and isfinite(value) else text


def p_text(value: float) -> str:
    """`p 0.012`; of a very small one `p < 0.0001`."""
    return "p < 0.0001" if value < 1e-4 else f"p {value:.2g}"


def several(count: int, what: str) -> str:
    """`1 prompt`, `3 prompts`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _one(value: float | None, unit: Unit) -> str:
    if value is None:
        return ""
    if unit is Unit.SHARE:
        return number(value, ".1%")
    return f"{number(100 * value, '+.1f')} points" if unit is Unit.POINTS else number(value, ".2f")


def _line(claim: Claim) -> str:
    return f"{claim.verdict}: {claim.plain}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _words(text: str) -> int:
    return len(text.split())


def _known(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def joined(parts: Iterable[Sequence[Claim]]) -> list[Claim]:
    """Claims of several subjects side by side: the weightiest of each first, then the second, and so on."""
    columns, found = [list(part) for part in parts], []
    while any(columns):
        found += [column.pop(0) for column in columns if column]
    return found
