"""Numbers that the docs state are those of the code: each sentence is found, and its numbers compared."""

import inspect
import re

import pytest

from conftest import ROOT
from skillneurons import storage
from skillneurons.data import splits
from skillneurons.declarations import parse
from skillneurons.neurons.staged_sets import STAGES
from skillneurons.pretrain.corpus import texts
from skillneurons.pretrain.recipe import read_recipe
from skillneurons.robustness import ceiling
from skillneurons.robustness.plan import LEAST_ROWS
from skillneurons.search import figures, study
from skillneurons.search.config import SearchConfig
from skillneurons.search.space import read_space
from skillneurons.stats import cluster_bootstrap, mantel, power
from skillneurons.stats.control_sets import least_sets
from skillneurons.stats.neuron_tests import LEAST_PERMUTATIONS
from skillneurons.suppress.faithfulness import SIZES, SKIPPED
from skillneurons.tracking import runs

NUMBERS = {"three": 3, "four": 4, "eight": 8, "a tenth": 0.1}
PRUNER = read_space("default").pruner
POCKET = read_recipe(ROOT / "experiments" / "models" / "pocket.yaml")
PAPER = parse((ROOT / "experiments" / "models" / "roberta-base.yaml").read_text(encoding="utf-8"))["tune"]
CARD = "src/skillneurons/pocket/pocket-t5/README.md"
# file, sentence (blanks stand for any), what its numbers must be
STATED = [
    (
        "README.md",
        r"prunes them at evaluations (\d+), (\d+), (\d+)",
        [PRUNER.first_rung * PRUNER.factor**k for k in range(3)],
    ),
    ("README.md", r"`pocket-t5` \((\d+) layers x (\d+)\)", [POCKET.size.layers, POCKET.size.hidden]),
    (
        "README.md",
        r"the model's file sets P=(\d+), N\(0, ([\d.]+)\), rate (\S+)\)",
        [PAPER["prompt_length"], PAPER["init_std"], PAPER["learning_rate"]],
    ),
    ("docs/method.md", r"\(r=(\d+), η=(\d+) by default\)", [PRUNER.first_rung, PRUNER.factor]),
    ("docs/method.md", r"from ([\d,]+) bootstrap samples of rows \*and\* sets", [cluster_bootstrap.RESAMPLES]),
    ("docs/method.md", r"read in stages \((\d+), (\d+), K\)", list(STAGES)),
    (
        "docs/method.md",
        r"takes K = 20 a rate less one \((\d+) for three rates, (\d+) for the paper's eight\)",
        [least_sets(3), least_sets(8)],
    ),
    (
        "docs/method.md",
        r"cut at ([\d.]+), ([\d.]+), ([\d.]+), (\d+), (\d+), (\d+), (\d+), (\d+) and (\d+)%, all but the top",
        list(SIZES),
    ),
    ("docs/method.md", r"order that begins behind the top (\d+)%", [SKIPPED]),
    ("docs/method.md", r"on each \*kind of attack\* of (\d+) rows or more", [LEAST_ROWS]),
    (
        "docs/method.md",
        r"deviations of (\d+) and (\d+) points for sets, (\d+) and (\d+) for prompts, and (\d+)% of the answers",
        [100 * one for one in (*power.SPREADS, *power.PROMPT_SPREADS, power.CHANGED)],
    ),
    ("docs/method.md", r"a draw would take more than ([\d.]+) of the clean rows", [ceiling.MOST]),
    ("docs/method.md", r"agrees with itself imperfectly\. (\d+) times, each original", [ceiling.DRAWS]),
    ("docs/method.md", r"R is (\d+) at least", [LEAST_PERMUTATIONS]),
    ("docs/method.md", r"sign flips of whole originals, ([\d,]+) of them", [cluster_bootstrap.FLIPS]),
    ("docs/method.md", r"all T! orders up to (\w+) tasks", [mantel.EXACT]),
    ("docs/method.md", r"PED-ANOVA over the complete trials \([^)]*\), drawn from (\w+) on", [figures.FEW]),
    (
        "docs/method.md",
        r"carved from train by a salted hash of the row's text \((a tenth) of it\)",
        [inspect.signature(splits.load_splits).parameters["dev_fraction"].default],
    ),
    ("docs/scaling.md", r"heartbeat is missing for (\w+) intervals", [study.GRACE]),
    (
        "docs/scaling.md",
        r"\(`heartbeat=(\d+)` seconds by default\)",
        [SearchConfig.model_fields["heartbeat"].default],
    ),
    (CARD, r"held out \(one row in (\d+)\)", [texts.HELD_OUT_OF]),
    (CARD, r"(\d+) encoder layers and \d+ decoder layers of width (\d+)", [POCKET.size.layers, POCKET.size.hidden]),
    (CARD, r"- (\d+) steps, [\d,]+ tokens", [POCKET.train.steps]),
]


@pytest.mark.parametrize(("file", "sentence", "numbers"), STATED)
def test_a_number_in_the_docs_is_the_codes(file, sentence, numbers):
    text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    (found,) = re.finditer(sentence, text)
    assert [NUMBERS.get(word) or float(word.replace(",", "")) for word in found.groups()] == numbers


def test_the_environment_is_as_the_docs_say(monkeypatch):
    for name in ("SKILLNEURONS_STATE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    table = dict(
        re.findall(r"^\| `(\w+)` \| .*default `([^`]+)`", (ROOT / "docs/internals.md").read_text("utf-8"), re.M)
    )
    assert table == {
        "MLFLOW_TRACKING_URI": runs.DEFAULT_URI,
        "MLFLOW_EXPERIMENT_NAME": runs.DEFAULT_EXPERIMENT,
        "SKILLNEURONS_STATE": str(storage.state_dir()),
    }
