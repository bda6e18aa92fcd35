"""Discovery beside a brute force that stores everything, on planted neurons, and on labels that mean nothing."""

import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy import stats
from statsmodels.stats.multitest import multipletests
from test_taps import BY_HAND

import tiny_models
from conftest import environment
from services import LOOPBACK, free_port
from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.loading import describe
from skillneurons.data.splits import halves
from skillneurons.discover.cards import make_cards, page
from skillneurons.discover.counting import Question, count
from skillneurons.discover.permutation_null import permuted_labels
from skillneurons.discover.predictivity import combine
from skillneurons.errors import InputError
from skillneurons.neurons.activation_stream import ActivationReader, moments
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.sites import site_of
from skillneurons.stats.neuron_tests import cauchy_combination

FAMILIES = ("roberta", "albert", "t5", "t5_gated", "bart", "gpt2", "llama")
P, SEEDS = 4, 2
CARD = {"targets": ["positive"]}


def one_process() -> Accelerator:
    return Accelerator(cpu=True)


def rows_of(info: Any, n: int, classes: int = 2) -> Encoded:
    rng = np.random.default_rng(0)
    words = " ".join(tiny_models.SENTENCES).split()
    texts = [(" ".join(rng.choice(words, rng.integers(2, 12))),) for _ in range(n)]
    return Encoded(info.encode(texts, 24), torch.from_numpy(rng.integers(0, classes, n)))


def question(
    train: Encoded, dev: Encoded, protocol: str = "split", batch_size: int = 7, classes: int = 2
) -> Question:
    everything = range(len(dev))
    hashes = [f"{i * 7919 % 10_007:05d}" for i in everything]
    parts = halves(hashes) if protocol == "split" else (everything, everything)
    targets = (1,) if classes == 2 else tuple(range(classes))
    return Question(train, dev, parts, targets, classes, protocol, 100, 0, batch_size)


def prompts_for(info: Any) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(P, info.embedding_width, generator=generator) for _ in range(SEEDS)]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    folder = tmp_path_factory.mktemp("backbones")
    tiny = {name: loading.load(describe(str(tiny_models.build(name, folder / name)))) for name in FAMILIES}
    return {**tiny, **{name: loading.load(describe(name)) for name in ("pocket-roberta", "pocket-t5")}}


def stored(backbone: Backbone, name: str, site: str, prompt: torch.Tensor, encoded: Encoded) -> np.ndarray:
    """Every activation `[n, L, W, F]`: one text at a time, from the FFN's input projections and its function."""
    found = site_of(backbone.info, site, P)
    modules, function = BY_HAND[name.removeprefix("pocket-")]
    layers = len(found.taps(backbone))
    per_call = 1 if name == "albert" else layers
    last = 1 if found.stack == "encoder" else 2
    rows = []
    for ids in encoded.rows:
        seen: dict[str, list[torch.Tensor]] = {}
        names = [m.format(layer=i, stack=found.stack, last=last) for i in range(per_call) for m in modules]
        hooks = [
            backbone.model.get_submodule(m).register_forward_hook(
                lambda _, __, out, m=m, seen=seen: seen.setdefault(m, []).append(out.detach())
            )
            for m in dict.fromkeys(names)
        ]
        batch = backbone.info.collate([ids])
        inputs = backbone.place(prompt, batch)
        with torch.no_grad(), backbone._placed(inputs):
            backbone.model(**backbone._arguments(inputs))
        for hook in hooks:
            hook.remove()
        by_layer = []
        for layer in range(layers):
            parts = [
                seen[m.format(layer=layer, stack=found.stack, last=last)][layer if per_call == 1 else 0]
                for m in modules
            ]
            hidden = function(*parts).reshape(-1, parts[0].shape[-1])
            if found.at_step:
                by_layer.append(hidden[-1:])
            elif backbone.info.family == "decoder_only":
                by_layer.append(hidden[-P:][found.first : found.last])
            else:
                by_layer.append(hidden[:P][found.first : found.last])
        rows.append(torch.stack(by_layer))
    return torch.stack(rows).numpy()


