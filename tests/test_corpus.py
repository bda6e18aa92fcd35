import json

import pytest

from skillneurons.corpus import corpus_files, held_out, read_corpus, refuse_evaluation
from skillneurons.errors import InputError
from skillneurons.overlap import Unseen, normalised

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


def test_runs_of_words():
    unseen = Unseen([LONG])
    words = LONG.split()
    assert unseen.why(LONG.upper() + ".") == "run"
    assert unseen.why(LONG) == "same"
    assert unseen.why("x , " + " , ".join(words[:13])) == "run"
    assert unseen.why(" ".join(words[:12])) is None
    assert unseen.why(" ".join([*words[:6], "other", *words[6:12]])) is None
    assert Unseen([]).why(LONG) is None
