"""A file imports only from floors below it or its own, and MLflow is known on one floor alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import skillneurons
from conftest import environment

PACKAGE = Path(skillneurons.__file__).parent

FLOORS = {
    1: "errors yaml_text fingerprints statistics mcnemar tasks sources data prompts overlap corpus grammar "
    "builtin builtin_adversarial "
    "builtin_sentiment builtin_sentiment_words builtin_paraphrase builtin_paraphrase_words "
    "builtin_nli builtin_nli_forms builtin_nli_words builtin_ethics builtin_ethics_words "
    "neurons selection significance contrast effect resampling paired pairing consistency restoration "
    "matrix mantel similarity",
    2: "backbone masked_lm encoder_decoder decoder_only taps sites tokens special_tokens layout references loading "
    "acceptance vocabulary weight_files",
    3: "encoding evaluation initialisation tuning estimate figures checkpoints recipes objectives cloze "
    "token_corpus cooccurrence pair lessons pretraining stream null discovery predictivity stability neuron_cards "
    "neuron_figures suppression chosen robustness_figures transfer_figures search_space search_ledger "
    "search_study search_figures",
    4: "tracking registry served_prompt views",
    5: "config display launching tune_plan tune_report tune_seed stage_tune stage_main pretrain_plan "
    "pretrain_card stage_pretrain discover_plan discover_report stage_discover "
    "subjects measuring suppress_plan suppress_report stage_suppress "
    "robustness_plan robustness_measure robustness_set robustness_tables robustness_report stage_robustness "
    "transfer_plan transfer_cells transfer_families transfer_panels transfer_report stage_transfer "
    "search_plan search_trial search_worker search_report search_final stage_search cli __main__",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> dict[str, set[str]]:
    files = {path.stem: path for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    assert files, "no module found"
    return {name: imports_of(path) for name, path in files.items()}


def inner(imported: set[str]) -> set[str]:
    parts = {name.split(".")[1] for name in imported if name.startswith("skillneurons.")}
    return parts & FLOOR_OF.keys()


def test_every_module_has_a_floor():
    assert set(modules()) == set(FLOOR_OF)


def test_no_floor_is_jumped():
    compared, jumps = 0, []
    for name, imported in modules().items():
        for other in inner(imported):
            compared += 1
            if FLOOR_OF[other] > FLOOR_OF[name]:
                jumps.append(f"{name} (floor {FLOOR_OF[name]}) imports {other} (floor {FLOOR_OF[other]})")
    assert compared > 20
    assert not jumps


def test_only_tracking_imports_mlflow():
    users = {name for name, found in modules().items() if any(i.split(".")[0] == "mlflow" for i in found)}
    assert users
    assert {FLOOR_OF[name] for name in users} == {4}


def test_only_one_module_reads_yaml():
    """PyYAML by itself follows YAML 1.1, in which 1e-3 is text and no is a boolean."""
    users = {name for name, found in modules().items() if any(i.split(".")[0] == "yaml" for i in found)}
    assert users == {"yaml_text"}


def texts_without_encoding(path: Path) -> list[str]:
    """Calls that read or write text in whatever encoding the machine has: on Windows not UTF-8."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        modes = [arg.value for arg in (*node.args, given.get("mode")) if isinstance(arg, ast.Constant)]
        binary = any(isinstance(mode, str) and re.fullmatch(r"[rwxa+]*b[rwxa+]*", mode) for mode in modes)
        opens = name in ("read_text", "write_text") or (name in ("open", "fdopen") and not binary)
        asks = any(isinstance(given.get(key), ast.Constant) for key in ("text", "universal_newlines"))
        temporary = name.endswith("TemporaryFile") and any(isinstance(mode, str) for mode in modes) and not binary
        if (opens or asks or temporary) and "encoding" not in given:
            found.append(f"{path.name} line {node.lineno}: {name}")
    return found


def test_text_is_utf_8_wherever_it_is_read_or_written(tmp_path: Path):
    files = sorted(PACKAGE.glob("*.py"))
    assert len(files) > 50
    assert [call for file in files for call in texts_without_encoding(file)] == []
    planted = tmp_path / "planted.py"
    planted.write_text(
        "a.read_text()\na.write_text(b)\nopen(a)\na.open('w')\nrun(a, text=True)\nNamedTemporaryFile('w')\n"
        "a.read_text(encoding='utf-8')\nopen(a, 'rb')\na.open(mode='wb')\nrun(a)\nNamedTemporaryFile()\n",
        encoding="utf-8",
    )
    assert [call.split()[2] for call in texts_without_encoding(planted)] == ["1:", "2:", "3:", "4:", "5:", "6:"]


WITHOUT = """
import ctypes, importlib, pathlib, sys
import torch, mlflow, transformers, accelerate, optuna, datasets  # theirs is not ours to try
sys.modules["resource"] = None
there = ctypes.CDLL
def library(name, *words, **more):
    if name is None:
        raise error("no handle of oneself")
    return there(name, *words, **more)
ctypes.CDLL, error = library, TypeError
import skillneurons
names = sorted(path.stem for path in pathlib.Path(skillneurons.__file__).parent.glob("*.py"))
for name in names:
    if name != "__main__":
        importlib.import_module(f"skillneurons.{name}")
from skillneurons import stream
for error in (TypeError, OSError):
    stream._malloc_trim.cache_clear()
    stream._hand_back()
print(len(names), "modules")
"""


def test_every_module_can_be_imported_where_unix_is_not():
    """Windows has no `resource`, and no handle of the process as a library."""
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, env=environment(), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-2]) > 50


def test_the_guard_sees_a_jump(tmp_path: Path):
    planted = tmp_path / "statistics.py"
    planted.write_text("from skillneurons.tracking import Run\n")
    assert inner(imports_of(planted)) == {"tracking"}
    assert FLOOR_OF["tracking"] > FLOOR_OF["statistics"]
