"""From a model reference to a backbone: names, folders, GGUF files and hub ids.

Everything that can be wrong with a reference is found by `describe`, before any weights are read.
"""

import inspect
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from skillneurons.backbones import acceptance
from skillneurons.backbones.base import Backbone, BackboneInfo
from skillneurons.backbones.decoder_only import DecoderOnly
from skillneurons.backbones.encoder_decoder import EncoderDecoder
from skillneurons.backbones.layout import num_positions, text_config
from skillneurons.backbones.masked_lm import MaskedLM
from skillneurons.backbones.references import CONFIG_FILES, Source, resolve
from skillneurons.backbones.tokenization import Family, steady
from skillneurons.backbones.weight_files import check_layers, check_tensors, weight_files
from skillneurons.declarations import folders
from skillneurons.errors import InputError, first_line, listed

# the first placement of a family is its own
PLACEMENTS: Mapping[Family, tuple[str, ...]] = {
    "masked_lm": ("mask-first",),
    "encoder_decoder": ("encoder-prefix",),
    "decoder_only": ("suffix", "prefix"),
}
BACKBONES: Mapping[Family, type[Backbone]] = {
    "masked_lm": MaskedLM,
    "encoder_decoder": EncoderDecoder,
    "decoder_only": DecoderOnly,
}
AUTO_CLASSES: Mapping[Family, Any] = {
    "masked_lm": transformers.AutoModelForMaskedLM,
    "encoder_decoder": transformers.AutoModelForSeq2SeqLM,
    "decoder_only": transformers.AutoModelForCausalLM,
}
ARCHITECTURES: Mapping[Family, Mapping[str, Any]] = {
    "masked_lm": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "encoder_decoder": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "decoder_only": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
}


def describe(
    reference: str, *, revision: str | None = None, placement: str | None = None, models_dir: Path | None = None
) -> BackboneInfo:
    """Configuration and tokenizer of a backbone; no weights are loaded.

    Args:
        reference: the name of a file in `models_dir`, a folder in the Hugging Face layout, a `.gguf` file,
            or a Hugging Face id; tried in this order.
        revision: the hub revision, before that of the YAML file.
        placement: where the prompt goes, before that of the YAML file; by default as the family has it.
        models_dir: by default `experiments/models` here, then that of the package.

    Raises:
        InputError: the reference leads nowhere, or to a model that no family can use.
    """
    source = resolve(reference, revision, (models_dir,) if models_dir else folders("models"))
    with _quiet():
        config = _config(source)
        family = _family(config, source.name)
        _refuse_experts(config, source.name)
        tokenizer = _tokenizer(source, family)
        skeleton = _skeleton(config, family, source.name)
    _check_vocabulary(tokenizer, skeleton, source.name)
    weights = weight_files(source.folder, source.gguf_file)
    if getattr(config, "quantization_config", None) is None:
        ignored = skeleton._keys_to_ignore_on_load_unexpected or ()
        tied = {name for pair in skeleton.all_tied_weights_keys.items() for name in pair}
        check_tensors(weights, _shapes(skeleton), skeleton.base_model_prefix, tuple(ignored), tied)
    return BackboneInfo(
        reference=reference,
        name=source.name,
        folder=source.folder,
        gguf_file=source.gguf_file,
        family=family,
        revision=source.revision,
        files=(*weights, *_config_files(source)),
        weight_bytes=sum(file.stat().st_size for file in weights),
        parameter_count_estimate=int(skeleton.num_parameters()),
        config=config,
        tokenizer=tokenizer,
        embedding_width=int(skeleton.get_input_embeddings().embedding_dim),
        num_positions=num_positions(skeleton),
        placement=_placement(family, placement or source.placement),
        tune_defaults=source.tune,
    )


