"""What a person finds in the MLflow UI after real commands on a tiny model, in a real browser."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from conftest import QUICK, words
from screenshots import Browser, browser, compare, expander, run_list, run_page, ui, version_page
from skillneurons.cli import main
from tiny_models import write_quips

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no Chromium on this machine (apt-get install chromium chromium-driver)",
)

SPACE = {
    "search": "tune",
    "version": 1,
    "parameters": {"learning_rate": {"low": 1e-3, "high": 1.0, "log": True}},
    "first": {"learning_rate": 0.001},
    "pruner": None,
}
FIXED = {**QUICK, "task": "quips.yaml"}
NAME = "quips.tiny-roberta"


@pytest.fixture(scope="module")
def database(tiny_roberta: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking database filled by `tune`, `discover` and `search`."""
    folder = tmp_path_factory.mktemp("shown")
    write_quips(folder)
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    searched = {name: value for name, value in FIXED.items() if name != "learning_rate"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("SKILLNEURONS_STATE", raising=False)
        assert main(words("tune", model=tiny_roberta, **FIXED, seeds="0,1")) == 0
        tuned = parents(os.environ["MLFLOW_TRACKING_URI"], "tune")[0].info.run_id
        assert main(words("discover", prompts=f"runs:/{tuned}", task="quips.yaml", device="cpu")) == 0
        search = {"model": tiny_roberta, "space": "space.yaml", **searched, "trials": 2, "final_seeds": 0}
        assert main(words("search", **search)) == 0
        yield os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture(scope="module")
def page(database: str) -> Iterator[Browser]:
    with ui(database) as server, browser(server) as opened:
        opened.driver.set_window_size(2200, 1400)
        yield opened


@pytest.fixture
def client(database: str) -> MlflowClient:
    return MlflowClient(database)


def runs(database: str, stage: str) -> list[Run]:
    client = MlflowClient(database)
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(everywhere, f"tags.`skillneurons.stage` = '{stage}'"))


def parents(database: str, stage: str) -> list[Run]:
    return [run for run in runs(database, stage) if "mlflow.parentRunId" not in run.data.tags]


def seeds(database: str) -> list[Run]:
    (parent,) = parents(database, "tune")
    found = [run for run in runs(database, "tune") if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return sorted(found, key=lambda run: run.info.run_name)


def cells(page: Browser, column: str) -> list[str]:
    page.element(f"//div[@role='gridcell' and @col-id='{column}']")
    script = """
        const cells = Array.from(document.querySelectorAll('[role=gridcell]'));
        return cells.filter(cell => cell.getAttribute('col-id') == arguments[0]).map(cell => cell.innerText.trim());
    """
    return list(page.driver.execute_script(script, column))


def test_the_run_list_names_each_command_and_shows_its_accuracies(page, database):
    (tuned,), (searched,), (found,) = (parents(database, stage) for stage in ("tune", "search", "discover"))
    page.open(run_list(tuned.info.experiment_id), *(run.info.run_name for run in (tuned, searched, found)))
    assert tuned.info.run_name.startswith("tune quips · tiny-roberta · P=")
    assert tuned.info.run_name.endswith(" · 2 seeds")
    assert searched.info.run_name == "search quips · tiny-roberta"
    for name in ("dev/accuracy", "test/accuracy", "test/majority"):
        page.element(f"//div[@role='columnheader' and contains(., '{name}')]")
    shown = cells(page, "metrics.`test/accuracy`")
    for run in (tuned, searched):
        assert str(run.data.metrics["test/accuracy"]) in shown


def test_a_command_opens_to_its_seeds_or_trials(page, database):
    (searched,) = parents(database, "search")
    page.open(run_list(searched.info.experiment_id), searched.info.run_name)
    page.click(expander(searched.info.run_name))
    page.wait("trial 0 · quips · tiny-roberta", "trial 1 · quips · tiny-roberta")


def test_the_compare_page_sets_two_seeds_side_by_side(page, database):
    two = seeds(database)
    ids = [run.info.run_id for run in two]
    text = page.open(compare(two[0].info.experiment_id, ids), "Comparing 2 Runs", *(run.info.run_name for run in two))
    assert [run.info.run_name for run in two] == [f"seed {seed} · quips · tiny-roberta" for seed in (0, 1)]
    for run in two:
        assert str(round(run.data.metrics["test/accuracy"], 3)) in text
    assert "test/accuracy" in text


def test_a_run_says_in_words_what_was_found_and_on_what(page, database):
    (tuned,) = parents(database, "tune")
    finding = tuned.data.tags["mlflow.note.content"].replace("**", "")
    assert "majority rate" in finding
    names = [f"quips/{role}" for role in ("train", "dev", "test")]
    where = run_page(tuned.info.experiment_id, tuned.info.run_id)
    page.open(
        where,
        tuned.info.run_name,
        " ".join(finding.split()[:12]),
        names[0],
        *(r.info.run_name for r in seeds(database)),
    )
    page.open(f"{where}/artifacts/summary.json", "tuned prompt", "calibrated", "holm_p")
    page.open(f"{where}/artifacts/figures/accuracy.png", "accuracy.png")
    picture = page.element("//img[contains(@src, 'blob:') or contains(@src, 'get-artifact')]")
    page.until(lambda: page.driver.execute_script("return arguments[0].naturalWidth", picture) > 300, "the figure")


def test_the_run_of_a_study_and_of_neurons_say_what_was_found(page, database):
    says = {"search": ("2 configurations", "majority rate"), "discover": ("predictivity", "by chance")}
    for stage, finding in says.items():
        (run,) = parents(database, stage)
        page.open(run_page(run.info.experiment_id, run.info.run_id), run.info.run_name, *finding)


def test_a_registered_prompt_shows_where_it_comes_from(page, client, database):
    champion = client.get_model_version_by_alias(NAME, "champion")
    run = client.get_run(champion.run_id)
    text = page.open(version_page(NAME, champion.version), NAME, "accuracy on test", "95% interval", "majority rate")
    (train,) = [i.dataset.digest for i in run.inputs.dataset_inputs if i.dataset.name == "quips/train"]
    assert champion.tags["data"] == train
    for part in ("champion", train, champion.tags["backbone"], "tiny-roberta, masked_lm", "seed", "dev_accuracy"):
        assert part in text, part
    link = f"//a[contains(@href, '{champion.run_id}') and contains(., 'seed')]"
    page.follow(link, run.info.run_name, "Registered models", NAME)


def test_the_registry_lists_the_prompt(page, client):
    text = page.open("#/models", NAME)
    assert f"Version {len(client.search_model_versions(f'name = {NAME!r}'))}" in text
