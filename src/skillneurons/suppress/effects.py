"""One task at one rate of suppression, and what several of them say in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from skillneurons.findings import Claim, Unit, p_text, several
from skillneurons.stats.control_sets import Contrast, least_sets
from skillneurons.stats.intervals import Ranged
from skillneurons.stats.mcnemar import tango
from skillneurons.stats.skill_test import Skill


@dataclass(frozen=True)
class Effect:
    """Accuracy of one task at one rate.

    Attributes:
        task: name.
        own: whether it is the prompts' own task, or another one that stands beside it.
        n: test rows.
        majority: share of their commonest label.
        prompts: how many were averaged.
        rate: percent.
        neurons: how many are suppressed.
        intact: with none suppressed.
        known: whether there is skill to lose.
        skill: with the skill neurons suppressed (or all others, where they are kept).
        against: beside random sets, corrected over the rates; None where there is none to draw.
    """

    task: str
    own: bool
    n: int
    majority: float
    prompts: int
    rate: float
    neurons: int
    intact: Ranged
    known: Skill
    skill: Ranged
    against: Contrast | None

    @property
    def difference(self) -> float:
        """Skill minus the mean of the random sets; 0 where there is none to draw."""
        return self.against.difference.value if self.against else 0.0

    def row(self) -> dict[str, object]:
        """Its line of the table."""
        found: dict[str, object] = {
            "task": self.task,
            "own": self.own,
            "rate": self.rate,
            "neurons": self.neurons,
            "n": self.n,
            "majority": self.majority,
            "prompts": self.prompts,
            **self.intact.columns("intact_accuracy", "intact"),
            **self.known.columns("intact_balanced_accuracy", "intact_balanced"),
            **self.skill.columns("skill_accuracy", "skill"),
        }
        if self.against is None:
            return found
        a = self.against
        return found | {
            **a.control.columns("random_accuracy", "random"),
            "random_sets": a.sets,
            **a.difference.columns("difference"),
            "rank_p": a.rank_p,
            "rank_p_floor": a.rank_floor,
            "holm_p": a.holm_p,
        }


def headline(title: str, keep: bool, claim: Claim) -> str:
    """One sentence with the verdict on the own task."""
    what = "the skill neurons alone carry the task" if keep else "the model needs its skill neurons"
    if claim.holds is None:
        return f"{title}: cannot tell whether {what} more than random ones."
    if claim.holds:
        return f"{title}: {what} more than random ones."
    no = "the skill neurons carry the task no" if keep else "the model needs its skill neurons no"
    return f"{title}: {no} more than random ones."


def claims(keep: bool, effects: Sequence[Effect], margin: float) -> list[Claim]:
    """What was found, chance included; the own task's effects stand first."""
    first = effects[0]
    untouched = Claim(
        "skill" if first.known.shown else "no skill shown",
        f"untouched, {several(first.prompts, 'prompt')}: accuracy",
        replace(first.intact, chance=first.majority),
        chance="majority rate",
        n=f"{first.n:,} test rows",
        test=f"by balanced accuracy, {p_text(first.known.p_value)}",
        holds=first.known.shown or None,
    )
    own = replace(verdict(keep, [effect for effect in effects if effect.own], margin), name="needed")
    return [own, untouched, *_others(effects)]


def verdict(keep: bool, effects: Sequence[Effect], margin: float) -> Claim:
    """Whether the model needs these neurons, from the own task's effects.

    Args:
        keep: whether all but the top neurons were suppressed.
        effects: at least one of them beside random sets.
        margin: a difference within it counts as none.
    """
    tested = [(effect, effect.against) for effect in effects if effect.against]
    strongest = _strongest([effect for effect, _ in tested])
    if not effects[0].known.shown:
        return _compared("cannot tell", "no skill is shown that could be lost;", strongest, None)
    if needed := [effect for effect, a in tested if a.significant]:
        rates = ", ".join(f"{effect.rate:g}%" for effect in needed)
        word = "carried by them alone" if keep else "needed"
        return _compared(word, f"beyond random sets at {rates};", _strongest(needed), True)
    least = least_sets(len(tested))
    if (planned := min(a.planned for _, a in tested)) < least:
        why = f"{planned} random sets are too few for a test at {len(tested)} rates (controls={least} are enough);"
        return _compared("cannot tell", why, strongest, None)
    # where no answer changes resampling shows no spread, and yet so many rows leave room for some
    still = tango(0, 0, effects[0].n).high
    room = max(still, *(max(abs(a.difference.low), abs(a.difference.high)) for _, a in tested))
    if room <= margin:
        why = f"within {100 * margin:g} points of random sets at any rate (up to {100 * room:.1f});"
        return _compared("no difference", why, strongest, False)
    why = f"up to {100 * room:.1f} points are not excluded, {100 * margin:g} would count as none;"
    return _compared("cannot tell", why, strongest, None)


def _compared(word: str, why: str, effect: Effect, holds: bool | None) -> Claim:
    """One effect beside its random sets, with all that is needed to judge it."""
    a = effect.against
    text = f"{why} at {effect.rate:g}% of neurons {effect.skill.value:.1%} right,"
    if a is None:
        return Claim(word, f"{text} no random set to draw", holds=holds)
    text += f" with {a.sets} random sets {a.control.value:.1%}:"
    return Claim(word, text, replace(a.difference, chance=None), Unit.POINTS, test=_rank(a), holds=holds)


def _rank(a: Contrast) -> str:
    return f"{p_text(a.holm_p)} by rank, Holm over rates"


def _others(effects: Sequence[Effect]) -> Iterator[Claim]:
    """Other tasks under the sets with which the own one changes most."""
    rate = _strongest([effect for effect in effects if effect.own and effect.against]).rate
    for effect in effects:
        if not effect.own and effect.rate == rate:
            hit = effect.against is not None and effect.against.significant
            what = f"{effect.task} (n={effect.n:,}, untouched {effect.intact.value:.1%}) under the same sets:"
            yield _compared("hit too" if hit else "not shown hit", what, effect, hit or None)


def _strongest(effects: Sequence[Effect]) -> Effect:
    return max(effects, key=lambda effect: abs(effect.difference))
