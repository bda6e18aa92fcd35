"""Are planted skill neurons found, and is what they do measured right? The embedded pair with edited weights.

`python benchmarks/planted.py [repetitions] [page]`, by default 3; prints two tables, and puts them into the page.
Two words at the end of a text differ in a private pair of coordinates that no weight of the model reads but those
written here: the first layer's attention carries the difference to every position, planted neurons at the prompt's
positions fire for one word or for the other, and what they write is carried to where the label is read. So it is
known which neurons tell the label (labels agree with the word in a share of the rows that is chosen, and every other
neuron is blind to it), and, from the weights, which share of an attack on the word goes through them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.loading import describe, load
from skillneurons.data.splits import Split, halves, load_splits
from skillneurons.data.tasks import load_task
from skillneurons.discover.counting import Question, count
from skillneurons.discover.predictivity import combine
from skillneurons.neurons.intervention import Intervention, sets_at, suppressed_scores
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import Mask
from skillneurons.neurons.sites import Site, site_of
from skillneurons.neurons.staged_sets import read_in_stages
from skillneurons.plots.style import COLOURS, canvas, dress, in_percent, legend_below, percent, write
from skillneurons.prompts.scoring import score
from skillneurons.robustness.restoration import (
    Patched,
    judged,
    restoration_effects,
    verdict,
)
from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.control_sets import least_sets
from skillneurons.stats.intervals import Estimate
from skillneurons.stats.paired_accuracy import compare, margin
from skillneurons.suppress.effects import verdict as needed
from skillneurons.suppress.report import SetPredictions

MODELS = ("pocket-roberta", "pocket-t5")
PROMPT, PLANTED_LAYER, TEXT = 8, 1, 40
WORDS = (250, 251)  # ids of rare tokens
TOLD, OUT, BLOCK = ((2 * i, 2 * i + 1) for i in range(3))  # pairs of coordinates (v, -v): no norm tells v
EXCITES, INHIBITS = 0, 1  # neurons of the planted layer
MARGIN = 0.03


class Wiring:
    """A pretrained model with private coordinates, and what reads and writes them.

    Args:
        backbone: `pocket-roberta` or `pocket-t5`; its weights are changed.
        strength: of the planted path, as the swing of the margin between both words, in standard deviations of
            the margin over texts.
        through: the share of that swing that goes through the planted neurons; the rest goes past them.
        told: texts to measure magnitudes on.
    """

    def __init__(self, backbone: Backbone, told: Sequence[Sequence[int]], strength: float, through: float) -> None:
        self.backbone, self.model, self.shape = backbone, backbone.model, (0, backbone.taps[0].width)
        self.words = backbone.info.label_words(load_task("film_notes").words(backbone.info.family))
        self.is_t5 = backbone.info.family == "encoder_decoder"
        self.layers = self.model.encoder.block if self.is_t5 else self.model.roberta.encoder.layer
        with torch.no_grad():
            self._clear()
            self._embed()
            self._carry(self._attention(0), 0, TOLD, TOLD, 8.0)
            self._plant(told)
            self._answer(told, strength, through)

    @property
    def site(self) -> Site:
        """Where the planted neurons are: the prompt's positions, without the mask."""
        return site_of(self.backbone.info, "prompt-body", PROMPT)

    @property
    def planted(self) -> Mask:
        """The two neurons that the answer hangs on `[L, F]`."""
        found = np.zeros((len(self.layers), self.backbone.taps[0].width), dtype=np.bool_)
        found[PLANTED_LAYER, [EXCITES, INHIBITS]] = True
        return found

    @property
    def prompt(self) -> Tensor:
        """`[P, E]`, drawn like the vocabulary, and nothing in the private coordinates."""
        vocabulary = self.backbone.vocabulary_embeddings()
        drawn = torch.randn(PROMPT, vocabulary.shape[1], generator=torch.Generator().manual_seed(3))
        drawn = drawn * vocabulary.std(0) + vocabulary.mean(0)
        return _blank(drawn)

    @contextmanager
    def written(self, scale: float) -> Iterator[None]:
        """What the planted neurons write, times a number: with -1 each writes what the other would for its word."""
        weight = self._ffn()[1].weight
        with torch.no_grad():
            kept = weight[:, [EXCITES, INHIBITS]].clone()
            weight[:, [EXCITES, INHIBITS]] = kept * scale
            yield
            weight[:, [EXCITES, INHIBITS]] = kept

    def scores(self, encoded: Encoded) -> NDArray[np.float32]:
        """Of the label words `[n, 2]`."""
        return score(self.backbone, self.prompt, encoded, self.words, Accelerator(cpu=True), 64).numpy()

    def _clear(self) -> None:
        """No weight reads or writes a private coordinate; norms pass them on as they are."""
        for name, weight in self.model.named_parameters():
            private = [place for pair in (TOLD, OUT, BLOCK) for place in pair]
            if "orm" in name:
                weight[private] = 1.0 if name.endswith("weight") else 0.0
            elif weight.ndim == 1:
                if len(weight) == self.backbone.info.embedding_width and not _reads(name):
                    weight[private] = 0.0
            elif "relative_attention_bias" not in name:
                if _reads(name) or "mbedding" in name or name in ("shared.weight", "lm_head.weight"):
                    weight[:, private] = 0.0
                if not _reads(name) and "mbedding" not in name and name != "shared.weight":
                    weight[private] = 0.0
        self.head = self.model.lm_head if self.is_t5 else self.model.lm_head.decoder
        self.head.weight = nn.Parameter(self.head.weight.clone(), requires_grad=False)  # no longer the embeddings

    def _embed(self) -> None:
        table = self.backbone._embedding.weight
        size = float(table.std())
        table[:, list(BLOCK)] = torch.tensor([size, -size])
        for token, sign in zip(WORDS, (-1, 1), strict=True):
            table[token] = table[300]
            table[token, list(TOLD)] = torch.tensor([sign * 4 * size, -sign * 4 * size])

    def _attention(self, layer: int) -> tuple[nn.Linear, nn.Linear]:
        if self.is_t5:
            part = self.layers[layer].layer[0].SelfAttention
            return part.v, part.o
        return self.layers[layer].attention.self.value, self.layers[layer].attention.output.dense

    def _carry(
        self, part: tuple[nn.Linear, nn.Linear], place: int, source: Sequence[int], to: Sequence[int], scale: float
    ) -> None:
        """One dimension of the first head's values takes one pair to another, as attention is."""
        value, output = part
        value.weight[place] = 0
        value.weight[place, list(source)] = torch.tensor([0.5, -0.5])
        if value.bias is not None:
            value.bias[place] = 0
        output.weight[:, place] = 0
        output.weight[list(to), place] = torch.tensor([scale, -scale])

    def _plant(self, told: Sequence[Sequence[int]]) -> None:
        """Neurons that fire at the prompt for one word, or for the other; the text and the mask are blocked."""
        reads, writes = self._ffn()
        seen = self._seen(told)
        there = seen[:, 1:PROMPT] if not self.is_t5 else seen[:, :PROMPT]
        size = (there[..., TOLD[0]] - there[..., TOLD[1]]).abs().median() / 2
        blocked = seen[:, PROMPT:]
        block = (blocked[..., BLOCK[0]] - blocked[..., BLOCK[1]]).abs().median() / 2
        most = (seen[..., TOLD[0]] - seen[..., TOLD[1]]).abs().max() / 2
        for unit, sign in ((EXCITES, 1), (INHIBITS, -1)):
            reads.weight[unit] = 0
            reads.weight[unit, list(TOLD)] = torch.tensor([sign, -sign]) * 3 / (2 * size)
            reads.weight[unit, list(BLOCK)] = torch.tensor([-1.0, 1.0]) * 3 * most / (size * block)
            if reads.bias is not None:
                reads.bias[unit] = 0
            writes.weight[:, unit] = 0

    def _ffn(self) -> tuple[nn.Linear, nn.Linear]:
        layer = self.layers[PLANTED_LAYER]
        if self.is_t5:
            return layer.layer[-1].DenseReluDense.wi, layer.layer[-1].DenseReluDense.wo
        return layer.intermediate.dense, layer.output.dense

    def _seen(self, told: Sequence[Sequence[int]]) -> Tensor:
        """What the planted layer's FFN reads `[b, N, E]`."""
        kept: list[Tensor] = []
        handle = self._ffn()[0].register_forward_pre_hook(lambda _, given: kept.append(given[0].clone()))
        try:
            self.backbone.scores(self.backbone.place(self.prompt, self.backbone.info.collate(told)), self.words)
        finally:
            handle.remove()
        return kept[0]

    def _answer(self, told: Sequence[Sequence[int]], strength: float, through: float) -> None:
        """The answer's swing: `through` of it by way of the planted neurons, the rest past them."""
        _, writes = self._ffn()
        natural = self._gaps(told)
        if self.is_t5:
            cross = self.model.decoder.block[0].layer[1].EncDecAttention
            last, bypass = (cross.v, cross.o), (cross.v, cross.o)
        else:
            last, bypass = self._attention(2), self._attention(3)
            self._open_head()
        low, high = self.words.ids
        write = torch.tensor([1.0, -1.0])
        writes.weight[list(OUT), EXCITES], writes.weight[list(OUT), INHIBITS] = write, -write
        # T5 divides what its head reads by the root of the width
        read = write * (self.backbone.info.embedding_width**0.5 if self.is_t5 else 1.0)
        self.head.weight[high, list(OUT)], self.head.weight[low, list(OUT)] = read, -read
        routes = (partial(self._carry, last, 2, OUT, OUT), partial(self._carry, bypass, 3, TOLD, OUT))
        for route in routes:
            route(0.0)
        scales, whole = [], strength * float(natural.std())
        for route, share in zip(routes, (through, 1 - through), strict=True):
            scales.append(self._scale(route, whole * share, told))
            route(0.0)
        for route, scale in zip(routes, scales, strict=True):
            route(scale)
        self._centre(told)

    def _scale(self, route: Callable[[float], None], swing: float, told: Sequence[Sequence[int]]) -> float:
        """The scale at which a route alone gives that swing: norms bend its growth."""
        scale = 0.1 if swing else 0.0
        for _ in range(12 if swing else 0):
            route(scale)
            scale *= swing / self._swing(told)
        return scale

    def _centre(self, told: Sequence[Sequence[int]]) -> None:
        """As many texts get one answer as the other: a constant in the pair of the token where the label is read."""
        info = self.backbone.info
        token = self.model.config.decoder_start_token_id if self.is_t5 else info.tokenizer.mask_token_id
        table, both = self.backbone._embedding.weight, [*turned(told, 0), *turned(told, 1)]
        low, high = -1.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            table[token, list(OUT)] = torch.tensor([middle, -middle])
            low, high = (low, middle) if np.median(self._gaps(both)) > 0 else (middle, high)

    def _open_head(self) -> None:
        """RoBERTa's head passes the answer's pair through: gelu(v) - gelu(-v) = v."""
        dense = self.model.lm_head.dense
        dense.weight[list(OUT)] = 0
        dense.weight[OUT[0], list(OUT)] = torch.tensor([0.5, -0.5])
        dense.weight[OUT[1], list(OUT)] = torch.tensor([-0.5, 0.5])
        dense.bias[list(OUT)] = 0

    def _gaps(self, told: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Score of the second label word less that of the first `[n]`."""
        found = self.scores(Encoded(told, torch.zeros(len(told), dtype=torch.long))).astype(np.float64)
        return found[:, 1] - found[:, 0]

    def _swing(self, told: Sequence[Sequence[int]]) -> float:
        return float((self._gaps(turned(told, 1)) - self._gaps(turned(told, 0))).mean())


def _reads(name: str) -> bool:
    """Whether a weight reads the residual stream."""
    parts = ("query", "key", "value", "intermediate", ".q.", ".k.", ".v.", "wi", "lm_head", "decoder.weight")
    return any(part in name for part in parts)


def _blank(rows: Tensor) -> Tensor:
    rows = rows.clone()
    rows[:, [place for pair in (TOLD, OUT, BLOCK) for place in pair]] = 0
    return rows


def turned(rows: Sequence[Sequence[int]], word: int | NDArray[np.int64]) -> list[list[int]]:
    """The same texts with that word told."""
    ids = np.broadcast_to(np.asarray(word), len(rows))
    return [[*row[:-2], WORDS[which], row[-1]] for row, which in zip(rows, ids.tolist(), strict=True)]


# What is done with it


@dataclass(frozen=True)
class Texts:
    """Film notes as token ids, each with one of the words at its end."""

    rows: Sequence[Sequence[int]]

    @classmethod
    def of(cls, backbone: Backbone) -> "Texts":
        split = load_splits(load_task("film_notes"), roles=("train",))["train"]
        encoded = backbone.info.encode(list(split.rows), TEXT)
        return cls([[*row[:-1], WORDS[0], row[-1]] for row in encoded])

    def drawn(self, rng: np.random.Generator, n: int, agree: float) -> tuple[list[list[int]], NDArray[np.int64]]:
        """n texts with labels by a coin; the word that is told agrees with a label in so large a share."""
        labels = rng.integers(0, 2, n)
        chosen = [self.rows[i] for i in rng.choice(len(self.rows), n, replace=False)]
        told = np.where(rng.random(n) < agree, labels, 1 - labels)
        return turned(chosen, told), labels


def discovered(
    wiring: Wiring, train: Sequence[Sequence[int]], dev: Sequence[Sequence[int]], labels: NDArray[np.int64]
) -> Neurons:
    """By the product's functions, as a command does; the baseline is of rows with labels that play no part."""
    parts = halves([f"{i:06d}" for i in range(len(dev))])
    coin = torch.arange(len(train)) % 2
    asked = Question(
        Encoded(train, coin), Encoded(dev, torch.from_numpy(labels)), parts, (1,), 2, permutations=100, batch_size=128
    )
    counted = [count(wiring.backbone, wiring.site, wiring.prompt, asked, Accelerator(cpu=True))]
    return combine(counted, 1, asked, {"targets": ["positive"]})


@dataclass
class Found:
    """Discoveries at one strength and number of rows; one entry a repetition.

    Attributes:
        first: whether a planted neuron is ranked before all others.
        named: share of the two whose family-wise p is 0.05 or less.
        auc: chance that a planted neuron is ranked before another one.
        false: share of the neurons with q of 0.05 or less that are not planted.
    """

    first: list[bool] = field(default_factory=list)
    named: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    false: list[float] = field(default_factory=list)

    def add(self, neurons: Neurons, planted: Mask) -> None:
        ours, others = neurons.ranking[planted], neurons.ranking[~planted]
        self.first.append(bool(ours.max() > others.max()))
        self.named.append(float((neurons.family_p[0][planted] <= 0.05).mean()))
        below = [(others < value).mean() + (others == value).mean() / 2 for value in ours]
        self.auc.append(float(np.mean(below)))
        claimed = neurons.q_value[0] <= 0.05
        self.false.append(float((claimed & ~planted).sum() / max(1, claimed.sum())))


@dataclass
class Judged:
    """What is claimed of the planted neurons in one way; one entry a repetition.

    Attributes:
        points: accuracy that truly goes through them.
        share: of the margin's loss, the truth.
        returned: the share found.
        held: whether its interval holds the truth.
        said: `yes`, `no` or `cannot tell`.
    """

    points: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    returned: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def add(self, said: str, points: float, share: float = float("nan"), found: Estimate | None = None) -> None:
        self.said.append(said)
        self.points.append(points)
        self.share.append(share)
        if found is not None and not np.isnan(found.value):
            self.returned.append(found.value)
        if found is not None and not np.isnan(found.low):
            self.held.append(found.low <= share <= found.high)


CLAIMS = {True: "yes", False: "no", None: "cannot tell"}


def judge(wiring: Wiring, neurons: Neurons, texts: Texts, n: int, rng: np.random.Generator) -> Iterator[tuple]:
    """(way, what was claimed, the truth …) of the top neurons: the word turned in every text, and suppression."""
    rows, labels = texts.drawn(rng, n, 1.0)
    clean, changed = (Encoded(turned(rows, which), torch.from_numpy(labels)) for which in (labels, 1 - labels))
    goal, start = wiring.scores(clean)[None], wiring.scores(changed)[None]
    seed, single, rate = int(rng.integers(2**31)), Clusters.single(n), 100 * 2.5 / neurons.shape[1]
    both, truths = {}, {}
    for way, read, donors, from_, to in (
        ("restore", changed, clean, start, goal),
        ("corrupt", clean, changed, goal, start),
    ):
        sets, scores = read_in_stages(
            [sets_at(neurons.ranking, rate, "layer", least_sets(2), seed)],
            partial(_read, wiring, read, Intervention("resample", "prompt"), donors),
            partial(_margin, labels),
            upward=way == "restore",
        )
        patched = Patched(rate, sets[0].size, scores[1], scores[2:], sets[0].planned)
        both[way] = restoration_effects(way, from_, to, [patched], labels, single, seed)
        with wiring.written(-1.0):
            swapped = wiring.scores(read)
        moved, gap = margin(swapped, labels) - margin(from_[0], labels), margin(to, labels)[0] - margin(from_, labels)
        points = _accuracy(swapped, labels) - _accuracy(from_[0], labels)
        truths[way] = abs(points), float(moved.sum() / gap.sum())
    pair = compare(goal.argmax(-1) == labels, start.argmax(-1) == labels, single, 2)
    found = judged(both, rate)
    said = {claim.name: claim.holds for claim in verdict(found, (), pair, MARGIN)}
    for way, word in (("restore", "sufficient"), ("corrupt", "necessary")):
        yield way, CLAIMS[said.get(word, False)], *truths[way], found[way][0].margin_returned
    yield "suppress", *_suppressed(wiring, neurons, clean, labels, rate, seed)


def _suppressed(
    wiring: Wiring, neurons: Neurons, read: Encoded, labels: NDArray[np.int64], rate: float, seed: int
) -> tuple[str, float]:
    means = torch.from_numpy(neurons.baseline[0].mean(axis=1))
    sets, predicted = read_in_stages(
        [sets_at(neurons.ranking, rate, "layer", least_sets(1), seed)],
        lambda masks: _read(wiring, read, Intervention("mean", "prompt", means), None, masks).argmax(-1),
        lambda answers: float((answers == labels).mean()),
    )
    names = tuple(map(str, range(len(labels))))
    split = Split("made", "test", tuple((name,) for name in names), labels, names, {}, "x", ("a", "b"))
    said = needed(
        False, SetPredictions("t", True, split, ("p",), predicted.swapaxes(0, 1), sets).effects(seed), MARGIN
    )
    with wiring.written(0.0):
        points = _accuracy(wiring.scores(read), labels) - float((predicted[0] == labels).mean())
    return CLAIMS[said.holds], abs(points)


def _read(
    wiring: Wiring, read: Encoded, how: Intervention, donors: Encoded | None, masks: Mask
) -> NDArray[np.float32]:
    """Label scores `[M, 1, n, 2]`."""
    of = (wiring.backbone, wiring.site, wiring.prompt, read, wiring.words, masks, how, range(len(read)))
    return suppressed_scores(*of, 256, donors).numpy()[:, None]


def _margin(labels: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
    return float(margin(scores, labels).mean())


def _accuracy(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float((scores.argmax(-1) == labels).mean())


# The tables

AGREE = (0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9)
DEV_ROWS = (100, 200, 400, 800)
THROUGH = (0.0, 0.03, 0.1, 0.3, 1.0)
PAIRS = (60, 150)
TRAIN_ROWS, STRENGTH = 300, 4.0


def wired(name: str, through: float) -> tuple[Wiring, Texts]:
    """A freshly loaded model with neurons planted."""
    backbone = load(describe(name))
    texts = Texts.of(backbone)
    told, _ = texts.drawn(np.random.default_rng(7), 64, 1.0)
    return Wiring(backbone, told, STRENGTH, through), texts


def discoveries(repetitions: int) -> Iterator[tuple[str, int, float, list[float]]]:
    """How strong must a skill neuron be to be found? Model, rows, agreement; found first, named, AUC, false."""
    for name in MODELS:
        wiring, texts = wired(name, 0.5)
        for n in DEV_ROWS:
            for agree in AGREE:
                found = Found()
                for repetition in range(repetitions):
                    rng = np.random.default_rng([n, round(100 * agree), repetition])
                    train, dev = texts.drawn(rng, TRAIN_ROWS, 0.5)[0], texts.drawn(rng, n, agree)
                    found.add(discovered(wiring, train, *dev), wiring.planted)
                parts = (found.first, found.named, found.auc, found.false)
                yield name, n, agree, [float(np.mean(part)) for part in parts]


def found_table(rows: Iterable[tuple[str, int, float, list[float]]]) -> Iterator[str]:
    """In Markdown."""
    yield "| model | rows of dev | word and label agree | found first | named (family-wise) | AUC | false |"
    yield "|---|---|---|---|---|---|---|"
    for name, n, agree, (first, named, auc, false) in rows:
        yield f"| {name} | {n} | {agree:.0%} | {first:.0%} | {named:.0%} | {auc:.3f} | {false:.1%} |"


def power_curve(rows: Sequence[tuple[str, int, float, list[float]]]) -> Figure:
    """Share of planted neurons that are named, against the share of rows that they tell."""
    figure, axes = canvas(8.4, 3.8, panels=len(MODELS))
    for one, name in zip(axes, MODELS, strict=True):
        for colour, n in zip(COLOURS, DEV_ROWS, strict=False):
            points = [(agree, found[1]) for model, size, agree, found in rows if (model, size) == (name, n)]
            one.plot(*zip(*points, strict=True), color=colour, marker="o", label=f"{n} rows of dev")
        dress(one, name, "planted neurons named, p ≤ 0.05", "rows in which neuron and label agree")
        percent(one)
        in_percent(one.xaxis)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def causes(repetitions: int) -> Iterator[str]:
    """Is what they do measured right, and what is said of it?"""
    yield (
        "| model | pairs | way | share of the loss through them | found | its interval holds the truth | points of "
        "accuracy | said: yes / cannot tell / no |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for name in MODELS:
        for through in THROUGH:
            wiring, texts = wired(name, through)
            train, dev = (
                texts.drawn(np.random.default_rng(8), TRAIN_ROWS, 0.5)[0],
                texts.drawn(np.random.default_rng(9), 400, 0.9),
            )
            neurons = discovered(wiring, train, *dev)
            assert neurons.ranking[wiring.planted].min() > neurons.ranking[~wiring.planted].max(), "found first"
            for n in PAIRS:
                ways: dict[str, Judged] = {}
                for repetition in range(repetitions):
                    rng = np.random.default_rng([n, round(100 * through), repetition])
                    for way, *of in judge(wiring, neurons, texts, n, rng):
                        ways.setdefault(way, Judged()).add(*of)
                for way, one in ways.items():
                    yield f"| {name} | {n} | {way} | {_told(one)} |"


def _told(one: Judged) -> str:
    counts = [one.said.count(word) for word in ("yes", "cannot tell", "no")]
    shares = "– | – | –"
    if one.returned:
        held = f"{sum(one.held)} of {len(one.held)}" if one.held else "withheld"
        shares = f"{np.mean(one.share):.1%} | {np.mean(one.returned):.1%} | {held}"
    return f"{shares} | {100 * np.mean(one.points):.1f} | {' / '.join(map(str, counts))}"


def main() -> None:
    """Simulate and print, or write a page and its picture."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = list(discoveries(2 * repetitions))
    blocks = {"found": "\n".join(found_table(rows)), "caused": "\n".join(causes(repetitions))}
    print("\n\n".join(blocks.values()))
    if len(sys.argv) > 2:
        page = Path(sys.argv[2])
        text = page.read_text(encoding="utf-8")
        for mark, block in blocks.items():
            before, start, rest = text.partition(f"<!-- {mark} -->")
            _, end, after = rest.partition(f"<!-- end of {mark} -->")
            text = f"{before}{start}\n\n{block}\n\n{end}{after}"
        page.write_text(text, encoding="utf-8")
        write(power_curve(rows), page.parent / "pictures" / "planted.png")


if __name__ == "__main__":
    main()