@torch.inference_mode(False)  # weights made inside have no gradients behind them
def load(info: BackboneInfo, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """The backbone of `info` with its weights, frozen and in eval mode.

    Raises:
        InputError: the files lack some of the weights, e.g. the vocabulary head, or the model cannot be
            used with a prompt (see `acceptance`).
    """
    with _quiet():
        model, report = _loaded(info, dtype)
    if report["missing_keys"]:
        must = f"the files of {info.name} hold all weights of its {info.config.model_type} language model"
        missing = f"none for {listed(sorted(report['missing_keys']), 3)}"
        raise InputError(must, missing, "Use a checkpoint with its vocabulary head.")
    check_layers(report["unexpected_keys"], _shapes(model))
    model = model.to(device)
    _check_finite(model, info.name)
    with _quiet(), _its_own_code(info.name, info.config):
        backbone = BACKBONES[info.family](info, model)
        acceptance.check(backbone)
    return backbone


def _loaded(info: BackboneInfo, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    given: dict[str, Any] = {} if info.gguf_file is None else {"gguf_file": info.gguf_file}
    try:
        found: tuple[Any, dict[str, Any]] = AUTO_CLASSES[info.family].from_pretrained(
            info.folder, config=info.config, dtype=dtype, output_loading_info=True, local_files_only=True, **given
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # each kind of file has errors of its own
        must = f"the weights of {info.name} can be loaded"
        raise InputError(must, first_line(error), "Check the files, or use another checkpoint.") from error
    return found


@torch.no_grad()
def _check_finite(model: Any, name: str) -> None:
    for key, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            must, got = f"all weights of {name} are finite numbers in {weight.dtype}", f"NaN or infinity in {key}"
            raise InputError(must, got, "Use another checkpoint, or a precision with a larger range.")


def _pretrained(auto_class: Any, source: Source, what: str) -> Any:
    given: dict[str, Any] = {} if source.gguf_file is None else {"gguf_file": source.gguf_file}
    try:
        return auto_class.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True, **given)
    except Exception as error:  # each kind of file has errors of its own
        must = f"the {what} in {source.folder} can be read (models that need their own code are not run)"
        raise InputError(must, first_line(error), "Check the folder's files.") from error


def _config(source: Source) -> Any:
    if source.gguf_file is not None:  # which holds configuration and tokenizer as well
        weight_files(source.folder, source.gguf_file)
    config = _pretrained(transformers.AutoConfig, source, "configuration")
    if source.gguf_file is None and (quantized := getattr(config, "quantization_config", None)) is not None:
        _check_quantized(quantized, source)
    return config


def _check_quantized(quantized: Any, source: Source) -> None:
    """Whether what the weights are packed with is installed, and works on this machine."""
    from transformers.quantizers import AutoHfQuantizer  # imports that few models need

    try:
        AutoHfQuantizer.from_config(quantized, pre_quantized=True).validate_environment()
    except Exception as error:
        must = f"the weights of {source.name} are plain, or what they are packed with works here"
        raise InputError(must, first_line(error), "Use the unquantized checkpoint, or mend that.") from error


def _tokenizer(source: Source, family: Family) -> Any:
    tokenizer = steady(_pretrained(transformers.AutoTokenizer, source, "tokenizer"))
    # from a folder without vocabulary files, transformers makes a tokenizer that knows special tokens alone
    if len(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)) < 10:
        must = f"the tokenizer in {source.folder} has a vocabulary"
        raise InputError(must, "special tokens alone", "Add the tokenizer's files to the folder.")
    if family == "masked_lm" and tokenizer.mask_token_id is None:
        must = f"the tokenizer of the masked LM {source.name} has a mask token"
        raise InputError(must, "none", "Use a tokenizer with mask_token.")
    return tokenizer


def _family(config: Any, name: str) -> Family:
    """By what the checkpoint was saved as, else by what its type can be, the masked LM first."""
    saved = set(config.architectures or ())
    order: tuple[Family, ...] = ("encoder_decoder",) if config.is_encoder_decoder else ("masked_lm", "decoder_only")
    for family in order:
        if saved & set(ARCHITECTURES[family].values()):
            return family
    for family in order:
        if config.model_type in ARCHITECTURES[family]:
            return family
    must = "a backbone is a masked LM, an encoder-decoder or a decoder-only language model"
    raise InputError(must, f"{name}, of type {config.model_type}", "Choose a text model with a vocabulary head.")


def _refuse_experts(config: Any, name: str) -> None:
    experts = next(_expert_counts(config.to_dict()), None)
    if experts is not None:
        must = "a backbone has one FFN a layer (in a mixture of experts a neuron is not there for every token)"
        raise InputError(must, f"{name} with {experts[0]}={experts[1]}", "Choose a dense model.")


def _expert_counts(values: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _expert_counts(value)
        elif "expert" in str(key) and isinstance(value, int) and value > 1:
            yield key, value


def _skeleton(config: Any, family: Family, name: str) -> Any:
    """The architecture without memory for its weights."""
    with torch.device("meta"), _its_own_code(name, config):
        skeleton = AUTO_CLASSES[family].from_config(config)
        _refuse_unreadable(skeleton, name)
    return skeleton


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}


def _check_vocabulary(tokenizer: Any, skeleton: Any, name: str) -> None:
    rows = int(skeleton.get_input_embeddings().num_embeddings)
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: int(item[1]))
    if last >= rows:
        must = f"{name} has an embedding for every token of its tokenizer"
        do = "Use the tokenizer the model was saved with, or take that token out of it."
        raise InputError(must, f"{rows} embeddings, and {token!r} is token {last}", do)


def _refuse_unreadable(skeleton: Any, name: str) -> None:
    """A prompt is embeddings in the place of tokens; what can be seen before there are weights."""
    takes = inspect.signature(skeleton.forward).parameters
    got = None
    if "inputs_embeds" not in takes:
        got = "reads token ids alone"
    elif not isinstance(skeleton.get_input_embeddings(), nn.Embedding):
        got = f"embeds tokens by a {type(skeleton.get_input_embeddings()).__name__}"
    elif getattr(text_config(skeleton), "hidden_size_per_layer_input", 0):
        got = "looks token ids up again in every layer (hidden_size_per_layer_input)"
    elif "target_mapping" in takes:
        got = "predicts a word from a place of its own (target_mapping), not from the last token"
    if got is not None:
        must = "a backbone reads embeddings in the place of tokens and predicts from what it has read"
        raise InputError(must, f"{name}, which {got}", "Choose another model.")


@contextmanager
def _its_own_code(name: str, config: Any) -> Iterator[None]:
    """What the architecture's own code cannot do with a model is said in one line."""
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        must = f"the {config.model_type} model {name} can be built and run on embeddings"
        raise InputError(must, got, "Check its configuration, or choose another model.") from error


def _placement(family: Family, asked: str | None) -> str:
    possible = PLACEMENTS[family]
    if asked is not None and asked not in possible:
        must = f"the placement for this family ({family}) is {' or '.join(possible)}"
        raise InputError(must, repr(asked), "Leave placement out, or name one of these.")
    return asked or possible[0]


def _config_files(source: Source) -> tuple[Path, ...]:
    if source.gguf_file is not None:
        return ()
    found = {file for pattern in (*CONFIG_FILES, "*.model") for file in source.folder.glob(pattern)}
    return tuple(sorted(file for file in found if file.is_file()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers reports what we check ourselves, and draws progress bars."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the GGUF reader draws its bar regardless
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