def brute(acts: Sequence[np.ndarray], dev_acts: Sequence[np.ndarray], asked: Question) -> dict[str, np.ndarray]:
    """Everything of method.md §3 and §5 from stored activations `[n, L, W, F]`, and scipy's distributions."""
    first, second = (np.array(part) for part in asked.halves)
    labels = asked.dev.labels.numpy() == 1
    permuted = permuted_labels(asked.dev.labels[torch.as_tensor(second)], asked.permutations, asked.seed).numpy() == 1
    train = asked.train.labels.numpy() == 1
    ones, n = int(labels[second].sum()), len(second)
    seeds: list[dict[str, np.ndarray]] = []
    for a, d in zip(acts, dev_acts, strict=True):
        baseline = a.astype(np.float64).mean(0)
        bits = d > baseline.astype(np.float32)
        hits = bits == labels[:, None, None, None]
        half = hits[first].mean(0)
        w = np.maximum(half, 1 - half).round(9).argmax(1)

        def chosen(array: np.ndarray, w: np.ndarray = w) -> np.ndarray:
            layers, units = np.indices(w.shape)
            return array[..., layers, w, units]

        sign = np.where(chosen(half) >= 0.5 - 1e-9, 1, -1)
        b = chosen(bits[second])
        accuracy = (b == labels[second, None, None]).mean(0)
        x, m = b[labels[second]].sum(0), b.sum(0)
        classes = [chosen(a[train == y].astype(np.float64)) for y in (False, True)]
        gap = classes[1].mean(0) - classes[0].mean(0)
        spread = np.sqrt(classes[0].var(0, ddof=1) + classes[1].var(0, ddof=1))
        agree = np.stack([(b == y[:, None, None]).mean(0) for y in permuted])
        seeds.append(
            {
                "baseline": baseline,
                "accuracy": hits.mean(0),
                "position": w,
                "sign": sign,
                "selected": np.where(sign > 0, chosen(half), 1 - chosen(half)),
                "seed_predictivity": np.where(sign > 0, accuracy, 1 - accuracy),
                "p_value": np.where(
                    sign > 0, stats.hypergeom.sf(x - 1, n, ones, m), stats.hypergeom.cdf(x, n, ones, m)
                ),
                "auc": np.where(spread > 0, stats.norm.cdf(gap / np.where(spread > 0, spread, 1)), 0.5),
                "null": np.where(sign > 0, agree, 1 - agree),
            }
        )
    out = {name: np.stack([seed[name] for seed in seeds]) for name in seeds[0]}
    return {**out, "null": out["null"].mean(0)}


def readable(dev_acts: Sequence[np.ndarray], baseline: np.ndarray, relu: bool) -> np.ndarray:
    """Neurons `[L, F]` whose every comparison is beyond the rounding of a forward pass, or of a ReLU's zeros.

    A GELU far below zero is a product of rounding errors: its last bits change with the batch.
    """
    clear = [
        ((np.abs(d - b) > 1e-5 + 1e-5 * np.abs(b)) | (relu & (d == 0) & (b == 0))).all(axis=(0, 2))
        for d, b in zip(dev_acts, baseline, strict=True)
    ]
    return np.logical_and.reduce(clear)


