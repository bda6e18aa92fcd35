"""The tables of a robustness command: every estimate has n, interval and chance beside it."""

from collections.abc import Iterator

from skillneurons.robustness.consistency import ALL_ROWS
from skillneurons.robustness.set_report import SetReport
from skillneurons.stats.intervals import Ranged
from skillneurons.stats.paired_accuracy import PairedAccuracy
from skillneurons.stats.skill_test import Skill, skill

Row = dict[str, object]


def shared(share: Ranged, n: int, majority: float, known: Skill) -> Row:
    """An accuracy's columns."""
    return {
        "n": n,
        **share.columns("accuracy"),
        "majority": majority,
        **known.columns("balanced_accuracy", "balanced"),
    }


def accuracy_rows(one: SetReport) -> Iterator[Row]:
    """Every group of rows, then the originals."""
    for rows in one.groups:
        yield {
            "set": one.name,
            "kind": rows.kind,
            "group": rows.name,
            **shared(rows.accuracy, rows.n, rows.majority, rows.known),
            "standing": rows.standing,
        }
    if one.before is not None and one.measured.attacked.pairs.clean is not None:
        clean = one.measured.attacked.pairs.clean
        share = one.whole.pair.clean if one.whole.pair else one.unpaired()
        assert one.measured.clean is not None
        attacked = one.measured.attacked
        clusters = attacked.clusters.take(one.places) if attacked.pairs.paired and not attacked.pairs.flips else None
        known = skill(one.measured.clean.argmax(-1), clean.labels, clusters, one.seed)
        yield {"set": one.name, "kind": "clean originals", **shared(share, len(clean), clean.majority_rate, known)}


def pair_rows(one: SetReport) -> Iterator[Row]:
    """Clean beside changed: every group, then every prompt."""
    for rows in one.groups:
        if rows.pair is not None:
            yield {"set": one.name, "group": rows.name, "prompt": "mean", **_pair_row(rows.pair, rows.majority)}
    for number, (pair, p) in enumerate(one.by_prompt):
        seed = one.measured.attacked.prompts[number].card.get("seed", number)
        row = _pair_row(pair, one.whole.majority)
        yield {"set": one.name, "group": ALL_ROWS, "prompt": f"seed {seed}", **row, "holm_p": p}


def _pair_row(pair: PairedAccuracy, majority: float) -> Row:
    found: Row = {"n": pair.n, "originals": pair.originals, "majority": majority}
    for name, share in (("clean", pair.clean), ("changed", pair.changed)):
        found |= share.ends(f"{name}_accuracy", name)
    found |= pair.difference.columns("difference")
    found |= {"difference_p": pair.p_value, "test": "exact McNemar" if pair.exact else "sign flips of originals"}
    found |= {"rows_only_clean": pair.only_clean, "rows_only_changed": pair.only_changed, "rows_right": pair.right}
    return found | pair.success.columns("attack_success") | pair.both.columns("both_right")


def consistency_rows(one: SetReport) -> Iterator[Row]:
    """Every measure at every site."""
    for site in one.measured.sites:
        for line in site.consistency.lines:
            yield {"set": one.name, "site": site.site, **line.row()}


def shift_rows(one: SetReport) -> Iterator[Row]:
    """Every layer at every percentage."""
    for site in one.measured.sites:
        for rate, layers in site.shift.items():
            for layer, a, p in layers:
                yield {
                    "set": one.name,
                    "site": site.site,
                    "percent": rate,
                    "layer": layer,
                    "n": len(one.places),
                    **a.value.columns("shift"),
                    "random_lowest": a.control.lowest,
                    "random_highest": a.control.highest,
                    "shift_rank_p": a.rank_p,
                    "shift_rank_p_floor": a.rank_floor,
                    "random_sets": a.sets,
                    "holm_p": p,
                }


def restoration_rows(one: SetReport) -> Iterator[Row]:
    """Every percentage in both directions."""
    for site in one.measured.sites:
        for effects in site.restored.values():
            for effect in effects:
                yield {"set": one.name, "site": site.site, **effect.row()}


def rival_rows(one: SetReport) -> Iterator[Row]:
    """What else might explain what the skill neurons return."""
    for found in one.main.rivals:
        yield {"set": one.name, "site": one.main.site, "percent": one.primary, **found.row()}


def suppression_rows(one: SetReport) -> Iterator[Row]:
    """Both directions, every rate."""
    for direction in one.suppressions:
        for effect in direction.effects:
            yield {"set": one.name, "what": direction.what, **effect.row()}
