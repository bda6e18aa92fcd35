"""The tuning core against a plain loop written here, and its promises about resuming."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import transformers
from accelerate import Accelerator

from skillneurons.backbones import loading
from skillneurons.backbones.batching import Encoded, endless_batches
from skillneurons.backbones.loading import describe
from skillneurons.commands.resumable import NonFiniteLossError, rate_factor
from skillneurons.prompts.scoring import score
from skillneurons.tune.loop import TuneSettings, tune
from tiny_models import TEXTS

SETTINGS = TuneSettings(learning_rate=0.05, batch_size=8, max_steps=20, eval_every=5)
WORDS = " ".join(text for (text,) in TEXTS).split()


class Memory:
    """A checkpoint in memory that can die after so many saves."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.state, self.saves, self.dies_after = None, 0, dies_after

    def load(self):
        return copy.deepcopy(self.state)

    def save(self, state):
        self.state = copy.deepcopy(state)
        self.saves += 1
        if self.saves == self.dies_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def bench(tiny_roberta):
    backbone = loading.load(describe(str(tiny_roberta)))
    words = backbone.info.label_words(["negative", "positive"])
    generator = torch.Generator().manual_seed(0)

    def split(rows: int) -> Encoded:
        lengths = torch.randint(2, 12, (rows,), generator=generator)
        draws = [torch.randint(len(WORDS), (int(n),), generator=generator) for n in lengths]
        texts = [(" ".join(WORDS[i] for i in draw),) for draw in draws]
        labels = torch.tensor([int(draw.sum()) % 2 for draw in draws])
        return Encoded(backbone.info.encode(texts, 32), labels)

    return backbone, words, split(77), split(33), Accelerator(cpu=True)


def run(bench, settings=SETTINGS, seed=3, checkpoint=None, **more):
    backbone, words, train, dev, accelerator = bench
    start = torch.randn(4, 32, generator=torch.Generator().manual_seed(seed)) * 0.3
    return tune(backbone, words, train, dev, start, settings, seed, accelerator, checkpoint or Memory(), **more)