def compare(got: Neurons, want: dict[str, np.ndarray], clear: np.ndarray) -> None:
    """Every array of a discovery beside the brute force's, at the neurons `[L, F]` that are clear."""
    assert clear.mean() > 0.8
    scale = max(1, np.abs(want["baseline"]).max())  # a forward pass rounds at the size of its largest values
    assert got.baseline == pytest.approx(want["baseline"], rel=1e-5, abs=1e-6 * scale)
    assert got.accuracy[0].transpose(0, 2, 1, 3)[..., clear] == pytest.approx(
        want["accuracy"].transpose(0, 2, 1, 3)[..., clear], abs=1e-7
    )
    assert got.seed_predictivity[0][:, clear] == pytest.approx(want["seed_predictivity"][:, clear], abs=1e-7)
    assert (got.position[0][:, clear] == want["position"][:, clear]).all()
    assert (got.sign[0][:, clear] == want["sign"][:, clear]).all()
    assert got.selected[0][:, clear] == pytest.approx(want["selected"][:, clear], abs=1e-7)
    assert got.ranking[clear] == pytest.approx(want["selected"].mean(0)[clear], abs=1e-6)
    assert got.p_value[0][:, clear] == pytest.approx(want["p_value"][:, clear], rel=1e-6)
    assert got.auc[0][:, clear] == pytest.approx(want["auc"][:, clear], abs=1e-3)
    assert got.predictivity[0][clear] == pytest.approx(want["seed_predictivity"].mean(0)[clear], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "site"),
    [
        *((name, site) for name in (*FAMILIES, "pocket-roberta") for site in ("prompt", "label")),
        *((name, "prompt-body") for name in ("roberta", "t5", "gpt2", "pocket-roberta", "pocket-t5")),
        *((name, "decoder") for name in ("t5", "bart", "pocket-t5")),
    ],
)
def test_every_array_equals_brute_force(backbones, name, site):
    backbone = backbones[name]
    train, dev = rows_of(backbone.info, 40), rows_of(backbone.info, 46)
    asked, prompts = question(train, dev), prompts_for(backbone.info)
    found = site_of(backbone.info, site, P)
    counts = [count(backbone, found, prompt, asked, one_process()) for prompt in prompts]
    got = combine(counts, len(counts), asked, CARD)
    acts = [stored(backbone, name, site, prompt, train) for prompt in prompts]
    dev_acts = [stored(backbone, name, site, prompt, dev) for prompt in prompts]
    want = brute(acts, dev_acts, asked)
    clear = readable(dev_acts, want["baseline"], relu=name.endswith("t5"))
    compare(got, want, clear)
    if clear.all():
        null = want["null"]
        assert got.card["chance"]["best_high"] == pytest.approx(
            np.quantile(null.reshape(100, -1).max(1), 0.975), abs=1e-6
        )
        assert got.card["chance"]["low"] == pytest.approx(np.quantile(null, 0.025), abs=1e-6)


@pytest.mark.parametrize("name", ["roberta", "t5", "gpt2"])
def test_protocol_paper_takes_the_maximum_in_every_permutation(backbones, name):
    backbone = backbones[name]
    train, dev = rows_of(backbone.info, 30), rows_of(backbone.info, 120)
    asked, prompts = question(train, dev, "paper", batch_size=16), prompts_for(backbone.info)
    site = site_of(backbone.info, "prompt", P)
    got = combine(
        [count(backbone, site, prompt, asked, one_process()) for prompt in prompts], len(prompts), asked, CARD
    )
    labels, permuted = dev.labels.numpy() == 1, permuted_labels(dev.labels, 100, 0).numpy() == 1
    score, null = [], []
    for prompt in prompts:
        a, d = (stored(backbone, name, "prompt", prompt, part) for part in (train, dev))
        bits = d > a.astype(np.float64).mean(0).astype(np.float32)
        accuracy = (bits == labels[:, None, None, None]).mean(0)
        score.append(np.maximum(accuracy, 1 - accuracy).max(1))
        each = np.stack([(bits == y[:, None, None, None]).mean(0) for y in permuted])
        null.append(np.maximum(each, 1 - each).max(2))
    assert got.predictivity[0] == pytest.approx(np.mean(score, axis=0), abs=1e-6)
    assert got.selected[0] == pytest.approx(np.stack(score), abs=1e-6), "one split chooses and scores"
    reached = (np.stack(null) >= np.stack(score)[:, None] - 1e-9).sum(1)
    assert got.p_value[0] == pytest.approx((1 + reached) / 101)
    assert got.card["chance"]["best_high"] == pytest.approx(
        np.quantile(np.mean(null, axis=0).reshape(100, -1).max(1), 0.975), abs=1e-6
    )


def test_more_than_two_labels_are_taken_one_against_the_rest(backbones):
    backbone = backbones["roberta"]
    train, dev = rows_of(backbone.info, 60, 3), rows_of(backbone.info, 60, 3)
    asked, prompt = question(train, dev, classes=3), prompts_for(backbone.info)[0]
    site = site_of(backbone.info, "prompt", P)
    got = combine([count(backbone, site, prompt, asked, one_process())], 1, asked, {"targets": ["a", "b", "c"]})
    assert got.predictivity.shape == (3, 3, 48)
    for k in range(3):
        labels = [(part.labels == k).long() for part in (train, dev)]
        binary = Question(
            Encoded(train.rows, labels[0]), Encoded(dev.rows, labels[1]), asked.halves, (1,), 2, "split", 100, 0, 7
        )
        alone = combine([count(backbone, site, prompt, binary, one_process())], 1, binary, CARD)
        assert (alone.accuracy[0] == got.accuracy[k]).all()
        assert (alone.p_value[0] == got.p_value[k]).all()
        assert alone.auc[0] == pytest.approx(got.auc[k], abs=1e-5)


