"""The notebook of the docs runs offline on the embedded model, and prints what can be true."""

import re

import jupytext
import nbformat
import pytest

import notebook_page
from conftest import ROOT

SOURCE = ROOT / "docs" / "notebooks" / "first-study.py"


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What the code cells print, after all ran in a folder of their own."""
    told = []
    for cell in notebook_page.run_apart(SOURCE).cells:
        texts = [output.text for output in cell.get("outputs", []) if output.get("name") == "stdout"]
        told.append("".join(texts))
    return [text for text in told if text]


def one(printed: list[str], sentence: str) -> re.Match[str]:
    (found,) = [match for text in printed if (match := re.search(sentence, text))]
    return found


def test_its_numbers_have_sense(printed):
    accuracy, rows, majority = map(float, _tuned(printed))
    assert rows == 120
    assert 50 <= majority <= 65
    assert majority < accuracy <= 100  # the model knows this task before it is tuned
    assert one(printed, r"^\((\d+), (\d+)\)\n").groups() == ("8", "256")
    shares = one(printed, r"([\d,]+) of ([\d,]+) neurons").groups()
    telling, neurons = (int(share.replace(",", "")) for share in shares)
    assert 0 < telling <= neurons == 4 * 1024
    assert one(printed, r"- (no difference|needed|cannot tell): .* at 5% of neurons")
    answers = one(
        printed, r"label +probability_negative +probability_positive +score_negative +score_positive\n"
    ).string
    assert [line.split()[0] for line in answers.splitlines()[1:]] == ["positive", "negative"]


def _tuned(printed: list[str]) -> tuple[str, str, str]:
    head = one(printed, r"accuracy on test ([\d.]+)% \[[^]]+\] \(majority rate ([\d.]+)%, n=(\d+) rows\)")
    return head[1], head[3], head[2]


def test_it_is_text_that_becomes_a_valid_notebook(tmp_path):
    notebook = jupytext.read(SOURCE)
    nbformat.validate(notebook)
    (sizes,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert "max_steps" in sizes.source
    page = notebook_page.markdown(SOURCE, tmp_path, run=False)
    assert page.startswith("# A first study")
    assert page.count("```python") == sum(cell.cell_type == "code" for cell in notebook.cells)


def test_what_cells_show_is_on_the_page(tmp_path):
    source = tmp_path / "small.py"
    source.write_text("# %% [markdown]\n# # Small\n\n# %%\nprint('said')\n\n# %%\n6 * 7\n", encoding="utf-8")
    page = notebook_page.markdown(source, tmp_path / "pictures", run=True)
    assert page.split("```")[0] == "# Small\n\n"
    assert "```text\nsaid\n```" in page
    assert "```text\n42\n```" in page
