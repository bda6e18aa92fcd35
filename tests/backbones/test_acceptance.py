"""A model whose scores would be wrong under a prompt is refused in one line, for the reason that holds."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_models
from conftest import QUICK, words
from skillneurons.backbones import acceptance, loading
from skillneurons.backbones.base import Backbone
from skillneurons.backbones.loading import AUTO_CLASSES, describe
from skillneurons.cli import main
from skillneurons.errors import InputError
from tracked import every_run

MASKED_LOADER = AUTO_CLASSES["masked_lm"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("models")

    def get(name: str) -> Path:
        return root / name if (root / name).exists() else tiny_models.build(name, root / name)

    return get


@pytest.fixture(params=["bert", "gpt2", "t5"])
def sound(request: pytest.FixtureRequest, folder: Callable[[str], Path]) -> Backbone:
    """A backbone without fault, for a test to plant one."""
    return loading.load(describe(str(folder(request.param))))


def test_a_sound_model_passes_in_every_precision(sound: Backbone) -> None:
    acceptance.check(sound)
    for dtype in (torch.bfloat16, torch.float64):
        loading.load(sound.info, dtype=dtype)


@pytest.mark.parametrize(("planted", "refused"), [(0.2, True), (0.02, True), (1e-4, False)])
def test_one_score_in_64_that_is_off(
    planted: float, refused: bool, sound: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = sound.own_scores

    def off(inputs: Any, ids: Tensor) -> Tensor:
        scores = own(inputs, ids)
        scores[0, 0] += planted * scores.std()
        return scores

    monkeypatch.setattr(sound, "own_scores", off)
    if refused:
        with pytest.raises(InputError, match="scores embeddings as it scores their token ids"):
            acceptance.check(sound)
    else:
        acceptance.check(sound)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_positions_counted_from_elsewhere(name: str, folder: Callable[[str], Path]) -> None:
    backbone = loading.load(describe(str(folder(name))))
    backbone._first_position = 1
    with pytest.raises(InputError, match="scores embeddings as it scores their token ids"):
        acceptance.check(backbone)


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_padding_that_is_read(name: str, folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = loading.load(describe(str(folder(name))))
    place = backbone.place

    def unmasked(*args: Any) -> Any:
        inputs = place(*args)
        return dataclasses.replace(inputs, attention_mask=torch.ones_like(inputs.attention_mask))

    monkeypatch.setattr(backbone, "place", unmasked)
    with pytest.raises(InputError, match="with and without padding"):
        acceptance.check(backbone)


@pytest.mark.parametrize(("row", "factor"), [(1, 0.0), (2, 0.0), (2, float("nan")), (1, float("inf"))])
def test_a_row_of_the_prompt_without_a_gradient(
    row: int, factor: float, sound: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = sound.place

    def cut(prompt: Tensor, *args: Any) -> Any:
        if prompt.requires_grad:
            factors = torch.ones(len(prompt), 1)
            factors[row] = factor
            prompt = prompt * 1
            prompt.register_hook(lambda gradient: gradient * factors)
        return place(prompt, *args)

    monkeypatch.setattr(sound, "place", cut)
    with pytest.raises(InputError, match="finite gradient above 0"):
        acceptance.check(sound)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ibert", "QuantEmbedding"),
        ("cpmant", "reads token ids alone"),
        ("gemma4", "hidden_size_per_layer_input"),
        ("xlnet", "target_mapping"),
    ],
)
def test_what_the_configuration_shows_is_refused_before_weights(
    name: str, what: str, folder: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match=what) as refusal:
        describe(str(folder(name)))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["nystromformer-conv", "fnet"])
def test_models_that_read_padding(name: str, folder: Callable[[str], Path]) -> None:
    model, embeds = MASKED_LOADER.from_pretrained(folder(name)).eval(), torch.randn(1, 5, 32)
    padded = torch.cat([embeds, torch.zeros(1, 9, 32)], dim=1)
    mask = {"attention_mask": (torch.arange(14) < 5).long()[None]} if name != "fnet" else {}
    with torch.no_grad():
        moved = model(inputs_embeds=embeds).logits[0, 0] - model(inputs_embeds=padded, **mask).logits[0, 0]
    assert moved.abs().max() > 1e-3, "the reason holds"
    with pytest.raises(InputError, match=f"{name}.*with and without padding|with and without padding.*{name}"):
        loading.load(describe(str(folder(name))))


def test_a_model_that_looks_at_token_ids(folder: Callable[[str], Path]) -> None:
    model, ids = MASKED_LOADER.from_pretrained(folder("esm")).eval(), torch.tensor([[4, 9, 12, 20, 7]])
    with torch.no_grad():
        by_ids = model(input_ids=ids).logits
        moved = by_ids - model(inputs_embeds=model.get_input_embeddings()(ids)).logits
    assert moved.abs().max() > 0.1, "the reason holds"
    with pytest.raises(InputError, match="token ids .*esm"):
        loading.load(describe(str(folder("esm"))))


def test_what_xlnet_says_next_is_not_read_at_its_last_token(folder: Callable[[str], Path]) -> None:
    model, ids = (
        AUTO_CLASSES["decoder_only"].from_pretrained(folder("xlnet")).eval(),
        torch.tensor([[40, 17, 33, 21]]),
    )
    with torch.no_grad():
        said = model(**model.prepare_inputs_for_generation(ids)).logits[0, -1]
        assert (said - model(input_ids=ids).logits[0, -1]).abs().max() > 0.1, "the reason for its refusal holds"


def test_what_fails_in_the_models_own_code_is_one_line(folder: Callable[[str], Path]) -> None:
    with pytest.raises(
        InputError, match="reformer can be built and run on embeddings; got AssertionError"
    ) as refusal:
        loading.load(describe(str(folder("reformer"))))
    assert "\n" not in str(refusal.value)


def test_out_of_memory_is_no_fault_of_the_model(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(backbone: Backbone) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(acceptance, "check", full)
    with pytest.raises(torch.OutOfMemoryError):
        loading.load(describe(str(folder("gpt2"))))


def test_a_command_on_such_a_model_ends_in_one_line_and_a_failed_run(
    workplace: Path, folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """MRA without its kernel computes nothing and says nothing; tuning on it ended well."""
    model = folder("mra")
    capsys.readouterr()
    assert main(words("tune", model=model, **QUICK)) == 2
    # MLflow says on the same channel that it makes its database
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "INFO mlflow" not in line)
    assert line.startswith("skillneurons: ")
    assert "finite gradient above 0" in line
    (run,) = every_run()
    assert run.info.status == "FAILED"
    assert "finite gradient above 0" in run.data.tags["skillneurons.error"]
