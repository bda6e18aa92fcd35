"""One task at one rate of suppression, and what several of them say in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from skillneurons.stats.control_sets import Contrast
from skillneurons.stats.intervals import SIGNIFICANT, Ranged
from skillneurons.stats.mcnemar import tango


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
            **self.skill.columns("skill_accuracy", "skill"),
        }
        if self.against is None:
            return found
        a = self.against
        return found | {
            **a.control.columns("random_accuracy", "random"),
            "random_sets": a.sets,
            **a.difference.columns("difference"),
            "p": a.p_value,
            "holm_p": a.holm_p,
            "another_set_p": a.another_set_p,
            "holm_another_set_p": a.holm_another_p,
            "rank_p": a.rank_p,
            "rank_p_floor": a.rank_floor,
        }


def finding(title: str, how: str, keep: bool, effects: Sequence[Effect]) -> str:
    """What was found, in words, chance included; the own task's effects stand first."""
    first = effects[0]
    several = first.prompts > 1
    head = (
        f"**{title}** ({how}): untouched, {first.prompts} prompt{'s are' if several else ' is'} right on "
        f"{first.intact.text} of the test rows (n={first.n}, majority rate {first.majority:.1%})."
    )
    return " ".join([head, verdict(keep, [effect for effect in effects if effect.own]), *_others(effects)])


def verdict(keep: bool, effects: Sequence[Effect]) -> str:
    """Whether the model needs these neurons, from the own task's effects.

    Args:
        keep: whether all but the top neurons were suppressed.
        effects: at least one of them beside random sets.
    """
    tested = [(effect, effect.against) for effect in effects if effect.against]
    strongest = _strongest([effect for effect, _ in tested])
    gap = effects[0].intact.value - effects[0].majority
    if effects[0].intact.low <= effects[0].majority:
        return f"{_at_chance(effects[0])} Strongest difference {compared(strongest)}."
    if needed := [effect for effect, a in tested if a.significant and (effect.difference > 0) == keep]:
        return _needed(keep, needed, len(tested))
    if contrary := [effect for effect, a in tested if a.significant]:
        which = "Random neurons alone carry the task better" if keep else "Random neurons are needed more"
        return f"**The other way round**: {which.lower()} than these: {compared(_strongest(contrary))}."
    if all(a.sets < 2 for _, a in tested):
        return f"**No verdict**: one random set does not say how far such sets lie apart. {compared(strongest)}."
    # where no answer changes resampling shows no spread, and yet so many rows leave room for some
    room = max(min(a.difference.half for _, a in tested), tango(0, 0, effects[0].n).high)
    if room >= gap:
        return (
            f"**Too few rows**: even a fall to the majority rate ({100 * gap:.1f} points) would lie within the "
            f"interval, ±{100 * room:.1f} points at best. Strongest difference {compared(strongest)}."
        )
    off = strongest.against is not None and strongest.against.holm_p < SIGNIFICANT
    apart = "; off the average random set, yet random sets lie as far apart" if off else ""
    what = "these neurons alone carry the task better" if keep else "the model needs these neurons more"
    return (
        f"**No evidence** that {what} than random ones: strongest {compared(strongest)}{apart}. Differences below "
        f"{100 * room:.1f} points cannot be seen with these rows."
    )


def compared(effect: Effect) -> str:
    """One effect beside its random sets, with all that is needed to judge it."""
    a = effect.against
    if a is None:
        return f"at {effect.rate:g}%: {effect.skill.text}, no random set to draw"
    return (
        f"at {effect.rate:g}%: {effect.skill.text} against {a.control.value:.1%} with random sets (lowest "
        f"{a.control.lowest:.1%}, highest {a.control.highest:.1%} of {a.sets}), {a.difference.points}, "
        f"Holm p {a.holm_p:.2g}{a.another}, rank p {a.rank_p:.2g} "
        f"(floor {a.rank_floor:.2g})"
    )


def _at_chance(effect: Effect) -> str:
    """Why nothing follows where the untouched accuracy is not above the majority rate beyond its interval."""
    value, gap = effect.intact.value, effect.intact.value - effect.majority
    if gap <= 0:
        return (
            "**Nothing to lose**: that is not above the majority rate, so suppression can take nothing away and says "
            "nothing about the neurons."
        )
    rows = max(effect.n + 1, round(1.96**2 * value * (1 - value) / gap**2))
    return (
        "**Too few rows**: that is not above the majority rate beyond its interval, so it is open whether "
        f"suppression could take anything away; at this accuracy it takes about {rows:,} rows to know."
    )


def _needed(keep: bool, needed: Sequence[Effect], tested: int) -> str:
    what = "These neurons alone carry the task better than random ones" if keep else "The model needs these neurons"
    rates = ", ".join(f"{effect.rate:g}%" for effect in needed)
    return (
        f"**{what}**: at {rates} ({len(needed)} of {tested} rates) the difference from random sets is beyond chance, "
        "by the bootstrap over rows and sets and by how far the sets lie apart (both Holm over rates). Strongest "
        f"{compared(_strongest(needed))}."
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
