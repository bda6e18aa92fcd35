"""What holds for every module; who may import whom is in pyproject.toml, for import-linter."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import skillneurons
from conftest import ROOT, environment

PACKAGE = Path(skillneurons.__file__).parent


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_only_one_module_reads_yaml():
    """PyYAML by itself follows YAML 1.1, in which 1e-3 is text and no is a boolean."""
    users = {file.stem for file in MODULES if any(i.split(".")[0] == "yaml" for i in imports_of(file))}
    assert users == {"declarations"}


def test_no_folder_is_a_corridor():
    """Fourteen modules a folder at most, so that its list is read at a glance."""
    sizes = Counter(file.parent for file in MODULES)
    assert len(sizes) > 10
    assert {str(folder): size for folder, size in sizes.items() if size > 14} == {}


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
    files = MODULES
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
package = pathlib.Path(skillneurons.__file__).parent
names = sorted(".".join(path.relative_to(package.parent).with_suffix("").parts) for path in package.rglob("*.py"))
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
from skillneurons.neurons import activation_stream as stream
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


@pytest.mark.parametrize(
    ("module", "wrong", "contract"),
    [
        ("stats/mantel.py", "import skillneurons.backbones.base", "only from the floors below"),
        ("transfer/cell.py", "import skillneurons.discover.plan", "do not import each other"),
        ("commands/config.py", "import mlflow", "MLflow is known in tracking alone"),
        (None, None, None),
    ],
)
def test_a_wrong_import_breaks_its_contract(module, wrong, contract, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "src/skillneurons", ignore=shutil.ignore_patterns("pocket", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if module:
        with (tmp_path / "src/skillneurons" / module).open("a", encoding="utf-8") as file:
            file.write(f"{wrong}\n")
    env = environment(PYTHONPATH=str(tmp_path / "src"))
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=tmp_path, env=env, capture_output=True, encoding="utf-8")
    broken = [line for line in done.stdout.splitlines() if line.endswith(" BROKEN") or " BROKEN (" in line]
    assert (done.returncode != 0, bool(broken)) == (bool(module), bool(module)), done.stdout[-2000:] + done.stderr
    assert module is None or any(contract in line for line in broken)
