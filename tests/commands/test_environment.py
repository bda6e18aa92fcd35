"""The memory a run is said to have needed."""

import os
from math import isnan

import pytest
import torch

from skillneurons.commands import environment
from skillneurons.commands.environment import PROCESS, peak_memory_mb, reset_peak_memory

CPU = torch.device("cpu")


@pytest.mark.skipif(not os.access(PROCESS / "clear_refs", os.W_OK), reason="this system keeps no peak to reset")
def test_the_peak_is_that_since_the_reset():
    psutil = pytest.importorskip("psutil")
    reset_peak_memory(CPU)
    before = psutil.Process().memory_info().rss / 2**20
    hog = bytearray(b"x") * (300 * 2**20)
    held = psutil.Process().memory_info().rss / 2**20
    del hog
    assert held > before + 290
    assert peak_memory_mb(CPU) == pytest.approx(held, abs=30)
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU) == pytest.approx(psutil.Process().memory_info().rss / 2**20, abs=30)


def test_where_no_peak_can_be_reset_none_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "PROCESS", tmp_path / "nowhere")
    reset_peak_memory(CPU)
    assert isnan(peak_memory_mb(CPU))
