import json
import unicodedata

import pytest

from conftest import ROOT
from skillneurons.errors import InputError
from skillneurons.pretrain.config import PretrainConfig
from skillneurons.pretrain.corpus.decontamination import Unseen, normalised
from skillneurons.pretrain.corpus.texts import corpus_files, held_out, read_corpus, refuse_evaluation
from skillneurons.pretrain.plan import PretrainPlan
from skillneurons.pretrain.recipe import read_recipe

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = ("text_a", "text_b", "label")
    file.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    kept = [(f"a film number {n}", None, n % 2) for n in range(200)]
    write(tmp_path / "films/train.jsonl", [*kept, ("Good , film!", None, 1), (f"well {LONG} well", None, 0), kept[0]])
    write(tmp_path / "pairs/train.jsonl", [("left", "right", 0), ("left", "it  is seen", 1)])
    write(tmp_path / "films/dev.jsonl", [("good, FILM !", None, 1)])
    write(tmp_path / "advglue/films.jsonl", [("It is seen", None, 1), (f"so {LONG} so", None, 1)])
    return tmp_path


def test_rows_that_repeat_an_evaluation_text_are_dropped(folder):
    corpus = read_corpus(folder, ["films", "pairs"])
    films, pairs = corpus.sources
    assert (films.rows, films.kept) == (203, 200)
    assert films.dropped == {
        "a text of an evaluation file": 1,
        "13 words in a row of one": 1,
        "empty or repeated": 1,
    }
    assert pairs.dropped == {"a text of an evaluation file": 1}
    assert set(corpus.unseen) == {"films/dev", "advglue/films"}
    assert corpus.unseen_texts == 3
    texts = {normalised(t) for row in corpus.rows for t in (row.first, row.second or "")}
    assert not texts & {"good , film !", "it is seen"}
    assert any("film number" in text for text in texts)


def test_held_out_rows_share_no_text_with_those_trained_on(folder):
    kept = [(f"first {n}", f"second {n % 7}", 0) for n in range(300)]
    write(folder / "pairs/train.jsonl", kept)
    corpus = read_corpus(folder, ["pairs"])
    held = {t for row in corpus.rows if row.held_out for t in (row.first, row.second)}
    trained = {t for row in corpus.rows if not row.held_out for t in (row.first, row.second)}
    assert held
    assert trained
    assert not held & trained


@pytest.mark.parametrize("order", [["films", "pairs"], ["pairs", "films"]])
@pytest.mark.parametrize("place", ["first", "second"])
@pytest.mark.parametrize("twin", ["same", "case and blanks", "decomposed", "composed"])
def test_a_text_held_out_of_one_data_set_is_trained_on_in_none(folder, order, place, twin):
    """The held-out text comes back in another data set, as either text of a row and as a near twin."""
    texts = [f"café number {n}" for n in range(400)]
    write(folder / "films/train.jsonl", [(text, None, 0) for text in texts])
    plain = {t for row in read_corpus(folder, ["films"]).rows if row.held_out for t in (row.first,)}
    assert 2 < len(plain) < 30
    change = {
        "same": str,
        "case and blanks": lambda text: f"\u00a0{text.upper()}\n",
        "decomposed": lambda text: unicodedata.normalize("NFD", text),
        "composed": lambda text: unicodedata.normalize("NFC", text),
    }[twin]
    rows = [(change(text), f"other right {n}", 0) for n, text in enumerate(texts)]
    if place == "second":  # a first text decides by itself whether its row is held out
        rows = [("other left", first, 0) for first, _, _ in rows]
    write(folder / "pairs/train.jsonl", rows)
    corpus = read_corpus(folder, order)
    trained = [row for row in corpus.rows if not row.held_out]
    assert trained
    seen = {normalised(t) for row in trained for t in (row.first, row.second) if t}
    assert not {normalised(text) for text in plain} & seen
    assert len(trained) == 2 * (len(texts) - len(plain))
    pairs = next(source for source in corpus.sources if source.name == "pairs/train")
    expected = {"shares a text with a held-out row": len(plain)} if place == "second" else {}
    assert {k: v for k, v in pairs.dropped.items() if k.startswith("shares")} == expected


def test_both_texts_of_a_held_out_pair_are_kept_out_of_other_data_sets(folder):
    write(folder / "pairs/train.jsonl", [(f"left {n}", f"right {n}", 0) for n in range(300)])
    write(folder / "films/train.jsonl", [(f"Right  {n}", None, 0) for n in range(300)])
    corpus = read_corpus(folder, ["films", "pairs"])
    held = {row.second for row in corpus.rows if row.held_out and row.dataset == 1}
    assert held
    trained = {normalised(row.first) for row in corpus.rows if not row.held_out}
    assert "left 0" in trained or "left 1" in trained
    assert not held & trained


def test_a_word_is_the_same_composed_and_decomposed():
    assert normalised("Un cafe\u0301!") == normalised("un  CAFÉ !") == "un café !"
    assert Unseen(["ein Käse"]).why("Ein Ka\u0308se") == "same"


