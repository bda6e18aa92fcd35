"""The functions of a notebook: what the commands do, and an import that costs nothing."""

import subprocess
import sys

import pandas as pd
import pytest
import torch

import skillneurons
from conftest import ROOT, environment
from skillneurons.backbones.base import Backbone
from skillneurons.errors import InputError
from tracked import runs

EXAMPLE = (ROOT / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
LAZY = """
import sys, time
started = time.perf_counter()
import skillneurons
print([name for name in ("torch", "mlflow", "transformers", "pandas") if name in sys.modules])
print(time.perf_counter() - started)
"""


def test_importing_brings_nothing_heavy():
    command = [sys.executable, "-c", LAZY]
    done = subprocess.run(command, env=environment(), capture_output=True, encoding="utf-8", check=True)
    heavy, seconds = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 1


def test_a_command_leaves_every_function_callable(tiny_roberta):
    for name in skillneurons.__all__:
        assert hasattr(skillneurons, name)
    assert isinstance(skillneurons.load_backbone(str(tiny_roberta)), Backbone)
    assert skillneurons.load_task("film_notes").labels == ("negative", "positive")
    functions = [name for name in skillneurons.__all__ if name.islower() and name != "__version__"]
    assert len(functions) == 10
    assert all(callable(getattr(skillneurons, name)) for name in functions)


def test_the_example_of_the_readme(tiny_roberta, workplace, capsys):
    code = EXAMPLE.replace('"pocket-roberta"', f'"{tiny_roberta}"')
    code = code.replace("max_steps=100", "max_steps=4, max_train_rows=40, max_eval_rows=30, max_length=32")
    code = code.replace("max_train_rows=500", "max_train_rows=30").replace('rates="1,5"', 'rates="5", controls=2')
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 11
    place: dict = {}
    exec(code, place)
    assert {"tuned", "found", "needed"} <= place.keys()
    assert place["tuned"].finding in capsys.readouterr().out
    (run,) = runs("suppress")
    assert place["needed"].reference == f"runs:/{run.info.run_id}"
    table = place["needed"].table("suppression.json")
    assert isinstance(table, pd.DataFrame)
    assert len(table)
    again = skillneurons.discover_neurons(place["tuned"].reference, max_train_rows=30, max_dev_rows=200)
    assert again.reused
    assert again.run_id == place["found"].run_id
    prompt = place["prompt"]
    answers = skillneurons.predict(prompt, ["dull", "a gorgeous and witty film"])
    backbone, task = skillneurons.load_backbone(str(tiny_roberta)), skillneurons.load_task("film_notes")
    texts = [task.render("masked_lm", {task.fields[0]: text}) for text in ("dull", "a gorgeous and witty film")]
    batch = backbone.info.collate(backbone.info.encode(texts, 32))
    words = backbone.info.label_words(task.words("masked_lm"))
    with torch.inference_mode():
        scores = backbone.label_scores(prompt.embeddings, batch, words)
    expected = torch.cat([scores.softmax(1), scores], dim=1)
    torch.testing.assert_close(torch.tensor(answers.iloc[:, 1:].to_numpy()), expected, atol=1e-5, rtol=1e-5)
    assert answers["label"].tolist() == [task.labels[i] for i in scores.argmax(1).tolist()]


def test_bad_parameters_are_refused(workplace):
    with pytest.raises(InputError, match="Did you mean max_steps"):
        skillneurons.tune_prompts("roberta-base", "sst2", max_step=3)
    with pytest.raises(InputError, match="rates are percentages"):
        skillneurons.suppress_neurons("a", "b", rates=(200,))
