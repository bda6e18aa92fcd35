"""Model folders with one fault each, as downloads, copies and edits leave them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 548105171\n"
Spoil = Callable[[Path], None]


def writing(name: str, content: bytes) -> Spoil:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def cutting(name: str, keep: float) -> Spoil:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return cut


def configuring(**changes: Any) -> Spoil:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def after(first: Spoil, then: Spoil) -> Spoil:
    def both(folder: Path) -> None:
        first(folder)
        then(folder)

    return both


def as_bin(folder: Path) -> None:
    """The weights in PyTorch's own format."""
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_shards(folder: Path) -> None:
    """The weights in several files and an index of them."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def without(pattern: str) -> Spoil:
    return lambda folder: sorted(folder.glob(pattern))[0].unlink()


def with_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Spoil:
    def rewrite(folder: Path) -> None:
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        change(weights)
        safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return rewrite


def cast(dtype: torch.dtype) -> Spoil:
    key = "roberta.encoder.layer.1.output.dense.weight"
    return with_weights(lambda weights: weights.update({key: weights[key].to(dtype)}))


def with_a_token(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(folder)


def a_folder_in_place(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def not_a_number(weights: dict[str, torch.Tensor]) -> None:
    weights["roberta.embeddings.word_embeddings.weight"][7] = float("nan")


def write_gguf(file: Path) -> Path:
    """A file of the GGUF format with one tensor."""
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.ones((64, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


# what is seen before a model is loaded: the fault, and what the message must say
SEEN: dict[str, tuple[Spoil, str]] = {
    "a pointer": (writing("model.safetensors", POINTER), "git-LFS pointer in its place. Run `git lfs pull`"),
    "half a file": (cutting("model.safetensors", 0.5), r"got \d+ bytes of \d+\. Fetch the file again"),
    "all but a byte": (cutting("model.safetensors", 0.99999), r"got \d+ bytes of \d+"),
    "half a header": (cutting("model.safetensors", 0.01), "cut off, or not of safetensors"),
    "a page": (writing("model.safetensors", b"<!DOCTYPE html>" * 9), "cut off, or not of safetensors"),
    "an empty file": (writing("model.safetensors", b""), "an empty file"),
    "a folder": (a_folder_in_place, r"model\.safetensors is there and whole; got IsADirectoryError"),
    "a pointer of PyTorch": (after(as_bin, writing("pytorch_model.bin", POINTER)), "git-LFS pointer"),
    "half a file of PyTorch": (after(as_bin, cutting("pytorch_model.bin", 0.5)), "cut off, or not PyTorch's"),
    "an empty file of PyTorch": (after(as_bin, writing("pytorch_model.bin", b"")), "an empty file"),
    "a lost shard": (
        after(as_shards, without("model-*.safetensors")),
        r"model-00001-of-\d+\.safetensors is there and whole; got FileNotFoundError",
    ),
    "a cut shard": (after(as_shards, cutting("model-00002-of-00005.safetensors", 0.5)), r"got \d+ bytes of \d+"),
    "a lost index": (after(as_shards, without("*.index.json")), "or the index of their parts; got only model-00001"),
    "a cut index": (after(as_shards, cutting("model.safetensors.index.json", 0.5)), "maps weights to files"),
    "an index of nothing": (
        after(as_shards, writing("model.safetensors.index.json", b"[]")),
        "maps weights to files",
    ),
    "half a configuration": (cutting("config.json", 0.5), "the configuration in .* can be read"),
    "an empty configuration": (writing("config.json", b""), "the configuration in .* can be read"),
    "a configuration of bytes": (writing("config.json", b"\xff\xfe\x00{"), "the configuration in .* can be read"),
    "a list for a configuration": (writing("config.json", b"[1, 2]"), "the configuration in .* can be read"),
    "a word for a number": (configuring(num_hidden_layers="three"), "config"),
    "heads that do not fit": (
        configuring(num_attention_heads=5),
        "can be built and run on embeddings; got ValueError",
    ),
    "half a tokenizer": (cutting("tokenizer.json", 0.5), "the tokenizer in .* can be read"),
    "an empty tokenizer": (writing("tokenizer.json", b""), "the tokenizer in .* can be read"),
    "a list for a tokenizer": (writing("tokenizer.json", b"[]"), "the tokenizer in .* can be read"),
    "half a tokenizer's settings": (cutting("tokenizer_config.json", 0.5), "the tokenizer in .* can be read"),
    "weights packed by gptq": (
        configuring(quantization_config={"quant_method": "gptq", "bits": 4}),
        "plain, or what they are packed with works here; got ImportError",
    ),
    "weights packed by bitsandbytes": (
        configuring(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "plain, or what they are packed with works here; got ImportError",
    ),
    "weights packed by nobody": (
        configuring(quantization_config={"quant_method": "nobody"}),
        "plain, or what they are packed with works here; got ValueError",
    ),
    "attention that is not installed": (
        configuring(attn_implementation="flash_attention_2"),
        "can be built and run on embeddings; got ImportError",
    ),
    "a token without an embedding": (with_a_token, r"embedding for every token of its tokenizer; got \d+ .*'<new>'"),
    "fewer layers than weights": (
        configuring(num_hidden_layers=2),
        r"has all layers of the weights; got none for roberta\.encoder\.layer\.2\.attention",
    ),
    "more layers than weights": (
        configuring(num_hidden_layers=4),
        r"all layers of the architecture in config\.json; got none for roberta\.encoder\.layer\.3\.",
    ),
    "another width": (
        configuring(intermediate_size=40),
        r"layer\.\d\.intermediate\.dense\.\w+ is a float tensor \[40.*\], as config\.json has it; got F32 \[48",
    ),
    "weights of whole numbers": (cast(torch.int8), r"layer\.1\.output\.dense\.weight is a float tensor .*got I8"),
    "weights of eight bits": (cast(torch.float8_e4m3fn), r"is a float tensor .*got F8_E4M3"),
}

# what loading alone can see
LOADED: dict[str, tuple[Spoil, str]] = {
    "not a number": (with_weights(not_a_number), r"NaN or infinity in roberta\.embeddings\.word_embeddings\.weight"),
    "fewer layers than weights": (
        after(as_bin, configuring(num_hidden_layers=2)),
        r"has all layers of the weights; got none for roberta\.encoder\.layer\.2\.",
    ),
    "more layers than weights": (
        after(as_bin, configuring(num_hidden_layers=4)),
        r"hold all weights of its roberta language model; got none for roberta\.encoder\.layer\.3\.",
    ),
    "another width": (after(as_bin, configuring(intermediate_size=40)), "the weights of .* can be loaded; got"),
    "a pickle of nothing": (
        after(as_bin, writing("pytorch_model.bin", b"\x80\x02nothing")),
        "the weights of .* can be loaded; got",
    ),
}
