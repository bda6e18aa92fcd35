"""`pretrain` from end to end on a corpus of a few hundred made sentences."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from skillneurons import cli
from skillneurons.backbones import loading
from skillneurons.backbones.base import TextBatch
from skillneurons.backbones.loading import describe
from skillneurons.pretrain.model_card import check_model

NAMES = ("tiny-roberta", "tiny-t5")
RECIPE = {
    "recipe": "pretrain",
    "version": 1,
    "vocabulary_size": 420,
    "words": ["negative", "positive", "no", "yes"],
    "size": {"hidden": 16, "layers": 1, "heads": 2, "ffn": 32, "positions": 192},
    "models": {
        NAMES[0]: {"family": "masked_lm", "activation": "gelu", "learning_rate": 0.01, "embedding_std": 0.1},
        NAMES[1]: {
            "family": "encoder_decoder",
            "activation": "relu",
            "learning_rate": 0.01,
            "embedding_std": 1.0,
            "decoder_layers": 1,
        },
    },
    "corpus": ["films", "pairs"],
    "text": {"length": 32},
    "supervised": {
        "share": 0.5,
        "tasks": {
            "films": {
                "share": 1,
                "window": [4, 30],
                "forms": [
                    {"text": "{gap} | {a}", "words": ["negative", "positive"]},
                    {"text": "{a} that is {gap} .", "words": ["no", "yes"]},
                ],
            }
        },
    },
    "probes": {"pairs": {"forms": [{"text": "{gap} | {a} {sep} {b}", "words": ["no", "yes"]}]}},
    "train": {"steps": 40, "tokens_per_step": 256, "warmup_steps": 4, "eval_every": 20},
}
GOOD, BAD = ["fine", "lovely", "bright"], ["dull", "dire", "grey"]
OTHER = ["the", "a", "film", "plot", "cast", "so", "very", "it", "was", "and"]


def sentence(draw: random.Random, tone: list[str]) -> str:
    return " ".join(draw.choice(tone if draw.random() < 0.3 else OTHER) for _ in range(draw.randint(5, 14))) + " ."


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("pretrain"), random.Random(0)
    films = [(sentence(draw, (BAD, GOOD)[y]), None, y) for y in [0, 1] * 400]
    pairs = [(sentence(draw, GOOD), sentence(draw, BAD), n % 2) for n in range(400)]
    for name, rows in (("films/train", films), ("pairs/train", pairs), ("films/dev", films[:20])):
        file = folder / f"corpus/{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"text_a": a, "text_b": b, "label": y}) for a, b, y in rows]
        file.write_text("\n".join(lines) + "\n")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


@pytest.fixture(autouse=True)
def place(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLNEURONS_STATE", str(ground / "state"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{ground}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(ground)


def words(**more: object) -> list[str]:
    given = {"corpus": "corpus", "recipe": "tiny.yaml", "threads": 1, "device": "cpu", **more}
    return ["pretrain", *(f"--{key}={value}" for key, value in given.items())]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def made(ground: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKILLNEURONS_STATE", str(ground / "state"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{ground}/mlflow.db")
        patch.chdir(ground)
        assert cli.main(words(out="out")) == 0
    return ground / "out"


def test_a_pair_is_made_and_its_cards_hold(made: Path) -> None:
    for name in NAMES:
        facts = check_model(made / name)
        assert facts is not None
        assert facts["text_tokens"] >= 40 * 250
        assert [source["name"] for source in facts["corpus"]["sources"]] == ["films/train", "pairs/train"]
        assert facts["corpus"]["sources"][0]["dropped"]["a text of an evaluation file"] == 20
        assert list(facts["corpus"]["kept_out"]) == ["films/dev"]
        text = (made / name / "README.md").read_text()
        for said in ("## Data", "## Limits", facts["corpus"]["sources"][0]["sha256"], "| pairs | no |"):
            assert said in text
        row_losses = [loss for _, _, loss in facts["losses"]]
        assert row_losses[-1] < row_losses[0]
        assert all(value.dtype == torch.float16 for value in weights(made / name).values())
    (made / NAMES[0] / "config.json").touch()
    assert check_model(made / NAMES[0])


def test_both_were_taught_the_same(made: Path) -> None:
    first, second = (check_model(made / name) for name in NAMES)
    assert first
    assert second
    assert first["text_tokens"] == second["text_tokens"]
    tokenizers = [json.loads((made / name / "tokenizer.json").read_text())["model"] for name in NAMES]
    assert tokenizers[0] == tokenizers[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_made_model_is_a_backbone(made: Path, name: str) -> None:
    info = describe(str(made / name))
    backbone = loading.load(info, device="cpu", dtype=torch.float32)
    assert all(value.dtype == torch.float32 for value in backbone.model.parameters())
    found = info.label_words(["negative", "positive"])
    assert found.pieces == ("Ġnegative", "Ġpositive")
    ids = info.encode([("A LOVELY film .",), ("dull",)], 32)
    assert ids[0] == info.encode([("a lovely film .",)], 32)[0]
    batch: TextBatch = info.collate(ids)
    scores = backbone.label_scores(torch.zeros(3, info.embedding_width), batch, found)
    assert scores.shape == (2, 2)
    assert torch.isfinite(scores).all()


def test_a_second_command_finds_the_first(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights(made / NAMES[1])
    (made / NAMES[1] / "model.safetensors").unlink()
    assert cli.main(words(out="out")) == 0
    assert "has finished as run" in capsys.readouterr().out
    assert all(torch.equal(value, before[key]) for key, value in weights(made / NAMES[1]).items())
    assert cli.main(words(out="other", models=NAMES[0])) == 0
    assert f"{NAMES[0]}  finished as run" in capsys.readouterr().out
    assert check_model(made.parent / "other" / NAMES[0])


def test_killed_and_resumed_it_ends_bit_identical(made: Path, ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLNEURONS_STATE", str(ground / "killed"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{ground}/killed.db")
    command = [sys.executable, "-m", "skillneurons", *words(out="resumed", save_every=1)]
    paths = os.pathsep.join([str(Path(cli.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
    step = _wait_for_step(process, ground / "killed/checkpoints")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < step < 40
    assert not (ground / "resumed" / NAMES[0]).exists()
    assert cli.main(words(out="resumed", save_every=1)) == 0
    for name in NAMES:
        whole, resumed = weights(made / name), weights(ground / "resumed" / name)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
        first, second = (check_model(folder / name) for folder in (made, ground / "resumed"))
        assert first
        assert second
        assert first["losses"] == second["losses"]
        assert first["measured"] == second["measured"]


def _wait_for_step(process: subprocess.Popen[bytes], folder: Path) -> int:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, "the training ended before it was killed"
        for file in folder.glob("*.pt"):
            if step := int(torch.load(file, weights_only=True)["step"]):
                return step
        time.sleep(0.01)
    raise AssertionError("no checkpoint")


def test_dry_run_says_what_it_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(dry_run="true", steps=7)) == 0
    said = capsys.readouterr().out
    assert "7 steps of 256 tokens" in said
    assert "2 train splits" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"corpus": "nowhere"}, "corpus is a folder; got nowhere"),
        ({"recipe": "none.yaml"}, "A recipe's path must be a YAML file; got none.yaml"),
        ({"models": "tiny-bert"}, "models are models of the recipe; got tiny-bert. There are: tiny-roberta"),
        ({"steps": 0}, "steps must be greater than or equal to 1"),
    ],
)
def test_mistakes_in_the_command(given: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(**given)) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"corpus": ["films", "pairs", "advglue"]}, "only train splits are trained on"),
        ({"corpus": ["films"]}, "pairs is not"),
        ({"words": ["negative"]}, "words lists every word that fills a gap: no, positive, yes"),
        ({"vocabulary_size": 100}, "vocabulary_size"),
        ({"recipe": "other"}, "recipe"),
        ({"colour": 1}, "colour"),
    ],
)
def test_mistakes_in_the_recipe(
    change: dict[str, object], said: str, ground: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ground / "wrong.yaml").write_text(yaml.safe_dump({**RECIPE, **change}))
    assert cli.main(words(recipe="wrong.yaml")) == 2
    assert said in " ".join(capsys.readouterr().err.split())
