"""Signs of failure that a command flags on its run, each by a rule of its own (docs/method.md)."""

from enum import StrEnum


class Signature(StrEnum):
    """What went wrong with prompts or neurons; the value stands in the run's tag."""

    COLLAPSE = "collapse"  # tune: every prediction of a seed is one class
    SEEDS = "sensitive to the seed"  # tune: seeds differ by more than the rows explain
    LOW = "low predictivity"  # discover: no neuron beyond chance
    INCONSISTENT = "inconsistent"  # robustness: rankings agree less than as many clean rows would give
