"""What `pip install` gives: a wheel with tasks, models and spaces, a command, and an API that imports fast."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from conftest import ROOT, environment

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTS_ONLY = "# what `make lint` and `make test` run"


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[=\[]", one)[0].lower() for one in requirements}


def test_the_package_needs_what_the_environment_pins_for_it():
    text = (ROOT / "conda.yaml").read_text(encoding="utf-8")
    pins = yaml.safe_load(text.partition(TESTS_ONLY)[0])["dependencies"][-1]["pip"]
    service = {"flask-wtf", "psycopg"}
    assert names(PROJECT["dependencies"]) == names(pins) - service
    assert requires("mlflow")  # a name alone: the version that was tried stands in conda.yaml
    assert not [one for one in PROJECT["dependencies"] if set(one) & set("=<>~")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as pip does, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(installed: Path, code: str, cwd: Path) -> str:
    # -P: the folder that one stands in is not searched
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=cwd,
        env=environment(PYTHONPATH=str(installed)),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_command_works_without_the_checkout(installed, tmp_path):
    (entry,) = PROJECT["scripts"].items()
    assert entry == ("skillneurons", "skillneurons.cli:main")
    code = "import sys, skillneurons.cli; sys.argv[0] = 'skillneurons'; sys.exit(skillneurons.cli.main({}))"
    said = python(installed, code.format(["main", "--dry_run", "true"]), tmp_path)
    assert "would tune 3 prompts of 10 x" in said
    assert not list(tmp_path.iterdir())


def test_the_wheel_holds_every_declaration(installed):
    for kind in ("tasks", "models", "search"):
        inside = {file.name for file in (installed / "skillneurons/experiments" / kind).glob("*.yaml")}
        assert inside == {file.name for file in (ROOT / "experiments" / kind).glob("*.yaml")}
        assert inside


def test_the_wheel_holds_the_words_of_the_generated_tasks(installed):
    words = "skillneurons/data/generated/words"
    inside = {file.name: file.read_bytes() for file in (installed / words).iterdir()}
    assert inside == {file.name: file.read_bytes() for file in (ROOT / "src" / words).iterdir()}
    assert inside
