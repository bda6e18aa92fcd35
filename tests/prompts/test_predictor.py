"""What a prompt refuses and answers before it reads anything; its scores are tested with `tune`."""

from types import SimpleNamespace

import pandas as pd
import pytest

from skillneurons.data.tasks import load_task
from skillneurons.errors import InputError
from skillneurons.prompts.predictor import Predictor


@pytest.fixture
def predict():
    """Predictions of a prompt whose backbone would fail if it were asked for anything."""
    made = object.__new__(Predictor)
    made.task, made.backbone = load_task("mnli"), SimpleNamespace(info=SimpleNamespace(family="masked_lm"))
    return made.predict


GOOD = {"premise": "It rains.", "hypothesis": "It is wet."}


@pytest.mark.parametrize("value", [None, float("nan"), pd.NA, 7, b"text", "\ud800", "a\0b"])
def test_rows_without_text_are_named_by_their_index(predict, value):
    rows = [GOOD, {**GOOD, "hypothesis": value}, GOOD, {**GOOD, "premise": value}]
    frame = pd.DataFrame(rows, index=[10, 11, 12, 13], dtype=object)
    with pytest.raises(InputError, match=r"text in hypothesis, premise; got 2 without \(by index: 11, 13\)"):
        predict(frame)


def test_a_blank_row_is_no_text_but_one_blank_field_may_be(predict):
    with pytest.raises(InputError, match=r"got 1 without \(by index: 0\)"):
        predict(pd.DataFrame([{"premise": " ", "hypothesis": ""}]))
    with pytest.raises(AttributeError, match="encode"):  # goes on to the backbone
        predict(pd.DataFrame([{"premise": "It rains.", "hypothesis": ""}]))


def test_columns_are_there_each_once(predict):
    with pytest.raises(InputError, match="each once; got not so: hypothesis"):
        predict(pd.DataFrame([{"premise": "x"}]))
    with pytest.raises(InputError, match="each once; got not so: premise"):
        predict(pd.DataFrame([["x", "y", "z"]], columns=["premise", "hypothesis", "premise"]))


def test_no_rows_are_answered_with_none_in_the_right_columns(predict):
    answer = predict(pd.DataFrame({"premise": [], "hypothesis": []}))
    task = load_task("mnli")
    numbers = [f"{what}_{label}" for what in ("probability", "score") for label in task.labels]
    assert list(answer.columns) == ["label", *numbers]
    assert len(answer) == 0
    assert {str(kind) for kind in answer.dtypes[1:]} == {"float32"}
