"""The whole chain in ten lines: what was tuned, found, needed, broken and restored, one verdict a line."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from skillneurons.findings import Claim, Finding, Unit, number, written

# word of the summary -> stage and name of its claim
LINES = {
    "tuned": ("tune", "accuracy"),
    "found": ("discover", "beyond random"),
    "needed": ("suppress", "needed"),
    "broken": ("robustness", "cost"),
    "restored": ("robustness", "sufficient"),
}
# what a difference is from
BESIDE = {"beyond random": "from random prompts", "needed": "from random neurons", "cost": "clean minus adversarial"}


@dataclass(frozen=True)
class Chain:
    """One model's runs of the chain, by stage, and what they found."""

    model: str
    runs: Mapping[str, str]
    found: Mapping[str, Finding]

    def claims(self) -> Iterator[tuple[str, Claim]]:
        """(word, claim) of each line that there is one for."""
        for word, (stage, name) in LINES.items():
            claims = self.found[stage].claims if stage in self.found else ()
            if claim := next((one for one in claims if one.name == name), None):
                yield word, claim

    @property
    def metrics(self) -> dict[str, float]:
        """Of the parent run: `<model>/<word>` with interval and chance."""
        found: dict[str, float] = {}
        for word, claim in self.claims():
            if claim.figure:
                found |= claim.figure.columns(f"{self.model}/{word}")
        return found


def markdown(chains: list[Chain]) -> str:
    """For the parent run's description."""
    lines = [f"- {chain.model} **{word}**: {_line(claim)}" for chain in chains for word, claim in chain.claims()]
    return "\n".join(lines)


def show(chains: list[Chain], console: Console) -> None:
    """For the terminal."""
    grid = Table.grid(padding=(0, 2))
    for chain in chains:
        for word, claim in chain.claims():
            grid.add_row(chain.model, f"[bold]{word}[/]", _line(claim).replace("[", "\\["))
    console.print(grid, highlight=False)


def next_commands(chain: Chain) -> Iterator[str]:
    """What to try next, to be pasted as it stands."""
    call, runs = _call(), chain.runs
    both = f"--prompts runs:/{runs['tune']} --neurons runs:/{runs['discover']}"
    yield f"{call} suppress {both} --curve --rates 1,5 --max_eval_rows 200"
    yield f"{call} search --model {chain.model} --task film_notes --space rate --trials 4 --max_steps 100"


def _line(claim: Claim) -> str:
    if claim.figure is None:
        return claim.verdict
    chance = claim.figure.chance
    beside = BESIDE.get(claim.name, claim.test) if claim.unit is Unit.POINTS else claim.test
    if chance:
        beside = f"{claim.chance} {number(chance, '.1%')}"
    return f"{claim.verdict}: {written(claim.figure, claim.unit)} ({beside})"


def _call() -> str:
    """How this installation is called from here."""
    script = Path(sys.prefix) / "bin" / "skillneurons"
    if not script.exists():
        return "python -m skillneurons"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else "skillneurons"
