"""FFN taps: as many as the configuration has layers, in order, and each the real activation."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as fn
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

import tiny_models
from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone, Tap
from skillneurons.backbones.loading import describe
from skillneurons.backbones.taps import find_taps
from skillneurons.errors import InputError

EXPECTED = {
    "roberta": [("encoder", 48)] * 3,
    "bert": [("encoder", 32)] * 3,
    "albert": [("encoder", 48)] * 3,
    "t5": [("encoder", 48)] * 3 + [("decoder", 48)] * 2,
    "t5_gated": [("encoder", 48)] * 3 + [("decoder", 48)] * 2,
    "bart": [("encoder", 48)] * 3 + [("decoder", 40)] * 2,
    "gpt2": [("decoder", 128)] * 3,
    "opt": [("decoder", 48)] * 3,
    "llama": [("decoder", 32)] * 3,
    "gemma2": [("decoder", 48)] * 3,
}


def gelu_tanh(x: Tensor) -> Tensor:
    return fn.gelu(x, approximate="tanh")


# the FFN's input projections, and the activation from their outputs, written out
T5_FFN = "{stack}.block.{layer}.layer.{last}.DenseReluDense."
BY_HAND: dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    "roberta": (("roberta.encoder.layer.{layer}.intermediate.dense",), fn.gelu),
    "bert": (("bert.encoder.layer.{layer}.intermediate.dense",), fn.gelu),
    "albert": (("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn",), gelu_tanh),
    "t5": ((T5_FFN + "wi",), fn.relu),
    "t5_gated": ((T5_FFN + "wi_0", T5_FFN + "wi_1"), lambda gate, up: gelu_tanh(gate) * up),
    "bart": (("model.{stack}.layers.{layer}.fc1",), fn.gelu),
    "gpt2": (("transformer.h.{layer}.mlp.c_fc",), gelu_tanh),
    "opt": (("model.decoder.layers.{layer}.fc1",), fn.relu),
    "llama": (
        ("model.layers.{layer}.mlp.gate_proj", "model.layers.{layer}.mlp.up_proj"),
        lambda gate, up: fn.silu(gate) * up,
    ),
    "gemma2": (
        ("model.layers.{layer}.mlp.gate_proj", "model.layers.{layer}.mlp.up_proj"),
        lambda gate, up: gelu_tanh(gate) * up,
    ),
}


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_models.loaded(name, root / name) for name in tiny_models.ARCHITECTURES}


@pytest.fixture(params=tiny_models.ARCHITECTURES)
def backbone(backbones: dict[str, Backbone], request: pytest.FixtureRequest) -> Backbone:
    return backbones[request.param]


def score(backbone: Backbone) -> Tensor:
    prompt = torch.randn(4, backbone.info.embedding_width, generator=torch.Generator().manual_seed(1))
    batch = backbone.info.collate(backbone.info.encode(tiny_models.TEXTS, 24))
    with torch.no_grad():
        return backbone.label_scores(prompt, batch, backbone.info.label_words(tiny_models.WORDS))


def hooks_left(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_count_order_and_width(backbone: Backbone) -> None:
    taps = backbone.taps
    assert [(tap.stack, tap.width) for tap in taps] == EXPECTED[backbone.info.name]
    for stack in {tap.stack for tap in taps}:
        layers = [tap.layer for tap in taps if tap.stack == stack]
        assert layers == list(range(len(layers)))
    assert hooks_left(backbone.model) == 0


def test_the_activation_is_the_one_computed_by_hand(backbone: Backbone) -> None:
    names, activation = BY_HAND[backbone.info.name]
    seen: dict[str, list[Tensor]] = defaultdict(list)
    tapped: dict[Tap, Tensor] = {}
    patterns = {
        name.format(stack=t.stack, layer=t.layer, last=1 + (t.stack == "decoder")): None
        for t in backbone.taps
        for name in names
    }
    hooks = [
        backbone.model.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen[name].append(out.clone())
        )
        for name in patterns
    ]
    with backbone.tapped(lambda tap, a: tapped.__setitem__(tap, a.clone())):
        score(backbone)
    for hook in hooks:
        hook.remove()
    assert list(tapped) == list(backbone.taps)
    for tap, got in tapped.items():
        places = [n.format(stack=tap.stack, layer=tap.layer, last=1 + (tap.stack == "decoder")) for n in names]
        outs = [seen[place][tap.layer if len(seen[place]) > 1 else 0] for place in places]
        expected = activation(*outs)
        assert got.ndim == 3
        assert got.shape[::2] == (len(tiny_models.TEXTS), tap.width)
        torch.testing.assert_close(got, expected.view_as(got), atol=1e-6, rtol=1e-5)


def test_activations_of_a_row_stay_with_the_row(backbone: Backbone) -> None:
    """Rows of a flattened FFN (OPT) are put back in place: a text alone has the same activations."""
    info, words = backbone.info, backbone.info.label_words(tiny_models.WORDS)
    rows, prompt = info.encode(tiny_models.TEXTS, 24), torch.ones(2, info.embedding_width) * 0.1
    prompt[1, ::2] = -0.5
    captured: list[Tensor] = []
    with backbone.tapped(lambda tap, a: captured.append(a.clone())), torch.no_grad():
        backbone.label_scores(prompt, info.collate(rows), words)
        together, captured = captured, []
        backbone.label_scores(prompt, info.collate(rows[1:2]), words)
    assert len(captured) == len(together) == len(backbone.taps)
    size = len(rows[1]) + 2
    for all_rows, alone in zip(together, captured, strict=True):
        torch.testing.assert_close(all_rows[1:2, :size], alone[:, :size], atol=1e-5, rtol=1e-4)


def test_a_replaced_activation_is_what_the_layer_goes_on_with(backbone: Backbone) -> None:
    plain = score(backbone)
    for target in backbone.taps:
        with backbone.tapped(lambda tap, a, target=target: a * 0 if tap == target else None):
            zeroed = score(backbone)
        bias_only = output_bias(backbone, target)
        assert not torch.allclose(zeroed, plain, atol=1e-5), target
        torch.testing.assert_close(zeroed, bias_only, atol=1e-6, rtol=0)


def output_bias(backbone: Backbone, target: Tap) -> Tensor:
    """Scores when the output projection gives its bias alone, at the target's call."""
    module, calls = backbone.model.get_submodule(target.module), []

    def bias_alone(module: Any, args: Any, out: Tensor) -> Tensor | None:
        calls.append(None)
        nothing = torch.zeros_like(out)
        bias = nothing if module.bias is None else nothing + module.bias
        return bias if len(calls) - 1 == target.call else None

    with module.register_forward_hook(bias_alone):
        return score(backbone)


