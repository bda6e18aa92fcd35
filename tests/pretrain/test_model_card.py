"""The card for people says what the card for programs holds."""

import json
from pathlib import Path

import pytest
import yaml

import skillneurons
from skillneurons.pretrain.model_card import opening, readme

POCKET = Path(skillneurons.__file__).parent / "pocket"


@pytest.mark.parametrize("name", ["pocket-roberta", "pocket-t5"])
def test_the_shipped_pairs_card_is_made_again_from_its_facts(name):
    facts = json.loads((POCKET / name / "card.json").read_text(encoding="utf-8"))
    shipped = (POCKET / name / "README.md").read_text(encoding="utf-8")
    made = readme(facts)
    kept, parts = (text.split("\n## ") for text in (shipped, made))
    assert [part for part in parts if not part.startswith("Data")] == [p for p in kept if not p.startswith("Data")]
    tables = [[line for line in text.splitlines() if line.startswith("|")] for text in (shipped, made)]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 30
    before_the_tables = made.split("---\n", 2)[2].partition("\n## Data")[0]
    assert opening(facts) == before_the_tables.strip()
    _, front, _ = made.split("---\n", 2)
    assert yaml.safe_load(front) == {"language": "en", "library_name": "transformers"}


def test_where_nothing_was_dropped_or_alone_the_card_says_so():
    facts = json.loads((POCKET / "pocket-t5" / "card.json").read_text(encoding="utf-8"))
    facts["corpus"]["sources"][0]["dropped"] = {}
    facts["recipe"]["supervised"]["alone_steps"] = 0
    facts["recipe"]["probes"] = {}
    facts["environment"] = {}
    text = readme(facts)
    assert "| none |" in text
    assert " alone." not in text
    assert "Never seen as labelled rows: none declared." in text
    assert "commit ?; ." in text
