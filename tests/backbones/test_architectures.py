"""A sample of the types in docs/architectures.md, by the same check; the table has all of them."""

import re
from pathlib import Path

import pytest

import architectures
import tiny_architectures

TABLE = Path(architectures.__file__).with_suffix(".md")
WORKS, NO_FFN = "works", r"got none\."
# what is said of neurons; everything else works with these types
SAMPLE = {
    ("masked_lm", "xlm"): WORKS,  # attentions and FFNs in lists of their own
    ("masked_lm", "mobilebert"): NO_FFN,  # a bottleneck stands behind its FFNs
    ("masked_lm", "squeezebert"): NO_FFN,  # made of convolutions
    ("encoder_decoder", "encoder-decoder"): WORKS,  # BERT2BERT: nothing but nested configurations
    ("decoder_only", "gpt_neox"): WORKS,  # attention beside the FFN
    ("decoder_only", "rwkv"): WORKS,  # a gate is the last linear map of a layer
    ("decoder_only", "bamba"): WORKS,  # state spaces with an FFN in each layer
    ("decoder_only", "mamba"): NO_FFN,  # as wide as configured, and no FFN
    ("decoder_only", "zamba"): NO_FFN,  # its FFNs lead to a state space, in some layers
    ("encoder_decoder", "fsmt"): r"got shapes \[\(5, 2\)\]",  # rows last
}


@pytest.mark.parametrize(("family", "name"), SAMPLE)
def test_the_whole_chain_is_what_it_is_by_hand(family: str, name: str, tmp_path: Path) -> None:
    row, expected = architectures.examine(family, name, tmp_path), SAMPLE[family, name]
    assert row.tuning == WORKS
    assert re.search(expected, row.neurons), row.neurons
    assert row.suppression == (WORKS if row.neurons == WORKS else "")


def test_the_check_sees_taps_that_are_not_the_ffns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = architectures.ByHand.projections
    monkeypatch.setattr(architectures.ByHand, "projections", lambda self: taken(self)[1:])
    assert architectures.examine("decoder_only", "gpt_neox", tmp_path).neurons.startswith("WRONG: taps")


def test_the_table_has_every_type_and_nothing_wrong() -> None:
    lines = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")][1:]
    assert {(cells[1], cells[0].removeprefix("| ")) for cells in lines} == set(tiny_architectures.types())
    assert len(lines) > 80
    assert not [cells for cells in lines if "WRONG" in "".join(cells) or "FAILS" in "".join(cells)]