def test_moments_are_those_of_each_class(backbones):
    backbone, prompt = backbones["t5"], prompts_for(backbones["t5"].info)[0]
    train = rows_of(backbone.info, 50, 3)
    site = site_of(backbone.info, "prompt", P)
    acts = stored(backbone, "t5", "prompt", prompt, train).astype(np.float64)
    for batch_size in (1, 8, 64):
        got = moments(ActivationReader(backbone, site, prompt, 3, one_process(), batch_size), train, range(50))
        for c in range(3):
            mine = acts[train.labels.numpy() == c]
            assert got.mean[:, c].numpy() == pytest.approx(mine.mean(0), rel=1e-5, abs=1e-6)
            assert got.variance[:, c].numpy() == pytest.approx(mine.var(0, ddof=1), rel=1e-4, abs=1e-6)
        assert got.overall.numpy() == pytest.approx(acts.mean(0), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["roberta", "t5", "gpt2"])
def test_batches_of_any_size_give_the_same_counts(backbones, name):
    backbone = backbones[name]
    train, dev, prompt = rows_of(backbone.info, 64), rows_of(backbone.info, 90), prompts_for(backbone.info)[0]
    site = site_of(backbone.info, "prompt", P)
    counted = [
        count(backbone, site, prompt, question(train, dev, batch_size=size), one_process()) for size in (1, 7, 90)
    ]
    compared = differing = 0
    for other in counted[1:]:
        compared += other.hits.numel() * 90
        differing += int((other.hits - counted[0].hits).abs().sum())
        assert other.baseline.numpy() == pytest.approx(counted[0].baseline.numpy(), rel=1e-5, abs=1e-6)
    assert compared > 100_000
    assert differing <= compared / 100_000


def one_of_two_processes(folder: str, out: str) -> None:
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    backbone = loading.load(describe(folder))
    train, dev = rows_of(backbone.info, 41), rows_of(backbone.info, 50)
    site = site_of(backbone.info, "prompt", P)
    for protocol in ("split", "paper"):
        one = count(backbone, site, prompts_for(backbone.info)[0], question(train, dev, protocol), accelerator)
        if accelerator.is_main_process:
            torch.save({k: getattr(one, k) for k in one.__dataclass_fields__}, f"{out}/{protocol}.pt")


def test_two_processes_count_what_one_does(backbones, nursery, tmp_path):
    backbone = backbones["roberta"]
    group = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [environment(**group, RANK=rank, LOCAL_RANK=rank) for rank in "01"]
    argv = [str(backbone.info.folder), str(tmp_path)]
    both = [nursery.start(argv, tmp_path, env, module="test_counting") for env in ranks]
    for process in both:
        out, _ = process.communicate()
        assert process.returncode == 0, out
    train, dev = rows_of(backbone.info, 41), rows_of(backbone.info, 50)
    site, prompt = site_of(backbone.info, "prompt", P), prompts_for(backbone.info)[0]
    for protocol in ("split", "paper"):
        alone = count(backbone, site, prompt, question(train, dev, protocol), one_process())
        both = torch.load(tmp_path / f"{protocol}.pt", weights_only=True)
        assert both["baseline"].numpy() == pytest.approx(alone.baseline.numpy(), rel=1e-5, abs=1e-6)
        for name in ("hits", "position", "sign", "ones_fired", "fired", "null"):
            assert (both[name] == getattr(alone, name)).all(), name


def test_nothing_behind_the_last_tap_runs(backbones):
    for name, behind in (("t5", "decoder"), ("roberta", "lm_head"), ("gpt2", "transformer.ln_f")):
        backbone, ran = backbones[name], []
        assert backbone.taps  # finding them runs the whole model once
        hook = backbone.model.get_submodule(behind).register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
        train = rows_of(backbone.info, 8)
        reader = ActivationReader(
            backbone, site_of(backbone.info, "prompt", P), prompts_for(backbone.info)[0], 2, one_process()
        )
        moments(reader, train, range(8))
        assert not ran, name
        backbone.label_scores(
            prompts_for(backbone.info)[0], backbone.info.collate(train.rows), backbone.info.label_words(["yes", "no"])
        )
        assert ran, name
        hook.remove()


