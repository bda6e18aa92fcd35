"""Run the whole chain on a tiny random model of every type that transformers has, beside an independent one.

    python docs/architectures.py docs/architectures.md [type ...]

What the product computes with prompts and taps is computed a second time from token ids: one row at a time,
without padding, through the model's own code, with the FFNs found by the shapes of their weights. A row of
the table says what works; what is refused has the error's text; `WRONG` is a number that differs, `FAILS` an
exception that is no InputError. Neither may be in the table.
"""

import argparse
import gc
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import tiny_architectures
import tiny_models
from skillneurons.backbones import loading
from skillneurons.backbones.base import BackboneInfo
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.loading import AUTO_CLASSES, describe
from skillneurons.backbones.tokenization import Family
from skillneurons.discover.counting import Question, count
from skillneurons.errors import InputError
from skillneurons.neurons.intervention import Intervention, other_rows, suppressed_scores
from skillneurons.neurons.sites import Site, SiteName, site_of
from skillneurons.tune.loop import TuneSettings, tune

P, MAX_LENGTH = 4, 24
WORKS, NONE = "works", ""
KEYS = [11, 5, 42, 7, 1, 2**60, 9, 3]
# F where it is not that of `tiny_architectures`: four times the hidden size, or rounded
WIDTHS = {
    "bloom": 128, "flaubert": 128, "gpt_neo": 128, "gpt_neox_japanese": 128, "mpt": 128, "openai-gpt": 128,
    "xlm": 128, "moshi": 24, "lfm2": 256, "recurrent_gemma": 24, "xlstm": 128,
}  # fmt: skip


@dataclass
class Row:
    """A line of the table."""

    type: str
    family: Family
    tuning: str = NONE
    neurons: str = NONE
    suppression: str = NONE

    @property
    def bad(self) -> bool:
        return any(cell.startswith(("WRONG", "FAILS")) for cell in (self.tuning, self.neurons, self.suppression))


def examine(family: Family, name: str, folder: Path) -> Row:
    """What works with a tiny model of a type."""
    row = Row(name, family)
    try:
        made = tiny_architectures.write_config(family, name, folder)
    except Exception as error:
        row.tuning = f"not built: {type(error).__name__}: {error}"
        return row
    found: dict[str, Any] = {}

    def describing() -> None:
        try:
            describe(str(folder))
        except InputError as error:  # what stands for the weights is looked at last
            if "the weight file" not in str(error):
                raise
        tiny_architectures.write_model(family, made, folder)
        info = describe(str(folder))
        if info.family != family:
            raise NotShownError(f"used as {info.family}")
        found["hand"] = ByHand(info, WIDTHS.get(name))

    row.tuning = verdict(describing)
    by_hand = found.get("hand")
    if row.tuning == WORKS:
        row.tuning = verdict(lambda: check_scores(by_hand), lambda: check_tuning(by_hand))
    if row.tuning == WORKS:
        row.neurons = verdict(lambda: check_taps(by_hand), lambda: check_counts(by_hand))
    if row.neurons == WORKS:
        row.suppression = verdict(lambda: check_zeroed(by_hand), lambda: check_restored(by_hand))
    return row


def verdict(*checks: Callable[[], None]) -> str:
    try:
        for check in checks:
            check()
    except (InputError, NotShownError) as error:
        return str(error)
    except AssertionError as error:
        return f"WRONG: {first_line(error)}"
    except Exception as error:
        return f"FAILS: {type(error).__name__}: {first_line(error)}"
    return WORKS


def first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


class NotShownError(Exception):
    """The tiny model itself cannot show whether it works."""


