import json

import pytest
import safetensors.torch
import torch

from skillneurons.errors import InputError
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.storage import write_atomically

CARD = {"task": {}, "label_words": {}, "backbone": {}, "placement": "suffix"}


def test_a_saved_prompt_comes_back_bit_for_bit(tmp_path):
    prompt = SoftPrompt(torch.randn(5, 7), CARD)
    prompt.save(tmp_path / "prompt")
    again = SoftPrompt.load(tmp_path / "prompt")
    assert torch.equal(again.embeddings, prompt.embeddings)
    assert again.card["placement"] == "suffix"
    assert again.fingerprint == prompt.fingerprint
    assert list(safetensors.torch.load_file(tmp_path / "prompt/prompt.safetensors")) == ["prompt"]


def test_another_tensor_under_the_same_card_is_refused(tmp_path):
    SoftPrompt(torch.randn(5, 7), CARD).save(tmp_path)
    safetensors.torch.save_file({"prompt": torch.randn(5, 7)}, tmp_path / "prompt.safetensors")
    with pytest.raises(InputError, match="matches its card"):
        SoftPrompt.load(tmp_path)


@pytest.mark.parametrize("name", ["prompt.json", "prompt.safetensors"])
def test_half_a_folder_is_refused(tmp_path, name):
    SoftPrompt(torch.zeros(2, 3), CARD).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=name):
        SoftPrompt.load(tmp_path)


def test_a_card_without_its_backbone_is_refused(tmp_path):
    SoftPrompt(torch.zeros(2, 3), CARD).save(tmp_path)
    card = json.loads((tmp_path / "prompt.json").read_text())
    del card["backbone"]
    (tmp_path / "prompt.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="backbone"):
        SoftPrompt.load(tmp_path)


@pytest.mark.parametrize("tensor", [torch.zeros(3), torch.zeros(1, 2, 3), torch.full((2, 2), float("nan"))])
def test_what_is_not_a_prompt(tensor):
    with pytest.raises(ValueError, match="finite"):
        SoftPrompt(tensor)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "state"
    write_atomically(file, b"old")

    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, b"new and longer")
    assert file.read_bytes() == b"old"
