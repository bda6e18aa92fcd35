"""`search` from the command line to MLflow and back, in the process of the test."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml

from conftest import QUICK, words
from skillneurons.backbones import loading
from skillneurons.backbones.base import BackboneInfo
from skillneurons.cli import main
from skillneurons.commands.resumable import NonFiniteLossError
from skillneurons.stats.intervals import wilson
from skillneurons.stats.mcnemar import mcnemar_exact
from skillneurons.tracking.registry import fetch
from skillneurons.tracking.runs import Tracking
from skillneurons.tune import seed as seeds
from table_walk import walked
from tiny_models import write_quips
from tracked import artifact, client, every_run, stored

SPACE = {
    "search": "tune",
    "version": 1,
    "parameters": {
        "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
        "init": {"choices": ["normal", "vocabulary"]},
    },
    "first": {"learning_rate": 0.001, "init": "normal"},
    "pruner": {"first_rung": 2, "factor": 3},
}
FIXED = {
    **{name: value for name, value in QUICK.items() if name not in SPACE["parameters"]},
    "final_seeds": "0,1",
    "task": "quips.yaml",
}


TEXTS = {f"{role}.jsonl" for role in ("train", "dev", "test")}


def search(model: Path, space: dict = SPACE, **more: object) -> int:
    write_quips(Path.cwd())
    Path("space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return main(words("search", model=model, space="space.yaml", **{**FIXED, "trials": 8, **more}))


def study_run():
    (found,) = every_run("tags.`skillneurons.stage` = 'search'")
    return found


def trials() -> dict[int, object]:
    found = every_run("tags.`skillneurons.stage` = 'search trial'")
    return {int(run.data.tags["skillneurons.trial"]): run for run in found}


def table(run, path: str) -> pd.DataFrame:
    return pd.DataFrame(**json.loads(artifact(run, path).read_text()))


def optuna_study(name: str = "quips.tiny-roberta") -> optuna.Study:
    return optuna.load_study(study_name=name, storage="sqlite:///.skillneurons/search.db")


@pytest.fixture(scope="module")
def finished(tiny_roberta, tmp_path_factory):
    """One finished study; the tests that only read share it."""
    here, folder = Path.cwd(), tmp_path_factory.mktemp("searched")
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.pop("SKILLNEURONS_STATE", None)
    os.chdir(folder)
    try:
        assert search(tiny_roberta) == 0
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    return folder


@pytest.fixture
def searched(finished, workplace, monkeypatch):
    monkeypatch.chdir(finished)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished}/mlflow.db")
    return finished


def test_a_study_with_a_run_a_trial_where_pruned_ones_are_killed_and_none_failed(searched):
    parent, found = study_run(), trials()
    assert parent.info.status == "FINISHED"
    assert sorted(found) == list(range(8))
    states = {trial.number: trial.state.name for trial in optuna_study().get_trials()}
    assert set(states.values()) == {"COMPLETE", "PRUNED"}
    for number, run in found.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert "skillneurons.error" not in run.data.tags
        if states[number] == "PRUNED":
            assert run.info.status == "KILLED"
            assert run.data.tags["skillneurons.stopped"].startswith("pruned at evaluation")
            assert "dev/accuracy" not in run.data.metrics, "an accuracy of a shorter tuning is not one of a whole"
        else:
            assert run.info.status == "FINISHED"
        curve = client().get_metric_history(run.info.run_id, "dev/curve/accuracy")
        assert [m.step for m in curve] == list(range(0, 8 * len(curve), 8))
        assert artifact(run, "figures/learning_curves.png").stat().st_size > 5000
    assert found[0].data.params["learning_rate"] == "0.001"
    assert not list(Path(".skillneurons/checkpoints").glob("*.pt"))


def test_no_trial_sees_test_and_it_is_looked_at_once_for_the_winner_and_the_first_settings(searched):
    for run in trials().values():
        assert not [name for name in run.data.metrics if name.startswith("test")]
        assert {i.dataset.name for i in run.inputs.dataset_inputs} == {"quips/train", "quips/dev"}
        assert not [f for f in client().list_artifacts(run.info.run_id, "predictions") if "test" in f.path]
    judged = [run for run in every_run() if "skillneurons.seed" in run.data.tags]
    assert len(judged) == 2 * 2
    comparison = table(study_run(), "comparison.json")
    assert set(comparison["winner_run"]) | set(comparison["first_run"]) == {run.info.run_id for run in judged}
    assert all(artifact(run, "predictions/test.parquet").is_file() for run in judged)
    best = optuna_study().best_trial
    for run in judged:
        winner = run.info.run_id in set(comparison["winner_run"])
        expected = best.params if winner else SPACE["first"]
        assert run.data.params["learning_rate"] == str(expected["learning_rate"])
        assert run.data.params["init"] == expected["init"]


def test_the_trials_table_is_what_the_logged_predictions_give(searched):
    frame = table(study_run(), "trials.json").set_index("trial")
    assert list(frame.index) == list(range(8))
    compared = 0
    for number, run in trials().items():
        row = frame.loc[number]
        assert row["run"] == run.info.run_id
        assert row["learning_rate"] == pytest.approx(float(run.data.params["learning_rate"]))
        if row["state"] == "complete":
            dev = pd.read_parquet(artifact(run, "predictions/dev.parquet"))
            right = dev["label"] == dev["prediction"]
            interval = wilson(int(right.sum()), len(dev))
            assert row["dev_accuracy"] == run.data.metrics["dev/accuracy"] == right.mean()
            assert (row["dev_low"], row["dev_high"]) == (interval.low, interval.high)
            assert optuna_study().get_trials()[number].value == right.mean()
            compared += 1
    assert compared > 1


def test_the_comparison_is_paired_and_corrected_over_seeds(searched):
    from statsmodels.stats.multitest import multipletests

    parent = study_run()
    frame, raw = table(parent, "comparison.json"), []
    for _, row in frame.iterrows():
        both = [
            pd.read_parquet(Path(client().download_artifacts(row[name], "predictions/test.parquet")))
            for name in ("winner_run", "first_run")
        ]
        assert both[0]["row_hash"].tolist() == both[1]["row_hash"].tolist()
        ours, theirs = ((one["label"] == one["prediction"]).to_numpy() for one in both)
        assert (row["winner_accuracy"], row["first_accuracy"]) == (ours.mean(), theirs.mean())
        test = mcnemar_exact(ours, theirs)
        assert row["difference"] == test.difference
        raw.append(test.p_value)
    np.testing.assert_allclose(frame["mcnemar_p"], raw)
    np.testing.assert_allclose(frame["holm_p"], multipletests(raw, method="holm")[1])
    assert parent.data.metrics["test/accuracy"] == pytest.approx(frame["winner_accuracy"].mean())
    assert parent.data.metrics["test/difference"] == pytest.approx(frame["difference"].mean())
    note = parent.data.tags["mlflow.note.content"]
    assert "Holm over seeds" in note
    assert ": on test " in note.splitlines()[0]


def test_every_logged_table_is_whole(searched):
    store = client()
    tables = walked(store, [e.experiment_id for e in store.search_experiments()])
    assert {"search/trials.json", "search/comparison.json", "tune/summary.json"} <= set(tables)
    assert {name: lacks for name, lacks in tables.items() if lacks} == {}


def test_the_winner_is_the_best_complete_trial_and_tunes_the_same_again(searched):
    best = optuna_study().best_trial
    frame = table(study_run(), "trials.json")
    complete = frame[frame["state"] == "complete"]
    assert best.value == complete["dev_accuracy"].max()
    again = next(
        run
        for run in every_run("tags.`skillneurons.seed` = '0'")
        if run.data.params["learning_rate"] == str(best.params["learning_rate"])
    )
    assert again.data.metrics["dev/accuracy"] == pytest.approx(best.value), "the seed of the trial, tuned anew"


def test_figures_configuration_and_data_are_on_the_study(searched):
    parent = study_run()
    for name in ("learning_rate", "history", "slices", "parallel_coordinates", "importance"):
        assert artifact(parent, f"figures/{name}.png").stat().st_size > 5000
    config = yaml.safe_load(artifact(parent, "config.yaml").read_text())
    assert config["trials"] == 8
    assert config["study"] == "quips.tiny-roberta"
    assert "learning_rate" not in config, "what varies has no one value"
    assert yaml.safe_load(artifact(parent, "space.yaml").read_text())["first"] == SPACE["first"]
    assert {i.dataset.name for i in parent.inputs.dataset_inputs} == {f"quips/{r}" for r in ("train", "dev", "test")}


def test_the_champion_is_registered_and_the_study_names_its_prompts(searched):
    prompts = fetch(Tracking.connect(), f"runs:/{study_run().info.run_id}")
    assert [prompt.card["seed"] for prompt in prompts] == [0, 1]
    rate = optuna_study().best_trial.params["learning_rate"]
    assert [prompt.card["tuning"]["learning_rate"] for prompt in prompts] == [rate, rate]
    name = "quips.tiny-roberta"
    champion = client().get_model_version_by_alias(name, "champion")
    versions = client().search_model_versions(f"name = '{name}'")
    assert len(versions) == 4
    assert float(champion.tags["dev_accuracy"]) == max(float(v.tags["dev_accuracy"]) for v in versions)


def test_the_same_command_again_names_the_finished_study(searched, tiny_roberta, capsys):
    before = len(every_run())
    assert search(tiny_roberta) == 0
    assert f"finished as run {study_run().info.run_id}" in capsys.readouterr().out
    assert len(every_run()) == before


def test_a_changed_space_is_refused_with_the_difference(searched, tiny_roberta, capsys):
    before = len(every_run())
    wider = {**SPACE, "parameters": {**SPACE["parameters"], "learning_rate": {"low": 1e-5, "high": 1.0, "log": True}}}
    for space, more, says in (
        (wider, {}, "space.parameters.learning_rate.low: 0.0001 -> 1e-05"),
        (SPACE, {"max_steps": 16}, "fixed.max_steps: 24 -> 16"),
        (SPACE, {"init": "normal"}, "fixed.init: absent -> normal"),
        (SPACE, {"max_train_rows": 90}, "data.train: "),
    ):
        assert search(tiny_roberta, space, **more) == 2
        line = capsys.readouterr().err.strip()
        assert "\n" not in line
        assert says in line
        assert "--study" in line
    assert len(every_run()) == before


def test_config_goes_on_from_an_older_study(searched, tiny_roberta, capsys):
    parent = study_run().info.run_id
    assert main(["search", "--config", f"runs:/{parent}"]) == 0
    assert f"finished as run {parent}" in capsys.readouterr().out


def test_a_dry_run_says_what_it_would_cost_and_leaves_nothing(workplace, tiny_roberta, capsys):
    assert search(tiny_roberta, dry_run="true", workers=2) == 0
    out = capsys.readouterr().out
    assert "would try 8 configurations of learning_rate, init" in out
    assert "with 2 worker(s)" in out
    assert {file.name for file in workplace.iterdir()} == {"space.yaml", "quips.yaml", *TEXTS}


def test_more_trials_go_on_with_the_same_study_in_the_same_run(workplace, tiny_roberta):
    assert search(tiny_roberta, trials=2, final_seeds=0) == 0
    first, before = study_run(), set(runs_of_trials())
    assert search(tiny_roberta, trials=3, final_seeds=0) == 0
    assert study_run().info.run_id == first.info.run_id
    assert study_run().info.status == "FINISHED"
    assert set(runs_of_trials()) > before
    assert len(runs_of_trials()) == 3
    assert len(table(study_run(), "trials.json")) == 3
    shutil.rmtree(stored(study_run(), "figures"))
    assert search(tiny_roberta, trials=3, final_seeds=0) == 0
    assert len(runs_of_trials()) == 3
    assert stored(study_run(), "figures/history.png").is_file(), "what was deleted is made again"


def runs_of_trials() -> list[str]:
    return [run.info.run_id for run in trials().values()]


def test_an_interrupted_trial_ends_with_the_value_of_one_that_was_not(workplace, tiny_roberta, monkeypatch, capsys):
    assert search(tiny_roberta, trials=1, final_seeds=0, study="untouched", seeds="0,1") == 0
    tune, calls = seeds.tune, []

    def stumbles(*args: object, **more: object):
        calls.append(1)
        if len(calls) == 4:  # two seeds at two evaluations: the second seed is behind the first
            raise KeyboardInterrupt
        return tune(*args, **more)

    monkeypatch.setattr(seeds, "tune", stumbles)
    assert search(tiny_roberta, trials=1, final_seeds=0, study="broken", seeds="0,1") == 130
    assert search(tiny_roberta, trials=1, final_seeds=0, study="broken", seeds="0,1") == 0
    assert "taken up at step 16" in capsys.readouterr().out
    values = [optuna_study(name).best_trial.value for name in ("untouched", "broken")]
    assert values[0] == values[1]
    assert len(calls) == 4 + 3, "seed 0 is at 16 and goes to 24; seed 1 is at 8"
    resumed = [run for run in every_run() if "skillneurons.resumed_from_step" in run.data.tags]
    assert [run.data.tags["skillneurons.resumed_from_step"] for run in resumed] == ["16"]


def test_several_seeds_a_trial_are_judged_by_their_mean(workplace, tiny_roberta):
    assert search(tiny_roberta, trials=1, seeds="0,3", final_seeds=0) == 0
    (run,) = trials().values()
    right = []
    for seed in (0, 3):
        frame = pd.read_parquet(artifact(run, f"predictions/seed_{seed}/dev.parquet"))
        right.append((frame["label"] == frame["prediction"]).mean())
        assert run.data.metrics[f"seed_{seed}/dev/accuracy"] == right[-1]
        assert len(client().get_metric_history(run.info.run_id, f"seed_{seed}/dev/curve/accuracy")) == 4
    assert run.data.metrics["dev/accuracy"] == pytest.approx(np.mean(right))
    assert optuna_study().best_trial.value == pytest.approx(np.mean(right))


def test_where_the_first_settings_win_there_is_nothing_to_compare(workplace, tiny_roberta):
    assert search(tiny_roberta, trials=1, final_seeds=0) == 0
    note = study_run().data.tags["mlflow.note.content"]
    assert "nothing better on dev than the first trial's settings" in note
    assert "test/difference" not in study_run().data.metrics
    assert len([run for run in every_run() if "skillneurons.seed" in run.data.tags]) == 1


def test_a_trial_that_diverges_is_pruned_with_the_reason(workplace, tiny_roberta, monkeypatch):
    tune, calls = seeds.tune, []

    def diverges(*args: object, **more: object):
        calls.append(1)
        if len(calls) == 5:  # the second evaluation of the second trial
            raise NonFiniteLossError("the loss is not finite")
        return tune(*args, **more)

    monkeypatch.setattr(seeds, "tune", diverges)
    assert search(tiny_roberta, {**SPACE, "pruner": None}, trials=2, final_seeds=0) == 0
    states = {number: run.info.status for number, run in trials().items()}
    assert states == {0: "FINISHED", 1: "KILLED"}
    assert "not finite" in trials()[1].data.tags["skillneurons.stopped"]
    assert optuna_study().get_trials()[1].state.name == "PRUNED"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"space": "no-such-space"}, "A space must be one of default, rate"),
        ({"trials": 0}, "trials must be"),
        ({"workers": -1}, "workers must be"),
        ({"final_seeds": "0,0"}, "final_seeds"),
        ({"final_seeds": "a"}, "final_seeds"),
        ({"storage": "journal.log"}, "storage is the URL of a relational database"),
        ({"storage": "sqlite:////no/such/folder/s.db"}, "/no/such/folder"),
        ({"processes": 2}, "Give workers=N"),
        ({"rerun": "true"}, "another study"),
        ({"heartbeat": 0}, "heartbeat must be"),
        ({"trails": 5}, "Did you mean trials?"),
        ({"learning_rate": "0.1", "init": "normal"}, "at least one parameter"),
        ({"task": "sst3"}, "'sst3'"),
        ({"prompt_length": 60}, "positions of tiny-roberta"),
        ({"init": "text", "init_text": ""}, "init_text"),
        ({"learning_rate": "0.1", "trials": 9}, "at most the number of configurations; got 9 of 2"),
    ],
)
def test_bad_input_is_one_line_before_a_model_is_loaded(workplace, tiny_roberta, monkeypatch, capsys, given, says):
    def no_loading(self: BackboneInfo, **_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load", no_loading)
    Path("space.yaml").write_text(yaml.safe_dump(SPACE))
    write_quips(workplace)
    there = sorted(workplace.rglob("*"))
    assert main(words("search", **{"model": tiny_roberta, "space": "space.yaml", **FIXED, **given})) == 2
    line = capsys.readouterr().err.strip()
    assert says in line
    assert "\n" not in line
    assert sorted(workplace.rglob("*")) == there, "nothing is written"


def test_a_choice_that_tune_would_refuse_is_refused_before_the_first_trial(workplace, tiny_roberta, capsys):
    space = {**SPACE, "parameters": {"learning_rate": {"low": -1, "high": 1}}, "first": {"learning_rate": 0.1}}
    assert search(tiny_roberta, space) == 2
    assert "learning_rate must be greater than 0; got -1" in capsys.readouterr().err
