"""What a discovery finds, as a value and as a folder.

Shapes: K targets (1 for two labels; one a label against the rest for more), S seeds, L layers,
W positions of the site, F FFN width. In the files the axis K is left out where it is 1.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from skillneurons import fingerprints
from skillneurons.errors import InputError
from skillneurons.storage import write_atomically

FORMAT = 2
TENSOR_FILE = "neurons.safetensors"
CARD_FILE = "neurons.json"
# Neurons.direction in words
SIGNS = {1: "excitatory", -1: "inhibitory", 0: "prompts disagree on its direction"}
SHARED = ("baseline", "effect_selected", "effect", "effect_p")  # arrays without an axis of targets
RankingBy = Literal["predictivity", "effect", "both"]
REQUIRED = ("format", "protocol", "site", "stack", "task", "targets", "backbone", "fingerprint")


@dataclass(frozen=True)
class Neurons:
    """Predictivity of every neuron of a site, with what chance would give.

    Attributes:
        baseline: float32 `[S, L, W, F]`, mean activation on train.
        accuracy: float32 `[K, S, L, W, F]`, share of all dev rows where firing equals the label.
        position: int16 `[K, S, L, F]`, the position chosen on half A.
        sign: int8 `[K, S, L, F]`, 1 excitatory or -1 inhibitory, chosen on half A.
        selected: float32 `[K, S, L, F]`, predictivity on half A at that position with that sign: the best of many,
            which neurons are ranked by, and nothing else.
        seed_predictivity: float32 `[K, S, L, F]`, on half B at that position with that sign.
        predictivity: float32 `[K, L, F]`, its mean over seeds.
        p_value: float64 `[K, S, L, F]`, exact tail on half B.
        q_value: float64 `[K, L, F]`, of the seeds' combined p, Benjamini-Hochberg over all neurons.
        family_p: float64 `[K, L, F]`, family-wise by the permuted maximum.
        auc: float32 `[K, S, L, F]`, binormal from train, at the chosen position; above 1/2 if excitatory.
        random_selected, random_predictivity: float32 `[K, S', L, F]`, as `selected` and `seed_predictivity`, under S'
            prompts that nobody tuned; S' may be 0.
        effect_selected, effect: float32 `[S'', L, F]`, mean effect on the right label's margin (`attribution`) on
            half A and on half B; S'' is S, or 0 where effects were not estimated.
        effect_p: float64 `[L, F]`, family-wise by the permuted maximum, of the seeds' mean effect on half B.
        card: JSON-able facts: protocol, site, task, rows, chance, prompts, backbone.

    With `protocol` paper there is one split: position, sign, predictivity and p come from all of dev, and
    p from the permutations.
    """

    baseline: NDArray[np.float32]
    accuracy: NDArray[np.float32]
    position: NDArray[np.int16]
    sign: NDArray[np.int8]
    selected: NDArray[np.float32]
    seed_predictivity: NDArray[np.float32]
    predictivity: NDArray[np.float32]
    p_value: NDArray[np.float64]
    q_value: NDArray[np.float64]
    family_p: NDArray[np.float64]
    auc: NDArray[np.float32]
    random_selected: NDArray[np.float32]
    random_predictivity: NDArray[np.float32]
    effect_selected: NDArray[np.float32]
    effect: NDArray[np.float32]
    effect_p: NDArray[np.float64]
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The label each ranking is for."""
        return tuple(self.card["targets"])

    @property
    def shape(self) -> tuple[int, int]:
        """(L, F)."""
        layers, neurons = self.predictivity.shape[1:]
        return layers, neurons

    @property
    def direction(self) -> NDArray[np.int8]:
        """1 excitatory or -1 inhibitory under every prompt, 0 where prompts disagree, int8 `[K, L, F]`."""
        return np.where((self.sign == self.sign[:, :1]).all(axis=1), self.sign[:, 0], 0).astype(np.int8)

    @property
    def ranking(self) -> NDArray[np.float32]:
        """What sets of neurons are chosen by, as `top_neurons` takes it: `[L, F]`, or `[K, L, F]`.

        Of half A, the mean over seeds: what half B says of the chosen is then no choice of its own.
        """
        return _ranking(self.selected)

    def ranked(self, by: RankingBy) -> NDArray[np.float32]:
        """What sets are chosen by: predictivity, effect, or the mean of their ranks in a layer.

        Raises:
            InputError: effects were not estimated.
        """
        if by == "predictivity":
            return self.ranking
        if not len(self.effect_selected):
            must = "ranking_by=effect needs neurons with effects, of a task of two labels"
            raise InputError(must, "neurons without", "Discover them with effect_steps=1.")
        effect = self.effect_selected.mean(axis=0)
        if by == "effect":
            return np.asarray(effect)
        places = [np.argsort(np.argsort(values, axis=1, kind="stable"), axis=1) for values in (self.ranking, effect)]
        return np.asarray((places[0] + places[1]) / 2, dtype=np.float32)

    @property
    def random_ranking(self) -> NDArray[np.float32]:
        """The same under random prompts, of which there is one at least."""
        return _ranking(self.random_selected)

    @property
    def best(self) -> tuple[int, int, int]:
        """(target, layer, neuron) of the one ranked first."""
        k, layer, unit = np.unravel_index(int(self.selected.mean(axis=1).argmax()), self.predictivity.shape)
        return int(k), int(layer), int(unit)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the arrays."""
        return fingerprints.of_value({name: fingerprints.of_array(array) for name, array in self._arrays().items()})

    def save(self, folder: Path) -> None:
        """Write the arrays, then the card: a folder without the latter is not whole."""
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(self._arrays(), folder / TENSOR_FILE)
        card = {"format": FORMAT, **self.card, "fingerprint": self.fingerprint}
        write_atomically(folder / CARD_FILE, json.dumps(card, indent=2, ensure_ascii=False).encode())

    @classmethod
    def load(cls, folder: Path) -> "Neurons":
        """Read a folder.

        Raises:
            InputError: a file or a key is missing, or the arrays are not those of the card.
        """
        missing = [name for name in (CARD_FILE, TENSOR_FILE) if not (folder / name).is_file()]
        if missing:
            must = f"a neurons folder holds {TENSOR_FILE} and {CARD_FILE}"
            raise InputError(must, f"{folder} without {' and '.join(missing)}", "Name a finished discover run.")
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        lacking = [key for key in REQUIRED if key not in card]
        if lacking or card["format"] != FORMAT:
            got = f"one without {lacking}" if lacking else f"format {card['format']}"
            raise InputError(f"{CARD_FILE} is of format {FORMAT}", got, "Discover the neurons again.")
        arrays = safetensors.numpy.load_file(folder / TENSOR_FILE)
        if len(card["targets"]) == 1:
            arrays = {name: array if name in SHARED else array[None] for name, array in arrays.items()}
        found = cls(**arrays, card=card)
        if found.fingerprint != card["fingerprint"]:
            must = f"{TENSOR_FILE} matches its card"
            raise InputError(must, f"other arrays in {folder}", "Copy the whole folder again.")
        return found

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "card"}
        squeeze = len(self.predictivity) == 1
        return {
            name: np.ascontiguousarray(array[0] if squeeze and name not in SHARED else array)
            for name, array in arrays.items()
        }


def _ranking(selected: NDArray[np.float32]) -> NDArray[np.float32]:
    found = selected.mean(axis=1)
    return np.asarray(found[0] if len(found) == 1 else found)
