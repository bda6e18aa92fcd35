"""Tiny models of every architecture, with random weights and their own tokenizers.

`build("bert", folder)` writes a folder as `save_pretrained` does. No weight is left at its initial
value (biases 0, norms 1), so that code which forgets one gives other scores.
"""

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from skillneurons.backbones import loading

WORDS = ("negative", "positive")
SENTENCES = (
    "a gorgeous and witty film",
    "the plot is thin",
    "dull",
    "one of the best films of the year , and a joy from start to end",
    "it never finds its feet , and neither do we",
    "good , but long",
    "i would not see it again for all the tea in the world",
    "the cast is fine and the script is not",
)
# rows as Backbone.encode takes them, of different lengths
TEXTS: tuple[tuple[str, ...], ...] = tuple((sentence,) for sentence in SENTENCES)
PAIRS: tuple[tuple[str, ...], ...] = tuple(zip(SENTENCES[:4], SENTENCES[4:], strict=True))
LABEL_WORDS = (*WORDS, "yes", "no", "true", "false", "acceptable")

HIDDEN, HEADS, LAYERS, FFN, POSITIONS = 32, 4, 3, 48, 64
COMMON = {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS}
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
NAMED = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def build(architecture: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny model and its tokenizer into a folder, which is created and returned."""
    tokenizer = _tokenizer(*TOKENIZERS[architecture])
    torch.manual_seed(seed)
    model = MODELS[architecture](tokenizer)
    _randomise(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(architecture: str, folder: Path) -> Any:
    """A tiny model as a backbone."""
    return loading.load(loading.describe(str(build(architecture, folder))))


def write_quips(folder: Path) -> Path:
    """A task of words that the tiny tokenizers know, which a prompt on random weights can learn a little of."""
    rng, qualities = random.Random(0), (("dull", "thin", "long"), ("gorgeous", "witty", "good", "fine"))
    for role, size in (("train", 101), ("dev", 37), ("test", 37)):
        with (folder / f"{role}.jsonl").open("w") as file:
            for number in range(size):
                word, thing, other = (
                    rng.choice(qualities[number % 2]),
                    *rng.sample(("film", "plot", "cast", "tea"), 2),
                )
                text = f"a {word} {thing} , the {word} {other} and {word} {role}{number}"
                file.write(json.dumps({"text": text, "label": WORDS[number % 2]}) + "\n")
    source = {"splits": {role: f"{role}.jsonl" for role in ("train", "dev", "test")}}
    words = {"templates": {"masked_lm": "{text}"}, "label_words": {"masked_lm": list(WORDS)}}
    task = {"name": "quips", "version": 1, "family": "sentiment", "fields": ["text"], "labels": list(WORDS)}
    (folder / "quips.yaml").write_text(yaml.safe_dump({**task, **words, "file": source}))
    return folder / "quips.yaml"


def _randomise(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = [*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if n == "final_logits_bias")]
    with torch.no_grad():
        for name, value in values:
            noise = torch.randn(value.shape, generator=generator)
            is_norm_scale = value.ndim == 1 and name.endswith("weight")
            value.copy_(noise * 0.2 + 1 if is_norm_scale else noise * (0.3 if value.ndim == 1 else 0.2))


@cache
def _trained(kind: str) -> str:
    """A tokenizer trained on the sentences and label words, as JSON."""
    corpus = [*SENTENCES, *(f"{word} {word} x {word}" for word in LABEL_WORDS)] * 3
    pipeline, trainer = KINDS[kind]()
    pipeline.train_from_iterator([*corpus, *LABEL_WORDS * 3, "a " * 9], trainer)
    return str(pipeline.to_str())


def _byte_level() -> tuple[Tokenizer, Any]:
    pipeline = Tokenizer(models.BPE())
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pipeline.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return pipeline, trainers.BpeTrainer(vocab_size=600, special_tokens=list(SPECIALS), initial_alphabet=alphabet)


def _word_level() -> tuple[Tokenizer, Any]:
    pipeline = Tokenizer(models.WordLevel(unk_token="<unk>"))
    pipeline.pre_tokenizer = pre_tokenizers.Whitespace()
    return pipeline, trainers.WordLevelTrainer(special_tokens=list(SPECIALS))


def _metaspace() -> tuple[Tokenizer, Any]:
    pipeline = Tokenizer(models.BPE(unk_token="<unk>"))
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace()
    pipeline.decoder = decoders.Metaspace()
    return pipeline, trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIALS))


KINDS: dict[str, Callable[[], tuple[Tokenizer, Any]]] = {
    "byte_level": _byte_level,
    "word_level": _word_level,
    "metaspace": _metaspace,
}

BARE: tuple[str, str | None] = ("$A", None)
WORDS_FRAMED = ("word_level", "<s> $A </s>", "<s> $A </s> $B:1 </s>:1")
BYTES_FRAMED = ("byte_level", "<s> $A </s>", "<s> $A </s> </s> $B </s>")
# kind, template of one text, template of two; as the real tokenizers of these architectures have them
TOKENIZERS: dict[str, tuple[str, str, str | None]] = {
    "roberta": BYTES_FRAMED,
    "bert": WORDS_FRAMED,
    "albert": WORDS_FRAMED,
    "t5": ("metaspace", "$A </s>", "$A </s> $B </s>"),
    "t5_gated": ("metaspace", "$A </s>", "$A </s> $B </s>"),
    "bart": BYTES_FRAMED,
    "gpt2": ("byte_level", *BARE),
    "opt": ("byte_level", "</s> $A", None),
    "llama": ("metaspace", "<s> $A", None),
    "gemma2": ("metaspace", "<s> $A </s>", None),
    # siblings of these
    **dict.fromkeys(("mobilebert", "roformer", "nystromformer", "nystromformer-conv", "mra"), WORDS_FRAMED),
    **dict.fromkeys(("esm", "fnet", "ibert", "bert2bert"), WORDS_FRAMED),
    **dict.fromkeys(("roberta-causal", "longformer", "longformer-encoder-decoder"), BYTES_FRAMED),
    **dict.fromkeys(("mpt", "ctrl", "xlnet", "cpmant", "reformer"), ("byte_level", *BARE)),
    **dict.fromkeys(("gemma3", "gemma4"), ("metaspace", "<s> $A", None)),
    "fsmt": ("metaspace", "$A </s>", "$A </s> $B </s>"),
}


def _tokenizer(kind: str, single: str, pair: str | None) -> Any:
    pipeline = Tokenizer.from_str(_trained(kind))
    if single != "$A":
        ids = [(token, pipeline.token_to_id(token)) for token in ("<s>", "</s>")]
        pipeline.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=pipeline, mask_token="<mask>", **NAMED)


def _ids(tokenizer: Any) -> dict[str, int]:
    named = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    return {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, **named}


def _roberta(tokenizer: Any) -> Any:
    sizes = {"intermediate_size": FFN, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}
    return transformers.RobertaForMaskedLM(transformers.RobertaConfig(**COMMON, **sizes, **_ids(tokenizer)))


def _bert(tokenizer: Any) -> Any:
    # F == H: neither attention nor the head's dense layer may be taken for an FFN
    sizes = {"intermediate_size": HIDDEN, "max_position_embeddings": POSITIONS}
    return transformers.BertForMaskedLM(transformers.BertConfig(**COMMON, **sizes, **_ids(tokenizer)))


def _albert(tokenizer: Any) -> Any:
    sizes = {"intermediate_size": FFN, "max_position_embeddings": POSITIONS, "embedding_size": 16}
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    return transformers.AlbertForMaskedLM(transformers.AlbertConfig(**COMMON, **sizes, **dropout, **_ids(tokenizer)))


def _t5(tokenizer: Any, **more: Any) -> Any:
    sizes = {"d_model": HIDDEN, "num_heads": HEADS, "d_kv": 12, "d_ff": FFN, "num_layers": LAYERS}
    config = transformers.T5Config(
        **sizes, num_decoder_layers=2, decoder_start_token_id=tokenizer.pad_token_id, **_ids(tokenizer), **more
    )
    return transformers.T5ForConditionalGeneration(config)


def _t5_gated(tokenizer: Any) -> Any:
    return _t5(tokenizer, feed_forward_proj="gated-gelu", tie_word_embeddings=False, scale_decoder_outputs=False)


def _bart(tokenizer: Any) -> Any:
    sizes = {"encoder_ffn_dim": FFN, "decoder_ffn_dim": 40, "encoder_attention_heads": HEADS, "decoder_layers": 2}
    config = transformers.BartConfig(
        d_model=HIDDEN,
        encoder_layers=LAYERS,
        decoder_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
        decoder_start_token_id=tokenizer.eos_token_id,
        scale_embedding=True,
        **sizes,
        **_ids(tokenizer),
    )
    return transformers.BartForConditionalGeneration(config)


def _gpt2(tokenizer: Any) -> Any:
    sizes = {"n_embd": HIDDEN, "n_head": HEADS, "n_layer": LAYERS, "n_positions": POSITIONS}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **_ids(tokenizer)))


def _opt(tokenizer: Any) -> Any:
    sizes = {"ffn_dim": FFN, "max_position_embeddings": POSITIONS, "word_embed_proj_dim": 16}
    return transformers.OPTForCausalLM(transformers.OPTConfig(**COMMON, **sizes, **_ids(tokenizer)))


def _llama(tokenizer: Any) -> Any:
    sizes = {"intermediate_size": HIDDEN, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}
    config = transformers.LlamaConfig(**COMMON, **sizes, attention_dropout=0.1, **_ids(tokenizer))
    return transformers.LlamaForCausalLM(config)


def _gemma2(tokenizer: Any) -> Any:
    sizes = {"intermediate_size": FFN, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": POSITIONS}
    capping = {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0, "sliding_window": 8}
    config = transformers.Gemma2Config(**COMMON, **sizes, **capping, attention_dropout=0.1, **_ids(tokenizer))
    return transformers.Gemma2ForCausalLM(config)


PLAIN = {"intermediate_size": FFN, "max_position_embeddings": POSITIONS}


def _masked(name: str, tokenizer: Any, **more: Any) -> Any:
    config = getattr(transformers, f"{name}Config")(**{**COMMON, **PLAIN, **_ids(tokenizer), **more})
    return transformers.AutoModelForMaskedLM.from_config(config)


def _causal(name: str, tokenizer: Any, **more: Any) -> Any:
    config = getattr(transformers, f"{name}Config")(**{**_ids(tokenizer), **more})
    return transformers.AutoModelForCausalLM.from_config(config)


def _bert2bert(tokenizer: Any) -> Any:
    encoder = transformers.BertConfig(**COMMON, **PLAIN, **_ids(tokenizer))
    decoder = transformers.BertConfig(**COMMON, **PLAIN, **_ids(tokenizer), is_decoder=True, add_cross_attention=True)
    start = {"decoder_start_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = transformers.EncoderDecoderConfig(encoder=encoder.to_dict(), decoder=decoder.to_dict(), **start)
    return transformers.EncoderDecoderModel(config)


def _fsmt(tokenizer: Any) -> Any:
    sizes = {"d_model": HIDDEN, "encoder_layers": LAYERS, "decoder_layers": 2, "max_position_embeddings": POSITIONS}
    more = {f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in _FSMT_SIDE.items()}
    ids = {**_ids(tokenizer), "decoder_start_token_id": tokenizer.eos_token_id}
    vocabulary = ids.pop("vocab_size")
    words = {"langs": ["en", "de"], "src_vocab_size": vocabulary, "tgt_vocab_size": vocabulary}
    return transformers.FSMTForConditionalGeneration(transformers.FSMTConfig(**sizes, **more, **words, **ids))


_FSMT_SIDE = {"ffn_dim": FFN, "attention_heads": HEADS}


def _longformer_encoder_decoder(tokenizer: Any) -> Any:
    sizes = {"d_model": HIDDEN, "encoder_layers": LAYERS, "decoder_layers": 2, "attention_window": 8}
    more = {f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in _FSMT_SIDE.items()}
    positions = {"max_encoder_position_embeddings": 96, "max_decoder_position_embeddings": 16}
    ids = {**_ids(tokenizer), "decoder_start_token_id": tokenizer.eos_token_id}
    return transformers.LEDForConditionalGeneration(transformers.LEDConfig(**sizes, **more, **positions, **ids))


def _gemma(number: int, tokenizer: Any) -> Any:
    """Gemma 3 as it comes, the text model within one of images; Gemma 4 with token ids in every layer."""
    sizes = {**COMMON, **PLAIN, "num_key_value_heads": 2, "head_dim": 8, **_ids(tokenizer)}
    if number == 4:
        layers = {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8, "global_head_dim": 8}
        vocabulary = {"vocab_size_per_layer_input": len(tokenizer)}
        config: Any = transformers.Gemma4TextConfig(**{**sizes, "num_hidden_layers": 6}, **layers, **vocabulary)
        return transformers.Gemma4ForCausalLM(config)
    seeing = {**COMMON, "intermediate_size": FFN, "image_size": 28, "patch_size": 14}
    config = transformers.Gemma3Config(text_config=sizes, vision_config=seeing, mm_tokens_per_image=4)
    return transformers.Gemma3ForConditionalGeneration(config)


_DECODER = {"n_embd": HIDDEN, "n_head": HEADS, "n_layer": LAYERS, "n_positions": POSITIONS}
_BILLION = {"hidden_size": HIDDEN, "embedding_size": 16, "true_hidden_size": HIDDEN, "intra_bottleneck_size": HIDDEN}
_NYSTROM = {"num_landmarks": 8, "segment_means_seq_len": 8}
_PROTEIN = {"token_dropout": True, "mask_token_id": 4, "position_embedding_type": "rotary"}
_AXES = {"axial_pos_shape": (8, 8), "axial_pos_embds_dim": (16, 16), "is_decoder": True, "attn_layers": ["local"] * 2}

MODELS: dict[str, Callable[[Any], Any]] = {
    "roberta": _roberta,
    "bert": _bert,
    "albert": _albert,
    "t5": _t5,
    "t5_gated": _t5_gated,
    "bart": _bart,
    "gpt2": _gpt2,
    "opt": _opt,
    "llama": _llama,
    "gemma2": _gemma2,
}
ARCHITECTURES = tuple(MODELS)

# architectures of which one thing is unusual: how positions, padding or token ids reach the scores
MODELS |= {
    "roberta-causal": lambda t: _causal(
        "Roberta", t, **COMMON, **{**PLAIN, "max_position_embeddings": POSITIONS + 2}, is_decoder=True
    ),
    "mobilebert": lambda t: _masked("MobileBert", t, **_BILLION),
    "roformer": lambda t: _masked("RoFormer", t),
    "longformer": lambda t: _masked("Longformer", t, attention_window=8, max_position_embeddings=POSITIONS + 2),
    "nystromformer": lambda t: _masked("Nystromformer", t, **_NYSTROM, conv_kernel_size=1),
    "nystromformer-conv": lambda t: _masked("Nystromformer", t, **_NYSTROM, conv_kernel_size=5),
    "mra": lambda t: _masked("Mra", t),
    "esm": lambda t: _masked("Esm", t, **_PROTEIN),
    "fnet": lambda t: _masked("FNet", t),
    "ibert": lambda t: _masked("IBert", t),
    "mpt": lambda t: _causal("Mpt", t, d_model=HIDDEN, n_heads=HEADS, n_layers=LAYERS, max_seq_len=POSITIONS),
    "ctrl": lambda t: _causal("CTRL", t, **_DECODER, dff=FFN),
    "xlnet": lambda t: _causal("XLNet", t, d_model=HIDDEN, n_layer=LAYERS, n_head=HEADS, d_inner=FFN),
    "cpmant": lambda t: _causal("CpmAnt", t, **COMMON, dim_head=8, dim_ff=FFN),
    "reformer": lambda t: _causal("Reformer", t, **COMMON, **_AXES, attention_head_size=8, feed_forward_size=FFN),
    "bert2bert": _bert2bert,
    "fsmt": _fsmt,
    "longformer-encoder-decoder": _longformer_encoder_decoder,
    "gemma3": lambda t: _gemma(3, t),
    "gemma4": lambda t: _gemma(4, t),
}
