"""One task at one rate of suppression, and what several of them say in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def finding(title: str, how: str, keep: bool, effects: Sequence[Effect], margin: float) -> str:
    """What was found, in words, chance included; the own task's effects stand first."""
    first = effects[0]
    several = first.prompts > 1
    head = (
        f"**{title}** ({how}): untouched, {first.prompts} prompt{'s are' if several else ' is'} right on "
        f"{first.intact.text} of the test rows (n={first.n}, majority rate {first.majority:.1%}; {first.known.said})."
    )
    own = verdict(keep, [effect for effect in effects if effect.own], margin)
    return " ".join([head, own, *_others(effects)])


def verdict(keep: bool, effects: Sequence[Effect], margin: float) -> str:
    """Whether the model needs these neurons, from the own task's effects.

    Args:
        keep: whether all but the top neurons were suppressed.
        effects: at least one of them beside random sets.
        margin: a difference within it counts as none.
    """
    tested = [(effect, effect.against) for effect in effects if effect.against]
    strongest = _strongest([effect for effect, _ in tested])
    if not effects[0].known.shown:
        return (
            f"**Cannot tell**: no skill is shown that could be lost ({effects[0].known.said}, by permuted labels). "
            f"Strongest difference {compared(strongest)}."
        )
    if needed := [effect for effect, a in tested if a.significant]:
        return _needed(keep, needed, len(tested))
    least = least_sets(len(tested))
    if (planned := min(a.planned for _, a in tested)) < least:
        return (
            f"**Cannot tell**: {planned} random sets are too few for a test at "
            f"{len(tested)} rates, which takes {least} (controls={least}). Strongest {compared(strongest)}."
        )
    # where no answer changes resampling shows no spread, and yet so many rows leave room for some
    still = tango(0, 0, effects[0].n).high
    room = max(still, *(max(abs(a.difference.low), abs(a.difference.high)) for _, a in tested))
    what = "these neurons alone carry the task" if keep else "the model needs these neurons"
    more = "better" if keep else "more"
    if room <= margin:
        return (
            f"**No difference** from random neurons within {100 * margin:g} points, at any rate: all intervals lie "
            f"within {100 * room:.1f} points. Strongest {compared(strongest)}."
        )
    return (
        f"**Cannot tell** whether {what} {more} than random ones: strongest {compared(strongest)}. With these rows "
        f"and sets the difference may be as large as {100 * room:.1f} points; {100 * margin:g} would count as none."
    )


def compared(effect: Effect) -> str:
    """One effect beside its random sets, with all that is needed to judge it."""
    a = effect.against
    if a is None:
        return f"at {effect.rate:g}%: {effect.skill.text}, no random set to draw"
    return f"at {effect.rate:g}%: {effect.skill.text}, {a.told}"


def _needed(keep: bool, needed: Sequence[Effect], tested: int) -> str:
    what = "These neurons alone carry the task better than random ones" if keep else "The model needs these neurons"
    rates = ", ".join(f"{effect.rate:g}%" for effect in needed)
    return (
        f"**{what}**: at {rates} ({len(needed)} of {tested} rates) by the rank among random sets (Holm over rates). "
        f"Strongest {compared(_strongest(needed))}."
    )


def _others(effects: Sequence[Effect]) -> Iterator[str]:
    """Other tasks under the sets with which the own one changes most."""
    rate = _strongest([effect for effect in effects if effect.own and effect.against]).rate
    for effect in effects:
        if not effect.own and effect.rate == rate:
            told = "beyond chance too" if effect.against and effect.against.significant else "not beyond chance"
            yield (
                f"On {effect.task} (n={effect.n}, majority rate {effect.majority:.1%}, untouched "
                f"{effect.intact.text}) the same sets {compared(effect)}: {told}."
            )


def _strongest(effects: Sequence[Effect]) -> Effect:
    return max(effects, key=lambda effect: abs(effect.difference))