def test_held_out_goes_by_the_text_alone():
    found = [held_out(f"text {n}") for n in range(5000)]
    assert 60 < sum(found) < 140
    assert held_out("Text  17 !") == held_out("text 17!")


@pytest.mark.parametrize(
    "name",
    [
        "sst2/dev",
        "advglue",
        "adv_sst2",
        "contrast_imdb",
        "cad_imdb",
        "published_prompts",
        "films-test",
        "../x",
        "/etc",
    ],
)
def test_evaluation_data_are_refused_by_name(name, folder):
    with pytest.raises(InputError, match="only train splits are trained on"):
        refuse_evaluation(name)
    with pytest.raises(InputError, match="stay unseen"):
        corpus_files(folder, ["films", name])


def test_names_of_train_splits_are_not_refused():
    for name in ("sst2", "imdb", "paws_qqp", "ethics_justice", "movie_rationales", "advice", "devotion"):
        refuse_evaluation(name)


def test_what_is_missing(folder, tmp_path):
    with pytest.raises(InputError, match="none for songs/train. There are: films, pairs"):
        corpus_files(folder, ["films", "songs"])
    with pytest.raises(InputError, match="corpus is a folder"):
        corpus_files(tmp_path / "nowhere", ["films"])
    (folder / "films/train.jsonl").write_text('{"text_a": "x", "label": 0}\n{"text": 1}\n')
    with pytest.raises(InputError, match="line 2: KeyError"):
        read_corpus(folder, ["films"])


@pytest.mark.parametrize(
    "line",
    [
        {"text_a": None, "label": 0},
        {"text_a": 3, "label": 0},
        {"text_a": "x", "text_b": 3, "label": 0},
        {"text_a": "x", "text_b": ["y"], "label": 0},
        {"text_a": "\ud800", "label": 0},
        {"text_a": "x", "text_b": "\ud800", "label": 0},
        {"text_a": "x", "label": None},
        {"text_a": "x", "label": 0.5},
        {"text_a": "x", "label": float("nan")},
        {"text_a": "x", "label": "positive"},
        {"text_a": "x"},
        ["x", 0],
        "x",
    ],
)
@pytest.mark.parametrize("name", ["train", "dev"])
def test_a_row_without_text_or_label_is_no_word_none(folder, line, name):
    (folder / f"films/{name}.jsonl").write_text(
        f'{{"text_a": "x", "label": 0}}\n{json.dumps(line)}\n', encoding="utf-8"
    )
    with pytest.raises(InputError, match=f"films/{name}.jsonl is an object .* got line 2: ") as refused:
        read_corpus(folder, ["films"])
    assert "\n" not in str(refused.value)


def test_labels_and_files_as_other_programs_write_them(folder):
    rows = [{"text_a": f"text {n}", "label": label} for n, label in enumerate((1, 1.0, "1", "1.0", True))]
    lines = "".join(json.dumps(row) + "\r\n" for row in rows)
    (folder / "films/train.jsonl").write_bytes(lines.encode("utf-8-sig"))
    assert [row.label for row in read_corpus(folder, ["films"]).rows] == [1] * 5


def test_originals_of_attacked_rows_are_kept_out_by_whichever_field(folder):
    fields = {"premise": "The Old town", "hypothesis": f"again {LONG} again"}
    attacked = [{"text_a": "a", "text_b": "b", "label": 0, "original": fields}]
    attacked += [
        {"text_a": "c", "label": 0, "original": "The one TEXT"},
        {"text_a": "d", "label": 0, "original": None},
    ]
    text = "".join(json.dumps(row) + "\n" for row in attacked)
    (folder / "advglue/films.jsonl").write_text(text, encoding="utf-8")
    seen = ["the  old town", f"once {LONG} once", "the one text"]
    write(folder / "films/train.jsonl", [(text, None, 0) for text in (*seen, "another text")])
    corpus = read_corpus(folder, ["films"])
    assert [row.first for row in corpus.rows] == ["another text"]


def test_runs_of_words():
    unseen = Unseen([LONG])
    words = LONG.split()
    assert unseen.why(LONG.upper() + ".") == "run"
    assert unseen.why(LONG) == "same"
    assert unseen.why("x , " + " , ".join(words[:13])) == "run"
    assert unseen.why(" ".join(words[:12])) is None
    assert unseen.why(" ".join([*words[:6], "other", *words[6:12]])) is None
    assert Unseen([]).why(LONG) is None


def test_weights_made_by_an_older_rule_are_not_the_answer(monkeypatch):
    recipe = read_recipe(ROOT / "experiments" / "models" / "pocket.yaml")
    config = PretrainConfig(corpus="data", recipe="pocket.yaml")
    plan = PretrainPlan(config, recipe, ("pocket-t5",), {"sst2/train": "0" * 64}, {"sst2/dev": "1" * 64}, 0)
    now = plan.model_address("pocket-t5"), plan.address, plan.corpus_address
    monkeypatch.setattr("skillneurons.pretrain.plan.METHOD_VERSION", 1)
    before = plan.model_address("pocket-t5"), plan.address, plan.corpus_address
    assert not set(now) & set(before)
    assert len(set(now)) == len(set(before)) == 3
