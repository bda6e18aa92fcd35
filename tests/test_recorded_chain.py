"""Every address, table and array of a chain on tiny models, beside what `recorded_chain.json` holds of it.

`python tests/test_recorded_chain.py` writes the file anew: only where a change of a computed number is meant, and
then the method's version changes with it. It holds what the code gave while all modules stood in one folder, with
the formulas that scipy and scikit-learn have taken over since (false discovery rate, hypergeometric weights, AUC)
put in: those end in other bits, and are compared with independent ones in stats/test_neuron_tests.py.

Arrays and columns are held as digests of their bytes, so the chain runs in a process of its own whose libraries are
told to use the instructions that every such processor has (`PLAIN`), whatever the machine and wherever its memory
lies. Where a gradient of the bare model differs even so, from another build of torch, what stays to be compared are
the names of runs, metrics and files, columns and shapes, and the test says so.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from transformers import AutoModel

from conftest import ROOT, environment, words
from skillneurons.cli import main
from skillneurons.tracking import runs
from spared import spare_what_repeats
from tiny_models import build
from tracked import client, every_run, stored

RECORD = Path(__file__).with_name("recorded_chain.json")
ARCHITECTURES = ("roberta", "t5", "gpt2")
TASKS = ("film_notes", "meal_notes")
TUNE = {
    "max_steps": "12",
    "eval_every": "6",
    "prompt_length": "4",
    "max_length": "32",
    "max_train_rows": "64",
    "max_eval_rows": "33",
    "batch_size": "8",
    "learning_rate": "0.05",
    "device": "cpu",
}
DISCOVER = {"max_train_rows": "48", "max_dev_rows": "60", "permutations": "100", "device": "cpu"}
SUPPRESS = {"rates": "5,20", "controls": "3", "max_eval_rows": "33", "device": "cpu"}
ROBUSTNESS = {"rates": "20", "controls": "3", "permutations": "30", "max_eval_rows": "33", "device": "cpu"}
TRANSFER = {"random_prompts": "2", "max_eval_rows": "33", "top": "10", "device": "cpu"}
PLAIN = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
CLOCKS = ("seconds", "memory", "per_second")
ADDRESSED = ("address", "fingerprint", "data", "backbone", "dev_rows", "version")


def digest(values: np.ndarray) -> str:
    # text has no bytes of its own, and -0.0 is 0.0
    plain = values.dtype.kind in "OUSb"
    raw = json.dumps(values.tolist(), default=str).encode() if plain else np.ascontiguousarray(values + 0).tobytes()
    return hashlib.sha256(raw).hexdigest()[:16]


def column(values: pd.Series) -> list:
    return [digest(values.to_numpy()), len(values)]


def frame(of: pd.DataFrame) -> dict[str, list]:
    return {str(name): column(of[name]) for name in of.columns if not any(clock in str(name) for clock in CLOCKS)}


def content(path: Path) -> dict[str, object] | None:
    """What a file holds that a computation made; nothing of pictures, pages and cards of folders."""
    if path.suffix == ".safetensors":
        arrays = safetensors.numpy.load_file(path)
        return {name: [digest(array), *array.shape] for name, array in sorted(arrays.items())}
    if path.suffix == ".parquet":
        return dict(frame(pd.read_parquet(path)))
    if path.suffix == ".json":
        held = json.loads(path.read_text())
        if isinstance(held, dict) and set(held) == {"columns", "data"}:
            return dict(frame(pd.DataFrame(**held)))
    return None


def files(run, folder: str = "") -> list[str]:
    found = []
    for item in client().list_artifacts(run.info.run_id, folder):
        found += files(run, item.path) if item.is_dir else [item.path]
    return sorted(found)


def held(run) -> dict[str, object]:
    tags = {
        name.removeprefix("skillneurons."): value
        for name, value in run.data.tags.items()
        if name.startswith("skillneurons.") and name.removeprefix("skillneurons.") in ADDRESSED
    }
    metrics = {name: value for name, value in run.data.metrics.items() if not any(clock in name for clock in CLOCKS)}
    contents = {path: content(stored(run, path)) for path in files(run) if not path.startswith("model/")}
    return {
        "tags": tags,
        "metrics": dict(sorted(metrics.items())),
        "files": {path: made for path, made in contents.items() if made},
    }


def ask(entry: str, **parameters: object) -> str:
    before = {run.info.run_id for run in every_run()}
    assert main(words(entry, **parameters)) == 0
    new = [run for run in every_run() if run.info.run_id not in before]
    (top,) = [run for run in new if "mlflow.parentRunId" not in run.data.tags]
    return f"runs:/{top.info.run_id}"


def chain(model: Path) -> dict[str, object]:
    """The five commands on two tasks; what each run holds, by the command and the run's name."""
    prompts = {task: ask("tune", model=model, task=task, seeds="0,1", **TUNE) for task in TASKS}
    neurons = {task: ask("discover", prompts=made, **DISCOVER) for task, made in prompts.items()}
    one = {"prompts": prompts["film_notes"], "neurons": neurons["film_notes"]}
    ask("suppress", **one, other_tasks=prompts["meal_notes"], **SUPPRESS)
    ask("robustness", **one, adversarial="adv_film_notes", **ROBUSTNESS)
    ask("transfer", prompts=",".join(prompts.values()), neurons=",".join(neurons.values()), **TRANSFER)
    made: dict[str, object] = {}
    for run in every_run():
        key = f"{run.data.tags['skillneurons.stage']} · {run.info.run_name}"
        assert key not in made
        made[key] = held(run)
    return dict(sorted(made.items()))