class ByHand:
    """A backbone's numbers from token ids, row by row, with its own hooks on modules found by weight shapes."""

    def __init__(self, info: BackboneInfo, width: int | None, dtype: torch.dtype = torch.float32) -> None:
        self.info, self.backbone = info, loading.load(info, dtype=dtype)
        # some weights are never saved (sinusoids), so these come from the files as well
        self.model: Any = AUTO_CLASSES[info.family].from_pretrained(info.folder, dtype=dtype)
        self.model.eval().requires_grad_(False)
        self.rows = self.info.encode(tiny_models.TEXTS, MAX_LENGTH)
        self.words = self.info.label_words(tiny_models.WORDS)
        self.labels = torch.arange(len(self.rows)) % 2
        self.encoded = Encoded(self.rows, self.labels)
        self.batch = self.info.collate(self.rows)
        self.masked = self.info.family == "masked_lm"
        # any tokens: where a prompt is given, its vectors take their place
        self.ids = [40, 17, 33, 21][:P]
        if self.masked:
            self.ids[0] = self.info.tokenizer.mask_token_id
        self.tables = self._tables() if self.masked else []
        self.widths = (width,) if width else (tiny_architectures.FFN, tiny_architectures.DECODER_FFN)

    @property
    def prompt(self) -> Tensor:
        """A random prompt, as long as embeddings are; the mask stands first where there is one."""
        own = self.backbone.embed(torch.tensor(self.ids))
        drawn = torch.randn(own.shape, generator=torch.Generator().manual_seed(1)) * own.std()
        drawn[: int(self.masked)] = own[: int(self.masked)]
        return drawn

    def scores(self, prompt: Tensor | None = None, rows: Sequence[int] | None = None) -> Tensor:
        """Scores of the label words `[n, C]`, of the prompt's tokens or of a prompt in their place."""
        chosen = range(len(self.rows)) if rows is None else rows
        return torch.stack([self._score(self.rows[i], prompt) for i in chosen])

    def _score(self, text: Sequence[int], prompt: Tensor | None) -> Tensor:
        suffix = self.info.family == "decoder_only"
        ids = torch.tensor([[*text, *self.ids] if suffix else [*self.ids, *text]])
        where = slice(-P, None) if suffix else slice(0, P)
        given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.info.family == "encoder_decoder":
            given["decoder_input_ids"] = torch.tensor([self._start()])
        with ExitStack() as hooks:
            for table in self.tables:
                hooks.enter_context(table.register_forward_hook(lambda _, __, out: without(out, where)))
            if prompt is not None:
                twin = self.model.get_submodule(name_of(self.backbone.model, self.backbone._embedding))
                hooks.enter_context(
                    twin.register_forward_hook(lambda _, __, out: instead(out, where, prompt, ids.shape[1]))
                )
            logits = self.model(**given, use_cache=False) if not self.masked else self.model(**given)
        return logits.logits[0, 0 if self.masked else -1][list(self.words.ids)]

    def _start(self) -> list[int]:
        places = (self.model.config, self.model.generation_config, self.model.config.get_text_config(decoder=True))
        starts = [getattr(place, "decoder_start_token_id", None) for place in places]
        start = next((s for s in starts if s is not None), self.model.config.pad_token_id)
        return [start, *self.info.frame.begin]

    def _tables(self) -> list[nn.Module]:
        """The tables that are read at consecutive places: of positions."""
        found, ids, length = [], torch.tensor([self.rows[0]]), len(self.rows[0])

        def look(module: nn.Module, args: tuple[Tensor, ...], _: Tensor) -> None:
            places = args[0].flatten() if args and isinstance(args[0], Tensor) else torch.zeros(1)
            if len(places) >= length and bool((places[:length].diff() == 1).all()):  # the model may add padding
                found.append(module)

        with ExitStack() as hooks, torch.no_grad():
            for module in self.model.modules():
                if isinstance(module, nn.Embedding):
                    hooks.enter_context(module.register_forward_hook(look))
            self.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        return found

    def projections(self) -> list[str]:
        """The modules whose weight leads from F to another width, in the order of the model."""
        found = []
        for name, module in self.model.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding):
                into, out = weight.shape if type(module).__name__ == "Conv1D" else weight.shape[::-1]
                if into in self.widths and out not in (*self.widths, *(2 * w for w in self.widths)):
                    found.append(name)
        return found

    @contextmanager
    def at(self, see: Callable[[int, str, int, Tensor], Tensor | None]) -> Iterator[None]:
        """Inside, `see(number, name, call, input [N, F])` at every projection of one row's pass."""
        calls: list[str] = []

        def look(name: str, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            calls.append(name)
            new = see(len(calls) - 1, name, calls.count(name) - 1, args[0].reshape(-1, args[0].shape[-1]))
            return None if new is None else (new.view_as(args[0]), *args[1:])

        with ExitStack() as hooks:
            hooks.enter_context(self.model.register_forward_pre_hook(lambda *_: calls.clear()))
            for name in self.projections():
                module = self.model.get_submodule(name)
                hooks.enter_context(module.register_forward_pre_hook(lambda _, args, name=name: look(name, args)))
            yield

    def stack_of(self, name: str) -> str:
        if self.info.family == "encoder_decoder":
            return "decoder" if any(part.endswith("decoder") for part in name.split(".")) else "encoder"
        return "encoder" if self.masked else "decoder"

    @property
    def sites(self) -> list[Site]:
        names: tuple[SiteName, ...] = ("prompt", "decoder") if self.info.family == "encoder_decoder" else ("prompt",)
        return [site_of(self.info, name, P) for name in names]

    def where(self, site: Site) -> slice:
        """The positions of a site in the sequence of its stack."""
        if site.at_step:
            return slice(-1, None)
        return slice(-P, None) if self.info.family == "decoder_only" else slice(0, P)

    @torch.no_grad()
    def activations(self, prompt: Tensor, site: Site) -> Tensor:
        """At a site, `[n, L, W, F]`."""
        rows = []
        for number in range(len(self.rows)):
            layers: list[Tensor] = []

            def keep(_: int, name: str, __: int, a: Tensor, layers: list[Tensor] = layers) -> None:
                if self.stack_of(name) == site.stack:
                    layers.append(a[self.where(site)])

            with self.at(keep):
                self.scores(prompt, [number])
            rows.append(torch.stack(layers))
        return torch.stack(rows)


def name_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def without(out: Tensor, where: slice) -> Tensor:
    """A table's rows with zeros at the prompt; `[N, H]` or `[1, N, H]`."""
    out = out.clone()
    out[..., where, :] = 0
    return out


def instead(out: Tensor, where: slice, prompt: Tensor, length: int) -> Tensor:
    """Embeddings with the prompt's vectors in place of its tokens'; a decoder's own tokens are left alone."""
    rows = out.reshape(-1, out.shape[-1])  # `[N, 1, H]` in XLNet and FSMT; Longformer pads
    if len(rows) < length:
        return out
    return torch.cat((prompt, rows[P:]) if where.start == 0 else (rows[:-P], prompt)).view_as(out)


def same(got: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    assert got.shape == expected.shape, f"{what}: shape {tuple(got.shape)}, by hand {tuple(expected.shape)}"
    assert bool(torch.isfinite(expected).all()), f"{what}: not finite by hand"
    off = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    assert off < tolerance, f"{what}: off by {off:.1e} of the largest"


def check_scores(by_hand: ByHand) -> None:
    """Label scores of tokens and of a prompt, and the gradient there, are those of the model itself."""
    backbone, batch, words = by_hand.backbone, by_hand.batch, by_hand.words
    with torch.no_grad():
        expected = by_hand.scores()
        if not torch.allclose(expected, by_hand.scores()):
            raise NotShownError("not shown: the model's own scores are random")
        if expected.std(0).min() == 0:
            raise NotShownError("not shown: the model's own scores are the same for all texts")
        same(
            backbone.label_scores(backbone.embed(torch.tensor(by_hand.ids)), batch, words),
            expected,
            "scores of tokens",
        )
        same(
            backbone.label_scores(by_hand.prompt, batch, words), by_hand.scores(by_hand.prompt), "scores of a prompt"
        )
    try:
        check_gradients(by_hand)
    except AssertionError:  # it may be the rounding of single precision (MobileBERT)
        check_gradients(ByHand(by_hand.info, None, torch.float64))


def check_gradients(by_hand: ByHand) -> None:
    """The gradient at the prompt of label scores in random weights."""
    weights = torch.randn(len(by_hand.rows), len(by_hand.words.ids), generator=torch.Generator().manual_seed(2))
    ours, theirs = (by_hand.prompt.clone().requires_grad_() for _ in range(2))
    (by_hand.backbone.label_scores(ours, by_hand.batch, by_hand.words) * weights).sum().backward()
    (by_hand.scores(theirs) * weights).sum().backward()
    assert ours.grad is not None, "no gradient"
    free = slice(int(by_hand.masked), None)
    assert bool(theirs.grad[free].any()), "the prompt changes nothing"
    same(ours.grad[free], theirs.grad[free], "gradient at the prompt", 1e-3)


class Nowhere:
    """A checkpoint that keeps nothing."""

    def load(self) -> None: ...

    def save(self, state: dict[str, Any]) -> None: ...


def check_tuning(by_hand: ByHand) -> None:
    """A few steps of tuning: its loss before the first is that by hand, and after them another."""
    settings = TuneSettings(learning_rate=0.05, batch_size=4, max_steps=4, eval_every=2)
    args = (by_hand.encoded, by_hand.encoded, by_hand.prompt, settings, 0, Accelerator(cpu=True), Nowhere())
    tuned = tune(by_hand.backbone, by_hand.words, *args)
    with torch.no_grad():
        loss = fn.cross_entropy(by_hand.scores(by_hand.prompt), by_hand.labels)
        best = tuned.history.best
        after = fn.cross_entropy(by_hand.scores(tuned.prompt), by_hand.labels)
    same(torch.tensor(tuned.history.dev[0].loss), loss, "loss before tuning")
    same(torch.tensor(best.loss), after, "loss of the tuned prompt")
    assert len({point.loss for point in tuned.history.dev}) > 1, "tuning changes nothing"


def check_taps(by_hand: ByHand) -> None:
    """The taps are the projections that the shapes of the weights tell of, in the order they run."""
    ran: list[tuple[str, int, int]] = []
    with torch.no_grad(), by_hand.at(lambda _, name, call, a: ran.append((name, call, a.shape[-1]))):
        by_hand.scores(rows=[0])
    taps = [(tap.module, tap.call, tap.width) for tap in by_hand.backbone.taps]
    assert taps == ran, f"taps {[t[0] for t in taps]}, by shape {[r[0] for r in ran]}"
    stacks = [tap.stack for tap in by_hand.backbone.taps]
    assert stacks == [by_hand.stack_of(name) for name, _, _ in ran], f"stacks {stacks}"


def check_counts(by_hand: ByHand) -> None:
    """Baseline and hits of every neuron are those counted from stored activations."""
    rows, halves = by_hand.encoded, (range(0, len(by_hand.rows), 2), range(1, len(by_hand.rows), 2))
    asked = Question(rows, rows, halves, (1,), 2, permutations=5, batch_size=3)
    for site in by_hand.sites:
        counted = count(by_hand.backbone, site, by_hand.prompt, asked, Accelerator(cpu=True))
        stored = by_hand.activations(by_hand.prompt, site)
        same(counted.baseline, stored.mean(0), f"baseline at {site.name}")
        distance = (stored - stored.mean(0)).abs().amin(0)
        clear = distance > 1e-4 * stored.abs().max()
        assert clear.float().mean() > 0.05, f"neurons at {site.name} hardly depend on the text"
        hits = ((stored > stored.mean(0)) == by_hand.labels.bool()[:, None, None, None]).sum(0)
        assert bool((counted.hits[0] == hits)[clear].all()), f"hits at {site.name}"


def drawn(by_hand: ByHand, site: Site) -> np.ndarray:
    taps = site.taps(by_hand.backbone)
    return np.random.default_rng(0).random((2, len(taps), taps[0].width)) < 0.3


def suppressed(by_hand: ByHand, site: Site, masks: np.ndarray, how: Intervention) -> Tensor:
    texts, words = by_hand.encoded, by_hand.words
    return suppressed_scores(by_hand.backbone, site, by_hand.prompt, texts, words, masks, how, KEYS, 6)


def check_zeroed(by_hand: ByHand) -> None:
    """Neurons set to zero everywhere are a projection without their columns (the same in layers that share it)."""
    for site in by_hand.sites:
        taps, masks = site.taps(by_hand.backbone), drawn(by_hand, site)
        shared = {tap.module: masks[0, tap.layer] for tap in taps}
        got = suppressed(by_hand, site, np.stack([[shared[tap.module] for tap in taps]]), Intervention("zero"))
        with torch.no_grad(), edited(by_hand.model, shared):
            expected = by_hand.scores(by_hand.prompt)
        assert not torch.allclose(expected, by_hand.scores(by_hand.prompt)), "nothing is changed"
        same(got[0], expected, f"suppression at {site.name}")


@contextmanager
def edited(model: Any, columns: dict[str, np.ndarray]) -> Iterator[None]:
    """Inside, the projections' weights are zero at some of their inputs."""
    kept = {name: model.get_submodule(name).weight.clone() for name in columns}
    for name, chosen in columns.items():
        module = model.get_submodule(name)
        weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
        weight[torch.from_numpy(chosen)] = 0
    yield
    for name, weight in kept.items():
        model.get_submodule(name).weight.copy_(weight)


def check_restored(by_hand: ByHand) -> None:
    """Neurons that take another row's activations at a site give the scores of a model patched by hand."""
    for site in by_hand.sites:
        how = Intervention("resample", "prompt")
        masks, stored = drawn(by_hand, site), by_hand.activations(by_hand.prompt, site)
        got = suppressed(by_hand, site, masks, how)[1]
        chosen, expected = torch.from_numpy(masks[1]), []
        for number, donor in enumerate(other_rows(KEYS, how.seed)):
            expected.append(patched(by_hand, site, number, chosen, stored[donor]))
        same(got, torch.stack(expected), f"restoration at {site.name}")


@torch.no_grad()
def patched(by_hand: ByHand, site: Site, number: int, chosen: Tensor, donor: Tensor) -> Tensor:
    """Scores of a row whose chosen neurons `[L, F]` are a donor's `[L, W, F]` at a site."""
    layers, where = iter(range(len(chosen))), by_hand.where(site)

    def patch(_: int, name: str, __: int, a: Tensor) -> Tensor | None:
        if by_hand.stack_of(name) != site.stack:
            return None
        layer, a = next(layers), a.clone()
        a[where] = torch.where(chosen[layer], donor[layer], a[where])
        return a

    with by_hand.at(patch):
        return by_hand.scores(by_hand.prompt, [number])[0]


HEAD = """# Architectures

What works with which type of model, by `python docs/architectures.py docs/architectures.md`: a tiny random model of
every type that transformers {version} maps to a masked LM, a sequence-to-sequence or a causal language model, run
through tuning, discovery, suppression and restoration. Every number is compared with one computed another way: label
scores and gradients from token ids, row by row, through the model itself; taps by the shapes of the weights; counts
from stored activations; suppression by zeros in the weights. *works* means that they agree.

{counts}

| type | family | tuning | neurons | suppression |
|---|---|---|---|---|
"""


def table(rows: Sequence[Row], version: str) -> str:
    works = {what: sum(getattr(row, what) == WORKS for row in rows) for what in ("tuning", "neurons", "suppression")}
    counts = f"Of {len(rows)} rows, what works: " + ", ".join(f"{what} in {n}" for what, n in works.items()) + "."
    lines = [
        f"| {row.type} | {row.family} | {shown(row.tuning)} | {shown(row.neurons)} | {shown(row.suppression)} |\n"
        for row in rows
    ]
    return HEAD.format(version=version, counts=counts) + "".join(lines)


def shown(cell: str) -> str:
    """A refusal without the model's name and what to do."""
    return " ".join(cell.replace("|", "/").split()).split(". ")[0][:220]


def main() -> None:
    """Write the table."""
    import transformers

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("types", nargs="*", help="only these")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    rows = []
    for family, name in tiny_architectures.types():
        if args.types and name not in args.types:
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            rows.append(examine(family, name, Path(folder) / "tiny"))
        gc.collect()
        print(f"{time.monotonic() - start:5.1f}s", rows[-1], flush=True)
    args.file.write_text(table(rows, transformers.__version__))
    raise SystemExit(
        f"{sum(row.bad for row in rows)} of {len(rows)} rows are wrong or failed" if any(r.bad for r in rows) else 0
    )


if __name__ == "__main__":
    main()
