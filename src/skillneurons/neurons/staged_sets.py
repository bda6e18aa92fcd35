"""Skill neurons and their random sets, read in stages: most tests are over long before all sets are read.

Shapes: M sets of neurons, S prompts, n rows, K random sets a rate, L layers, F FFN width.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillneurons.neurons.intervention import Sets
from skillneurons.neurons.selection import Mask
from skillneurons.stats.control_sets import undecided

STAGES = (9, 19)  # random sets after which a test that is lost is stopped
Answers = NDArray[Any]  # what the model says under M sets `[M, S, n, ...]`


def read_in_stages(
    sets: Sequence[Sets],
    read: Callable[[Mask], Answers],
    value: Callable[[Answers], float],
    upward: bool = False,
) -> tuple[tuple[Sets, ...], Answers]:
    """The untouched model, then at each rate its skill neurons and as many of its random sets as its test needs.

    Args:
        sets: at each rate, with all K random sets that may be read.
        read: masks `[M, L, F]` -> answers.
        value: of the answers under one set `[S, n, ...]`, the mean that is compared.
        upward: whether the skill neurons are expected to stand above the random sets.

    Returns:
        The sets with the random ones that were read, and the answers: none, then at each rate skill and random sets.
    """
    shape = sets[0].skill.shape
    none, nothing = np.zeros((1, *shape), dtype=np.bool_), np.zeros((0, *shape), dtype=np.bool_)
    first = read(np.concatenate([none, *(one.skill[None] for one in sets)]))
    skill, controls = first[1:], [first[:0]] * len(sets)
    for stage in (*STAGES, max(one.planned for one in sets)):
        asked = [
            one.controls[len(have) : stage]
            if one.controls is not None and undecided(value(ours), list(map(value, have)), one.planned, upward)
            else nothing
            for one, ours, have in zip(sets, skill, controls, strict=True)
        ]
        if not sum(map(len, asked)):
            break
        found = np.split(read(np.concatenate(asked)), np.cumsum([len(one) for one in asked])[:-1])
        controls = [np.concatenate(pair) for pair in zip(controls, found, strict=True)]
    parts = [part for ours, have in zip(skill, controls, strict=True) for part in (ours[None], have)]
    read_sets = tuple(
        one if one.controls is None else replace(one, controls=one.controls[: len(have)])
        for one, have in zip(sets, controls, strict=True)
    )
    return read_sets, np.concatenate([first[:1], *parts])
