"""A tiny random model of every type that transformers maps to a language model with a vocabulary head.

A type's own default configuration is taken and every size in it that is known by name made small, in nested
configurations too; `MORE` has what a type needs besides. F is a width that nothing else has, so that a
weight's shape tells what it is.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING

import tiny_models
from skillneurons.backbones.loading import ARCHITECTURES, AUTO_CLASSES
from skillneurons.backbones.tokenization import Family

# F of an encoder or an only stack, F of a decoder beside an encoder
FFN, DECODER_FFN = 48, 40
HIDDEN, HEADS, LAYERS = 32, 4, 4
SIZES: tuple[tuple[int, str], ...] = (
    (
        HIDDEN,
        "hidden_size d_model n_embd dim emb_dim embed_dim embedding_size word_embed_proj_dim true_hidden_size "
        "lru_width embedding_rank input_embedding_size output_embedding_size d_latents prediction_head_size "
        "emb_size d_embed cross_attention_hidden_size backbone_hidden_size dim_model_base pronunciation_embed_dim "
        "shape_embed_dim entity_emb_size",
    ),
    (
        FFN,
        "intermediate_size encoder_ffn_dim d_ff ffn_dim n_inner dim_ff dff feed_forward_size ffn_hidden_size d_inner "
        "hidden_dim speech_encoder_intermediate_size dense_intermediate_size",
    ),
    (DECODER_FFN, "decoder_ffn_dim"),
    (16, "chunk_size mamba_chunk_size"),
    (
        HEADS,
        "num_attention_heads num_heads n_head n_heads encoder_attention_heads decoder_attention_heads "
        "num_encoder_attention_heads num_decoder_attention_heads linear_num_key_heads linear_num_value_heads "
        "num_self_attention_heads num_cross_attention_heads speech_encoder_attention_heads index_n_heads "
        "n_routed_experts num_experts num_local_experts moe_num_experts",
    ),
    (
        LAYERS,
        "num_hidden_layers num_layers n_layer n_layers encoder_layers num_encoder_layers num_layers_per_stack "
        "num_self_attends_per_block",
    ),
    (3, "decoder_layers num_decoder_layers"),
    (
        2,
        "num_key_value_heads num_kv_heads kv_n_heads speech_encoder_layers t2u_encoder_layers t2u_decoder_layers "
        "num_global_key_value_heads num_experts_per_tok n_group topk_group moe_k",
    ),
    (
        8,
        "head_dim d_kv attention_head_size qk_nope_head_dim qk_rope_head_dim v_head_dim linear_key_head_dim "
        "linear_value_head_dim global_head_dim attention_head_dim kv_lora_rank q_lora_rank index_head_dim "
        "kv_channels hidden_size_per_layer_input laurel_rank o_lora_rank gated_norm_rank",
    ),
    (
        20,
        "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size "
        "moe_shared_expert_intermediate_size",
    ),
    (
        64,
        "max_position_embeddings n_positions context_length max_source_positions max_target_positions n_ctx "
        "max_encoder_position_embeddings max_decoder_position_embeddings sliding_window attention_window_size "
        "original_max_position_embeddings seq_length max_seq_len",
    ),
)
SMALL = {name: value for value, names in SIZES for name in names.split()}

# what a configuration of a type needs besides, in its own terms
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
HYBRID = {"num_hidden_layers": 6, "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2}
MORE: dict[str, dict[str, Any]] = {
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    "dots1": {"n_routed_experts": 4},
    "dots3_note_text": {"num_key_value_heads": HEADS},
    "encoder-decoder": {"decoder": {"is_decoder": True, "add_cross_attention": True}},
    "esmc": {"num_key_value_heads": HEADS},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "fsmt": {"langs": ["en", "de"], "src_vocab_size": 600, "tgt_vocab_size": 600},
    "gemma3n_text": {
        "intermediate_size": [FFN] * LAYERS,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": 600,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    },
    "gemma4_text": {"vocab_size_per_layer_input": 600},
    "gptj": {"rotary_dim": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "granitemoehybrid": MAMBA,
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "led": {"attention_window": 8},
    "longformer": {"attention_window": 8},
    "luke": {"entity_vocab_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
    "minicpm3": {"num_key_value_heads": HEADS},
    "ministral": {"head_dim": 8},
    "mobilebert": {"intra_bottleneck_size": HIDDEN},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "neomme": {"num_attention_heads": 2, "head_dim": 16},
    "pegasus_x": {"block_size": 8, "num_global_tokens": 4},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"] * 2},
    "xmod": {"default_language": "en_XX"},
    "youtu": {"num_key_value_heads": HEADS},
    "zamba": HYBRID,
    "zamba2": {**HYBRID, "mamba_headdim": 8, "n_mamba_heads": 8, "mamba_d_state": 8},
    "zaya": {"num_experts_per_tok": 1},
}


def types() -> Iterator[tuple[Family, str]]:
    """Every family and type of transformers' three mappings."""
    for family, names in ARCHITECTURES.items():
        for name in names:
            yield family, name


def config(family: Family, name: str, tokenizer: Any) -> Any:
    """A tiny configuration of a type, as it would be saved with a model of that family."""
    made = CONFIG_MAPPING[name]()
    with suppress(Exception):  # sizes that must agree with others: as large as it is by default
        made = CONFIG_MAPPING[name](**_small(made, tokenizer))
    classes = ARCHITECTURES[family][name]
    made.architectures = [classes if isinstance(classes, str) else classes[0]]
    if family == "decoder_only" and hasattr(made, "is_decoder"):
        made.is_decoder, made.is_encoder_decoder = True, False
    return made


def _small(default: Any, tokenizer: Any) -> dict[str, Any]:
    """Keyword arguments that make a configuration of this class tiny."""
    values: dict[str, Any] = {}
    ids = tiny_models._ids(tokenizer)
    for key, value in default.to_dict().items():
        if (key in SMALL and value and isinstance(value, int)) or key == "n_inner":
            values[key] = SMALL[key]
        elif key in ids or key == "decoder_start_token_id":
            values[key] = ids.get(key, tokenizer.pad_token_id)
        elif key.endswith(("_token_id", "_token_index")) and isinstance(value, int) and value >= len(tokenizer):
            values[key] = tokenizer.mask_token_id  # placeholders of images and sounds
    for key in getattr(default, "sub_configs", {}):
        part = getattr(default, key, None)
        if hasattr(part, "model_type"):
            values[key] = {**_small(part, tokenizer), "model_type": part.model_type}
    for key, value in MORE.get(default.model_type, {}).items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
    return values


def write_config(family: Family, name: str, folder: Path) -> Any:
    """Write what `describe` reads: configuration, tokenizer and an empty file for the weights."""
    tokenizer = tiny_models._tokenizer(*TOKENIZERS[family])
    made = config(family, name, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").touch()
    return made


def write_model(family: Family, made: Any, folder: Path) -> None:
    """Write a model with random weights beside them."""
    torch.manual_seed(0)
    model = AUTO_CLASSES[family].from_config(made).eval()
    tiny_models._randomise(model, 0)
    model.save_pretrained(folder)


# as the family's best known architecture has it
TOKENIZERS = {
    "masked_lm": tiny_models.TOKENIZERS["roberta"],
    "encoder_decoder": tiny_models.TOKENIZERS["t5"],
    "decoder_only": tiny_models.TOKENIZERS["gpt2"],
}