def planted(folder: Path, width: int, signs: Sequence[int], seed: int = 0) -> Backbone:
    """A one-layer masked LM whose first neurons fire (or fall silent, sign -1) exactly where token 20 is in the text.

    Attention is uniform and carries one coordinate, which only token 20 has, to every position.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models.build("roberta", folder / "source"))
    torch.manual_seed(seed)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_attention_heads=1,
        num_hidden_layers=1,
        intermediate_size=width,
        max_position_embeddings=66,
        type_vocab_size=1,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = transformers.RobertaForMaskedLM(config)
    mark, others = 5, [i for i in range(32) if i != 5]
    with torch.no_grad():
        table = model.roberta.embeddings
        for weight in (
            table.word_embeddings.weight,
            table.position_embeddings.weight,
            table.token_type_embeddings.weight,
        ):
            weight[:, mark] = 0
            # a norm takes off the mean: it must be 0 already for the mark to stay clean
            weight[:, others] -= weight[:, others].mean(1, keepdim=True)
        table.word_embeddings.weight[20] = 0.0
        table.word_embeddings.weight[20, mark] = 30
        attention = model.roberta.encoder.layer[0].attention
        for part in (attention.self.query, attention.self.key, attention.self.value, attention.output.dense):
            part.weight.zero_()
            part.bias.zero_()
        attention.self.value.weight[mark, mark] = 1
        attention.output.dense.weight[mark, mark] = 200
        ffn = model.roberta.encoder.layer[0].intermediate.dense
        for unit, sign in enumerate(signs):
            ffn.weight[unit] = 0
            ffn.weight[unit, mark] = 4.0 * sign
            ffn.bias[unit] = -6.0 * sign
    model.save_pretrained(folder / "planted")
    tokenizer.save_pretrained(folder / "planted")
    return loading.load(describe(str(folder / "planted")))


def marked_rows(n: int, seed: int) -> Encoded:
    """Texts of random tokens; label 1 has token 20 among them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rows = []
    for label in labels:
        ids = rng.integers(30, 200, rng.integers(4, 9))
        if label:
            ids[rng.integers(len(ids))] = 20
        rows.append([0, *ids.tolist(), 2])
    return Encoded(rows, torch.from_numpy(labels))


def unmarked_prompt() -> torch.Tensor:
    prompt = torch.randn(P, 32, generator=torch.Generator().manual_seed(2))
    prompt[:, 5] = 0
    prompt -= prompt.sum(1, keepdim=True) / 31
    prompt[:, 5] = 0
    return prompt


def discovered(backbone: Backbone, train: Encoded, dev: Encoded, **more: Any) -> tuple[Neurons, Question]:
    asked = Question(train, dev, halves([f"{i:05d}" for i in range(len(dev))]), (1,), 2, batch_size=64, **more)
    site = site_of(backbone.info, "prompt", P)
    return combine([count(backbone, site, unmarked_prompt(), asked, one_process())], 1, asked, CARD), asked