def test_equals_a_plain_loop(bench):
    backbone, words, train, dev, _ = bench
    settings = SETTINGS.model_copy(
        update={"schedule": "linear", "warmup_steps": 3, "weight_decay": 0.1, "max_grad_norm": 0.5}
    )
    tuned = run(bench, settings)

    prompt = torch.nn.Parameter(torch.randn(4, 32, generator=torch.Generator().manual_seed(3)) * 0.3)
    optimizer = torch.optim.AdamW([prompt], lr=0.05, weight_decay=0.1)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 3, 20)
    points, prompts, losses = [], {}, []
    for step, rows in zip(range(1, 21), endless_batches(train.lengths, 8, 3, 0), strict=False):
        if step == 1:
            prompts[0] = prompt.detach().clone()
        for group in optimizer.param_groups:  # transformers starts its warm-up at 0, ours at 1 / (w + 1)
            group["lr"] = 0.05 * (step / 4 if step <= 3 else schedule.get_last_lr()[0] / 0.05)
        loss = torch.stack(
            [
                torch.nn.functional.cross_entropy(
                    backbone.label_scores(prompt, backbone.info.collate([train.rows[i]]), words),
                    train.labels[i : i + 1],
                )
                for i in rows
            ]
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([prompt], 0.5)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        prompts[step] = prompt.detach().clone()
    by_step = dict(tuned.history.train)
    for step in (5, 10, 15, 20):
        assert by_step[step] == pytest.approx(sum(losses[step - 5 : step]) / 5, abs=1e-5)
    for step in (0, 5, 10, 15, 20):
        with torch.no_grad():
            scores = [
                backbone.label_scores(prompts[step], backbone.info.collate([row]), words).argmax() for row in dev.rows
            ]
        points.append(float((torch.stack(scores) == dev.labels).float().mean()))
    assert [p.accuracy for p in tuned.history.dev] == pytest.approx(points)
    torch.testing.assert_close(tuned.prompt, prompts[tuned.history.best.step], atol=1e-5, rtol=1e-4)


def test_the_best_on_dev_is_selected_and_the_loss_breaks_ties(bench):
    tuned = run(bench)
    best = tuned.history.best
    assert best.accuracy == max(p.accuracy for p in tuned.history.dev)
    tied = [p for p in tuned.history.dev if p.accuracy == best.accuracy]
    assert best.loss == min(p.loss for p in tied)
    assert len({p.accuracy for p in tuned.history.dev}) > 1


def test_passes_do_not_change_the_step(bench):
    whole, parts = run(bench), run(bench, SETTINGS.model_copy(update={"accumulation": 3}))
    torch.testing.assert_close(whole.prompt, parts.prompt, atol=1e-5, rtol=1e-4)
    assert [loss for _, loss in whole.history.train] == pytest.approx([loss for _, loss in parts.history.train])


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("dies_after", [1, 2, 3])
def test_resumed_is_bit_identical(bench, dropout, dies_after):
    settings = SETTINGS.model_copy(update={"dropout": dropout})
    whole = run(bench, settings)
    checkpoint = Memory(dies_after)
    with pytest.raises(KeyboardInterrupt):
        run(bench, settings, checkpoint=checkpoint)
    assert checkpoint.state["step"] == 5 * dies_after
    checkpoint.dies_after = None
    torch.manual_seed(12345)  # whatever else the process drew must not matter
    again = run(bench, settings, checkpoint=checkpoint)
    assert torch.equal(again.prompt, whole.prompt)
    assert again.history == whole.history


def test_dropout_changes_the_tuning_and_nothing_is_left_switched_on(bench):
    dropped = run(bench, SETTINGS.model_copy(update={"dropout": True}))
    assert dropped.history.train != run(bench).history.train
    assert not any(module.training for module in bench[0].model.modules())


def test_the_backbone_stays_as_it_was(bench):
    before = {name: value.clone() for name, value in bench[0].model.state_dict().items()}
    start = torch.randn(4, 32, generator=torch.Generator().manual_seed(3)) * 0.3
    tuned = run(bench)
    assert before
    assert all(torch.equal(value, bench[0].model.state_dict()[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in bench[0].model.parameters())
    assert not torch.equal(tuned.prompt, start)


def test_patience_stops_early(bench):
    patient = run(bench, SETTINGS.model_copy(update={"max_steps": 400, "patience": 2, "learning_rate": 1e-9}))
    assert patient.steps < 400
    steps = [p.step for p in patient.history.dev]
    assert steps[-1] - patient.history.best.step == 2 * 5


def test_order_seed_fixes_the_data_order_for_all_seeds(bench):
    free = [run(bench, seed=seed).history.train[0][1] for seed in (3, 3)]
    assert free[0] == free[1]
    backbone, words, train, dev, accelerator = bench
    start = torch.zeros(4, 32)

    def first_loss(seed: int, order: int | None) -> float:
        settings = SETTINGS.model_copy(update={"max_steps": 5})
        tuned = tune(backbone, words, train, dev, start, settings, seed, accelerator, Memory(), order_seed=order)
        return tuned.history.train[0][1]

    assert first_loss(1, 7) == first_loss(2, 7)
    assert first_loss(1, None) != first_loss(2, None)


def test_a_loss_that_is_not_finite_ends_it_with_the_last_good_state_kept(bench):
    _backbone, _words, _train, _dev, _accelerator = bench
    checkpoint = Memory(1)
    with pytest.raises(KeyboardInterrupt):
        run(bench, checkpoint=checkpoint)
    checkpoint.dies_after = None
    checkpoint.state["optimizer"]["state"][0]["exp_avg"].fill_(float("nan"))
    good = checkpoint.state["prompt"].clone()
    with pytest.raises(NonFiniteLossError, match="not finite near step 10"):
        run(bench, checkpoint=checkpoint)
    assert torch.equal(checkpoint.state["prompt"], good)
    assert checkpoint.saves == 1


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_equal_those_of_transformers(schedule):
    settings = SETTINGS.model_copy(update={"schedule": schedule, "warmup_steps": 0, "max_steps": 50})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = transformers.get_scheduler(schedule, optimizer, num_warmup_steps=0, num_training_steps=50)
    for step in range(50):
        assert rate_factor(settings, step, settings.max_steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_warm_up_rises_to_the_full_rate():
    settings = SETTINGS.model_copy(update={"warmup_steps": 4})
    factors = [rate_factor(settings, step, settings.max_steps) for step in range(5)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_scores_equal_one_row_at_a_time_in_the_order_of_the_rows(bench, batch_size):
    backbone, words, _, dev, accelerator = bench
    prompt = torch.randn(4, 32)
    together = score(backbone, prompt, dev, words, accelerator, batch_size)
    alone = torch.cat([score(backbone, prompt, replace(dev, rows=[r]), words, accelerator) for r in dev.rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_progress_tells_speed_and_time_left(bench):
    seen = []
    run(bench, watch=seen.append)
    assert [p.step for p in seen] == [5, 10, 15, 20]
    assert all(p.at_evaluation for p in seen)
    assert seen[-1].seconds_left == 0
    assert all(p.examples_per_second > 0 and math.isfinite(p.seconds_left) for p in seen)