def outline(made: dict) -> dict:
    """What no rounding decides: the names of runs, metrics and files; columns, rows and shapes."""
    return {
        key: {
            "tags": sorted(run["tags"]),
            "metrics": sorted(run["metrics"]),
            "files": {path: {name: value[1:] for name, value in file.items()} for path, file in run["files"].items()},
        }
        for key, run in made.items()
    }


def rounding(model: Path) -> str:
    """A gradient of the model by its own library: where this differs, so does every float after it."""
    loaded = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    given = torch.arange(24).reshape(2, 12) + 5
    fed = {"input_ids": given, "attention_mask": torch.ones_like(given)}
    if loaded.config.is_encoder_decoder:
        fed["decoder_input_ids"] = given
    out = loaded(**fed).last_hidden_state
    out.log_softmax(-1)[..., 0].sum().backward()
    return digest(loaded.get_input_embeddings().weight.grad.numpy())


def recording(architecture: str, place: Path) -> dict[str, object]:
    model = build(architecture, place / f"tiny-{architecture}")
    return json.loads(json.dumps({"rounding": rounding(model), "runs": chain(model)}))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, dict]:
    """The chain as it is now, by architecture."""
    into = tmp_path_factory.mktemp("chain") / "made.json"
    called = [sys.executable, __file__, str(into)]
    ran = subprocess.run(called, env=plain(), capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(into.read_text(encoding="utf-8"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_chain_gives_what_it_gave(architecture, made):
    now, before = made[architecture], json.loads(RECORD.read_text(encoding="utf-8"))[architecture]
    assert outline(now["runs"]) == outline(before["runs"])
    if now["rounding"] != before["rounding"]:
        pytest.skip("this machine rounds otherwise than the one that recorded: only names and shapes were compared")
    for key, run in before["runs"].items():
        for part, expected in run.items():
            got = now["runs"][key][part]
            assert {name: got[name] for name in expected if got[name] != expected[name]} == {}, (key, part)


def plain() -> dict[str, str]:
    return environment(PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}", **PLAIN)


if __name__ == "__main__":
    if not PLAIN.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], plain())
    whole = {}
    runs.write = lambda figure, path: Path(path).touch()  # of pictures nothing is recorded
    with tempfile.TemporaryDirectory() as place:
        spare_what_repeats(Path(place) / "fresh.db")
        for name in ARCHITECTURES:
            folder = Path(place) / name
            folder.mkdir()
            os.chdir(folder)
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
            whole[name] = recording(name, folder)
        os.chdir("/")
    text = json.dumps(whole, separators=(",", ":"), sort_keys=True, indent=0) + "\n"
    (Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD).write_text(text, encoding="utf-8")