def test_planted_neurons_are_found_with_their_signs(tmp_path):
    backbone = planted(tmp_path, 512, signs=(1, -1, 1, 1, -1))
    got, asked = discovered(backbone, marked_rows(300, 1), marked_rows(800, 2))
    assert len(asked.judged) >= 350
    assert (got.predictivity[0, 0, :5] == 1).all()
    assert got.sign[0, 0, 0, :5].tolist() == [1, -1, 1, 1, -1]
    assert (got.q_value[0, 0, :5] < 0.05).all()
    combined = cauchy_combination(np.moveaxis(got.p_value, 1, 0))
    assert got.q_value.ravel() == pytest.approx(multipletests(combined.ravel(), method="fdr_bh")[1])
    assert (got.family_p[0, 0, :5] == 1 / 201).all()
    assert got.best == (0, 0, 0)
    assert got.auc[0, 0, 0, :5] == pytest.approx([1, 0, 1, 1, 0], abs=1e-3)
    texts = [" ".join(map(str, row)) for row in asked.dev.rows]
    site = site_of(backbone.info, "prompt", P)
    cards = make_cards(backbone, site, [unmarked_prompt()], got, asked, texts, one_process(), 3)
    assert {(card.layer, card.neuron) for card in cards} <= {(0, unit) for unit in range(5)}
    for card in cards:
        has = [" 20 " in text for text in card.highest]
        assert all(has) if card.signs == (1,) else not any(has)
        assert card.low <= card.predictivity <= card.high
        assert len(card.promotes) == len(card.suppresses) == 8
    told: list[str] = []
    reader = HTMLParser()
    reader.handle_data = told.append
    reader.feed(page(cards, "a <title>", "found & said"))
    assert {"a <title>", "found & said", "AUC"} < set(told)
    assert [text for text in told if text.startswith(("1. ", "2. ", "3. "))] == [
        f"{card.rank}. layer {card.layer}, neuron {card.neuron} ({card.target})" for card in cards
    ]
    assert told.count("q · family-wise p") == 3


def test_labels_that_mean_nothing_are_at_chance(tmp_path):
    backbone = planted(tmp_path, 512, signs=())
    shares, inside, best = [], 0, 0
    for repetition in range(20):
        rng = np.random.default_rng(repetition)
        parts = []
        for seed, n in ((3 * repetition, 100), (3 * repetition + 1, 400)):
            rows = marked_rows(n, seed)
            parts.append(Encoded(rows.rows, torch.from_numpy(rng.permutation(rows.labels.numpy()))))
        got, _ = discovered(backbone, *parts, seed=repetition)
        shares.append(float((got.q_value < 0.05).mean()))
        chance = got.card["chance"]
        inside += chance["best_low"] <= got.predictivity.max() <= chance["best_high"]
        best += chance["low"] <= got.predictivity[got.best] <= chance["high"]
    # neurons of one model go together, so a false discovery is often one of nearly all: what holds is their rate
    assert sum(share > 0 for share in shares) <= 3  # of 20 at 5%: more has a probability of 0.016
    assert inside >= 18
    assert best >= 17, "half B did not choose the one that half A calls the best: it is one neuron of many there"


def test_a_folder_of_neurons_is_the_same_when_read(backbones, tmp_path):
    backbone = backbones["roberta"]
    asked = question(rows_of(backbone.info, 20), rows_of(backbone.info, 20))
    site = site_of(backbone.info, "prompt", P)
    facts = {
        **CARD, "protocol": "split", "site": "prompt", "stack": "encoder", "task": "x",
        "backbone": {"name": "tiny", "fingerprint": "f"},
    }  # fmt: skip
    prompts = prompts_for(backbone.info)
    got = combine((count(backbone, site, p, asked, one_process()) for p in prompts), len(prompts), asked, facts)
    got.save(tmp_path / "neurons")
    again = Neurons.load(tmp_path / "neurons")
    assert again.fingerprint == got.fingerprint
    import safetensors.numpy

    shapes = {k: v.shape for k, v in safetensors.numpy.load_file(tmp_path / "neurons/neurons.safetensors").items()}
    assert shapes["baseline"] == shapes["accuracy"] == (2, 3, 4, 48)
    assert shapes["predictivity"] == shapes["q_value"] == (3, 48)
    assert shapes["position"] == shapes["sign"] == shapes["p_value"] == (2, 3, 48)
    (tmp_path / "neurons/neurons.json").unlink()
    with pytest.raises(InputError, match="neurons.json"):
        Neurons.load(tmp_path / "neurons")


def test_a_prefix_before_the_text_of_a_decoder_is_refused(backbones):
    info = describe(str(backbones["gpt2"].info.folder), placement="prefix")
    with pytest.raises(InputError, match="same for every text"):
        site_of(info, "prompt", P)
    with pytest.raises(InputError, match="encoder-decoder"):
        site_of(backbones["roberta"].info, "decoder", P)
    with pytest.raises(InputError, match="not the label's"):
        site_of(backbones["roberta"].info, "prompt-body", 1)


if __name__ == "__main__":
    one_of_two_processes(*sys.argv[1:])
