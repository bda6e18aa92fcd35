"""A task by the path of its YAML, through the whole chain: the prompt's card holds it."""

import json
from pathlib import Path

import pytest
import yaml

from conftest import QUICK, words
from skillneurons.cli import main
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task, origin, task_from, unsourced
from skillneurons.prompts.soft_prompt import SoftPrompt
from tiny_models import write_quips
from tracked import artifact, every_run, refusal, runs

SMALL = {**QUICK, "max_steps": "8", "eval_every": "4"}
ATTACK = {"name": "mean_quips", "version": 1, "clean": "tasks/quips.yaml", "file": {"splits": {"test": "mean.jsonl"}}}


@pytest.fixture(params=["beside its rows", "with data_dir"])
def tuned(request, tiny_roberta, workplace) -> dict[str, str]:
    """A prompt for a task in a folder of its own; then the working folder is another."""
    folder = workplace / "tasks"
    folder.mkdir()
    path = write_quips(folder)
    given = {}
    if request.param == "with data_dir":
        rows = workplace / "rows"
        rows.mkdir()
        for role in ("train", "dev", "test"):
            (folder / f"{role}.jsonl").rename(rows / f"{role}.jsonl")
        given = {"data_dir": "rows"}
    assert main(words("tune", model=tiny_roberta, **{**SMALL, "task": path.relative_to(workplace)}, **given)) == 0
    return {"prompts": f"runs:/{runs('tune')[0].info.run_id}"}


def test_every_stage_reads_the_task_that_the_prompt_was_tuned_on(tuned, workplace):
    small = {"max_train_rows": "40", "permutations": "100", "cards": "2", "device": "cpu"}
    assert main(words("discover", **tuned, **small, site="prompt-body")) == 0
    found = {**tuned, "neurons": f"runs:/{runs('discover')[0].info.run_id}", "device": "cpu", "controls": "2"}
    assert main(words("suppress", **found, rates="5")) == 0
    test = [json.loads(line) for line in next(workplace.rglob("test.jsonl")).read_text().splitlines()]
    adversarial = workplace / "attack"
    adversarial.mkdir()
    lines = [json.dumps({**row, "text": f"well , {row['text']}", "original": row["text"]}) for row in test]
    (adversarial / "mean.jsonl").write_text("\n".join(lines))
    attack = {**ATTACK, "clean": str(workplace / "tasks" / "quips.yaml")}
    attack["file"] = {**ATTACK["file"], "extras": ["original"]}
    (adversarial / "mean_quips.yaml").write_text(yaml.safe_dump(attack))
    asked = {"rates": "5", "permutations": "40", "adversarial": "attack/mean_quips.yaml"}
    assert main(words("robustness", **found, **asked)) == 0
    for stage in ("suppress", "robustness"):
        (run,) = runs(stage)
        assert run.info.status == "FINISHED"
        names = {i.dataset.name for i in run.inputs.dataset_inputs}
        assert "quips/test" in names


def test_transfer_takes_it_by_its_name_or_by_none(tuned, workplace, tiny_roberta):
    second = yaml.safe_load((workplace / "tasks" / "quips.yaml").read_text())
    (workplace / "tasks" / "jests.yaml").write_text(yaml.safe_dump({**second, "name": "jests"}))
    given = {"data_dir": "rows"} if (workplace / "rows").is_dir() else {}
    assert main(words("tune", model=tiny_roberta, **{**SMALL, "task": "tasks/jests.yaml"}, **given)) == 0
    prompts = ",".join(f"runs:/{run.info.run_id}" for run in runs("tune"))
    for more in ({}, {"tasks": "quips,jests"}):
        assert main(words("transfer", prompts=prompts, random_prompts="2", device="cpu", **more)) == 0
    assert runs("transfer")[0].info.status == "FINISHED"


def test_a_missing_folder_is_one_line_and_data_dir_leads_to_it(tuned, workplace, capsys, monkeypatch):
    folder = workplace / ("rows" if (workplace / "rows").is_dir() else "tasks")
    folder.rename(workplace / "elsewhere")
    asked = {"max_train_rows": "40", "permutations": "100", "device": "cpu"}
    line = refusal("discover", capsys, monkeypatch, **tuned, **asked)
    assert "folder" in line
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/mlflow.db")
    assert main(words("discover", **tuned, **asked, data_dir="elsewhere")) == 0


def test_the_card_is_the_task_again_with_its_rows(tuned, capsys, monkeypatch):
    run = next(r for r in every_run() if "skillneurons.registered" in r.data.tags)
    card = json.loads(json.dumps(SoftPrompt.load(artifact(run, "prompt")).card))
    task = task_from(card["task"], card["rows"])
    assert {role: len(split) for role, split in load_splits(task).items()} == {"train": 101, "dev": 37, "test": 37}
    assert unsourced(task) == unsourced(load_task(Path("tasks/quips.yaml")))
    # a name that is none leads to no card
    assert "A task must be one of" in refusal("discover", capsys, monkeypatch, **tuned, task="quaps")
    for name in ("sst2", "contrast_imdb", "film_notes", "adv_qqp"):
        known = load_task(name)
        assert (
            task_from(json.loads(json.dumps(unsourced(known))), json.loads(json.dumps(origin(known, None)))) == known
        )