def test_taps_are_found_where_no_gradients_are(tmp_path: Path) -> None:
    folder = str(tiny_models.build("gpt2", tmp_path))
    with torch.inference_mode():
        taps = loading.load(describe(folder)).taps
    assert [tap.module for tap in taps] == [f"transformer.h.{layer}.mlp.c_proj" for layer in range(3)]


def test_nothing_is_left_behind(backbone: Backbone) -> None:
    plain = score(backbone)
    with backbone.tapped(lambda tap, a: None):
        assert torch.equal(score(backbone), plain)
        assert hooks_left(backbone.model) > 0
    with pytest.raises(ZeroDivisionError), backbone.tapped(lambda tap, a: a / (1 // 0)):
        score(backbone)
    assert hooks_left(backbone.model) == 0
    assert torch.equal(score(backbone), plain)


def test_gradients_pass_through_a_replaced_activation(backbone: Backbone) -> None:
    prompt = torch.randn(4, backbone.info.embedding_width).requires_grad_()
    batch = backbone.info.collate(backbone.info.encode(tiny_models.TEXTS, 24))
    with backbone.tapped(lambda tap, a: a * 0.5):
        backbone.label_scores(prompt, batch, backbone.info.label_words(tiny_models.WORDS)).sum().backward()
    assert prompt.grad is not None
    assert prompt.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("architecture", "more", "got"),
    [
        ("roberta", {"chunk_size_feed_forward": 1}, "6 in a layer"),
        ("albert", {"inner_group_num": 2}, "2 in a layer"),
    ],
)
def test_layers_without_exactly_one_ffn_are_refused(
    architecture: str, more: dict[str, Any], got: str, tmp_path: Path
) -> None:
    folder = tiny_models.build(architecture, tmp_path)
    backbone = loading.load(describe(str(folder)))
    taken = backbone.model.config.to_dict() | more
    backbone.model = type(backbone.model)(type(backbone.model.config).from_dict(taken)).requires_grad_(False).eval()
    with pytest.raises(InputError, match=f"one FFN.*got {got}"):
        _ = backbone.taps


@pytest.mark.parametrize(
    ("mlp", "got"),
    [(lambda config: torch.nn.Identity(), "none in some layers"), (lambda config: GPT2MLP(24, config), "widths")],
)
def test_layers_that_differ_are_refused(mlp: Callable[[Any], Any], got: str, tmp_path: Path) -> None:
    backbone = loading.load(describe(str(tiny_models.build("gpt2", tmp_path))))
    assert len(backbone.taps) == 3
    changed = loading.load(describe(str(tmp_path)))
    changed.model.transformer.h[1].mlp = mlp(changed.model.config).requires_grad_(False).eval()
    with pytest.raises(InputError, match=f"gpt2 decoder has one FFN.*got {got}"):
        _ = changed.taps


def test_a_gate_closed_by_zeros_hides_nothing() -> None:
    """At a prompt of zeros Mamba's gate is 0, and no gradient says that a state space stands behind it."""
    config = transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, vocab_size=64)
    torch.manual_seed(0)
    model = transformers.MambaForCausalLM(config).eval().requires_grad_(False)
    with pytest.raises(InputError, match="mamba decoder has one FFN.*got none"):
        find_taps(model, lambda: model(inputs_embeds=torch.zeros(2, 4, 32)), ("decoder",), None)


def test_attention_over_a_single_token_is_no_ffn() -> None:
    """Where the decoder gets its start token alone, its attention mixes nothing; here it is as wide as the FFN."""
    sizes = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 32, "vocab_size": 64}
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    torch.manual_seed(0)
    model = transformers.MarianMTModel(transformers.MarianConfig(**sizes, **layers, pad_token_id=0)).eval()
    model.requires_grad_(False)

    def probe() -> None:
        model(inputs_embeds=torch.zeros(2, 4, 32), decoder_input_ids=torch.zeros(2, 1, dtype=torch.int64))

    taps = find_taps(model, probe, ("encoder", "decoder"), model.get_encoder())
    assert [tap.module for tap in taps if tap.stack == "decoder"] == [f"model.decoder.layers.{i}.fc2" for i in (0, 1)]


@pytest.mark.parametrize("config", [transformers.MixtralConfig(), transformers.SwitchTransformersConfig()])
def test_mixtures_of_experts_are_refused_before_any_weights(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"expert.*dense"):
        describe(str(tmp_path))
