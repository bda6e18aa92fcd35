import itertools

import torch

from skillneurons.backbones.batching import batches_by_length, batches_of_epoch, endless_batches
from skillneurons.seeds import mix


def test_each_row_once_an_epoch_and_batches_of_like_length():
    lengths = torch.randint(3, 60, (1003,), generator=torch.Generator().manual_seed(0))
    batches = batches_of_epoch(lengths, 16, seed=3, epoch=0)
    assert sorted(itertools.chain(*batches)) == list(range(1003))
    assert [len(b) for b in batches].count(16) == 1003 // 16
    padded = sum(len(b) * int(lengths[b].max()) for b in batches)
    shuffled = torch.randperm(1003, generator=torch.Generator().manual_seed(1)).split(16)
    unbucketed = sum(len(b) * int(lengths[b].max()) for b in shuffled)
    assert padded < 0.75 * unbucketed


def test_order_depends_on_seed_and_epoch_alone():
    lengths = torch.arange(200)
    first = batches_of_epoch(lengths, 8, 1, 0)
    assert first == batches_of_epoch(lengths, 8, 1, 0)
    assert first != batches_of_epoch(lengths, 8, 1, 1)
    assert first != batches_of_epoch(lengths, 8, 2, 0)


def test_resuming_in_the_middle_gives_the_rest_of_the_same_stream():
    lengths = torch.arange(1, 101) % 13
    whole = list(itertools.islice(endless_batches(lengths, 8, 5, 0), 40))
    for start in (1, 12, 13, 14, 27):
        assert list(itertools.islice(endless_batches(lengths, 8, 5, start), 40 - start)) == whole[start:]


def test_evaluation_batches_hold_each_row_once_longest_first():
    lengths = torch.tensor([3, 9, 1, 9, 4])
    assert batches_by_length(lengths, 2) == [[1, 3], [4, 0], [2]]


def test_mix_separates_neighbours():
    seeds = {mix(seed, epoch) for seed in range(200) for epoch in range(50)}
    assert len(seeds) == 200 * 50
    assert all(0 <= value < 2**63 for value in seeds)
