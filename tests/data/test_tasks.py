"""Task files: what they say, what they inherit, and every mistake answered in one line."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from skillneurons.data.generated.catalogue import GENERATORS
from skillneurons.data.tasks import FAMILIES, load_task, unsourced
from skillneurons.errors import InputError

FOLDER = ROOT / "experiments" / "tasks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
EDITED = {f"{name}_imdb{end}" for name in ("contrast", "cad") for end in ("", "_original")}
PAPER = {
    *("sst2", "imdb", "movie_rationales", "mrpc", "qqp", "qnli", "mnli"),
    *("ethics_deontology", "ethics_justice", "adv_sst2", "adv_qqp", "adv_qnli", "adv_mnli"),
}
PAIR = {
    "name": "pair",
    "version": 1,
    "family": "nli",
    "fields": ["a", "b"],
    "labels": ["off", "on"],
    "templates": {"masked_lm": ["{a}", "{b}"], "encoder_decoder": "x: {a} y: {b}"},
    "label_words": {"masked_lm": ["no", "yes"], "encoder_decoder": ["no", "yes"]},
    "hub": {"id": "some/set", "label_names": {0: "on", 1: "off"}, "splits": {"train": "train"}},
    "file": {"columns": {"a": "text_a"}, "splits": {"train": ["a.jsonl", "b/*.jsonl"]}},
}


def _load(folder, **changes):
    definition = {**copy.deepcopy(PAIR), **changes}
    path = folder / f"{definition.get('name')}.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in definition.items() if value is not None}, sort_keys=False)
    )
    return load_task(path)


def _with(key, **changes):
    return {key: {**PAIR[key], **changes}}


class TestShipped:
    def test_the_papers_tasks_and_the_built_in_ones_are_all_there(self):
        assert set(NAMES) == PAPER | EDITED | set(GENERATORS)

    @pytest.mark.parametrize("name", NAMES)
    def test_loads_with_two_words_a_family_and_renders(self, name):
        task = load_task(name, FOLDER)
        assert task.name == name
        row = {field: f"<{field} {{0}}>" for field in task.fields}
        for family in FAMILIES:
            assert len(task.words(family)) == len(task.words(family, published=True)) == len(task.labels) == 2
            segments = task.render(family, row)
            assert all(text in " ".join(segments) for text in row.values())
            assert len(segments) == (len(task.fields) if family == "masked_lm" else 1)

    @pytest.mark.parametrize("name", NAMES)
    def test_label_words_are_plain_lower_case_words(self, name):
        task = load_task(name, FOLDER)
        assert all(word.isalpha() and word.islower() for family in FAMILIES for word in task.words(family))

    @pytest.mark.parametrize(
        ("name", "label", "family", "published"),
        [
            ("sst2", "positive", "masked_lm", "positive"),
            ("mrpc", "paraphrase", "encoder_decoder", "true"),
            ("qnli", "entailment", "masked_lm", "yes"),
            ("qnli", "entailment", "encoder_decoder", {"word": "entailment", "piece": "first"}),
            ("mnli", "contradiction", "encoder_decoder", {"word": "contradiction", "piece": "first"}),
            ("ethics_justice", "reasonable", "masked_lm", {"word": "acceptable", "piece": "first"}),
        ],
    )
    def test_published_words_are_the_papers(self, name, label, family, published):
        task = load_task(name, FOLDER)
        assert task.words(family, published=True)[task.labels.index(label)] == published

    def test_papers_texts_for_t5(self):
        qnli = load_task("qnli", FOLDER).render("encoder_decoder", {"question": "Q", "sentence": "S"})
        mnli = load_task("mnli", FOLDER).render("encoder_decoder", {"hypothesis": "H", "premise": "P"})
        qqp = load_task("qqp", FOLDER).render("encoder_decoder", {"a": "A", "b": "B"})
        ethics = load_task("ethics_deontology", FOLDER)
        assert qnli == ("hypothesis: Q [SEP] sentence: premise: S",)
        assert mnli == ("hypothesis: H [SEP] sentence: premise: P",)
        assert qqp == ("A <extra_id_0> B",)
        assert ethics.render("encoder_decoder", {"scenario": "S", "excuse": "E"}) == ("S E",)

    @pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("adv_")])
    def test_adversarial_tasks_read_like_their_clean_counterpart(self, name):
        task = load_task(name, FOLDER)
        clean = load_task(task.clean, FOLDER)
        assert name == f"adv_{clean.name}"
        for key in ("family", "fields", "labels", "templates", "label_words", "published_words"):
            assert getattr(task, key) == getattr(clean, key)
        sources = [source for source in (task.hub, task.file, task.builtin) if source]
        assert sources
        assert all(source.roles == ("test",) for source in sources)


class TestTask:
    def test_texts_enter_templates_as_they_are(self, tmp_path):
        row = {"a": "{b} {0}", "b": "50% {x"}
        assert _load(tmp_path).render("encoder_decoder", row) == ("x: {b} {0} y: 50% {x",)
        assert _load(tmp_path).render("masked_lm", row) == ("{b} {0}", "50% {x")

    def test_a_family_without_template_names_those_with_one(self, tmp_path):
        with pytest.raises(InputError, match="decoder_only; got only masked_lm, encoder_decoder"):
            _load(tmp_path).render("decoder_only", {"a": "", "b": ""})

    def test_fingerprint_is_of_the_meaning_only(self, tmp_path):
        task = _load(tmp_path)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "other.yaml").write_text("# a comment\n" + json.dumps(dict(reversed(PAIR.items()))))
        assert load_task(elsewhere / "other.yaml").fingerprint == task.fingerprint
        assert len(task.fingerprint) == 64

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": 2},
            {"labels": ["on", "off"]},
            _with("label_words", masked_lm=["yes", "no"]),
            _with("templates", encoder_decoder="{a}{b}"),
            _with("hub", label_names={0: "off", 1: "on"}),
            _with("file", drop=["other"]),
        ],
    )
    def test_fingerprint_changes_with_every_part(self, tmp_path, changes):
        assert _load(tmp_path, **changes).fingerprint != _load(tmp_path).fingerprint

    def test_unsourced_is_plain_data_without_the_sources(self, tmp_path):
        here, there = unsourced(_load(tmp_path)), unsourced(_load(tmp_path, hub=None))
        assert here == there
        assert json.loads(json.dumps(here))["labels"] == ["off", "on"]
        assert unsourced(_load(tmp_path, version=2)) != here

    def test_the_source_is_hub_then_file_then_builtin_unless_data_dir_is_given(self, tmp_path):
        builtin = {"name": "film_notes", "seed": "1"}
        assert _load(tmp_path).source() == (_load(tmp_path).hub, tmp_path)
        assert _load(tmp_path).source("/data") == (_load(tmp_path).file, Path("/data"))
        assert _load(tmp_path, hub=None).source() == (_load(tmp_path).file, tmp_path)
        assert _load(tmp_path, hub=None, file=None, builtin=builtin).source("/data")[0].kind == "builtin"


class TestFinding:
    def test_by_name_here_and_from_the_source_checkout(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert load_task("sst2").folder == FOLDER
        folder = tmp_path / "experiments" / "tasks"
        folder.mkdir(parents=True)
        _load(folder, name="sst2")
        assert load_task("sst2").fields == ("a", "b")

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(InputError, match=r"adv_mnli, .*sst2, .*; got 'sst3'"):
            load_task("sst3", FOLDER)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"nope\.yaml"):
            load_task(tmp_path / "nope.yaml")

    @pytest.mark.parametrize("text", ["- a list", "a: [", ""])
    def test_what_is_no_mapping_is_refused(self, tmp_path, text):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(InputError, match=r"x\.yaml must"):
            load_task(tmp_path / "x.yaml")

    def test_an_adversarial_task_overrides_what_it_inherits(self, tmp_path):
        _load(tmp_path)
        inherited = dict.fromkeys(("fields", "labels", "templates", "family"))
        task = _load(tmp_path, name="hard", clean="pair", **inherited)
        assert (task.fields, task.clean) == (("a", "b"), "pair")
        other = _load(tmp_path, name="hard", clean="pair", **{**inherited, "family": "other"})
        assert other.family == "other"


BAD = {
    "missing key": ({"version": None}, "the key 'version' must be there"),
    "missing nested key": ({"hub": {"splits": {"test": "test"}}}, r"the key 'hub\.id' must be there"),
    "unknown key": ({"lables": ["a"]}, "got lables"),
    "unknown nested key": (_with("hub", colums={}), r"'hub\.colums' must be a known key"),
    "name": ({"name": "a b"}, "'name' must be letters"),
    "no source": ({"hub": None, "file": None}, "one of 'hub', 'file' and 'builtin'"),
    "words are booleans": (_with("label_words", masked_lm=[False, True]), "Quote a number, true, false"),
    "one word too few": (_with("label_words", masked_lm=["no"]), "one word for each label"),
    "one word twice": (_with("label_words", masked_lm=["no", "no"]), "must differ"),
    "words for another family": ({"label_words": {"masked_lm": ["no", "yes"]}}, "the same backbone families"),
    "unknown family": (_with("templates", masked="{a}"), "masked_lm|encoder_decoder"),
    "unknown place": (_with("templates", masked_lm="{c}"), r"places \{a\}, \{b\}; got \{c\}"),
    "no place": (_with("templates", masked_lm="text"), "places"),
    "unnamed place": (_with("templates", masked_lm="{}"), "places"),
    "conversion": (_with("templates", masked_lm="{a!r}"), "places"),
    "open brace": (_with("templates", masked_lm="{a"), "places"),
    "three segments": (_with("templates", masked_lm=["{a}"] * 3), "at most 2"),
    "same label twice": ({"labels": ["on", "on"]}, "'labels' must differ"),
    "same label as text": (
        {"labels": ["1", "1.0"], "hub": None, "file": {"splits": {"test": "a"}}},
        "'labels' must differ",
    ),
    "same raw label twice": (_with("hub", label_names={0: "off", "0.0": "on"}), "the same label"),
    "one label": ({"labels": ["on"]}, "at least 2"),
    "unknown role": (_with("hub", splits={"validation": "x"}), r"train\|dev\|test"),
    "no splits": (_with("file", splits={}), r"'file\.splits'"),
    "empty path": (_with("file", splits={"train": ""}), r"'file\.splits\.train\.0'"),
    "label name of no label": (_with("hub", label_names={0: "up"}), "must map to off, on"),
    "column of no field": (_with("file", columns={"c": "x"}), "must name the task's fields"),
    "piece": ({"published_words": {"masked_lm": [{"word": "a", "piece": "last"}, "b"]}}, "piece: first"),
    "clean unknown": ({"clean": "nope"}, "got 'nope'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_definition_is_refused_in_one_line(tmp_path, case):
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        _load(tmp_path, **changes)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).count("; got ") == 1
