"""The plan shows every stimulus once, in blocks, and depends on its arguments only."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.moments.plan import make_plan, parts_within

NAMES = ("faces", "bodies", "scenes", "words", "tools")


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(6, 20), min_size=2, max_size=5),
    folds=st.integers(1, 3),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_every_stimulus_is_shown_once_in_its_block(
    sizes: list[int], folds: int, batch_size: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    np.random.default_rng(seed).shuffle(labels)
    plan = make_plan(labels, NAMES[: len(sizes)], folds=folds, batch_size=batch_size)
    batches = list(plan.batches())
    assert len(batches) == plan.n_batches
    assert all(len(batch.stimuli) == batch_size for batch in batches[:-1])
    shown = np.concatenate([batch.stimuli for batch in batches])
    assert sorted(shown) == list(range(len(labels)))

    finished = []
    for batch in batches:
        covered = [row for run in batch.runs for row in range(run.start, run.stop)]
        assert covered == list(range(len(batch.stimuli)))
        for run in batch.runs:
            stimuli = batch.stimuli[run.start : run.stop]
            assert (labels[stimuli] == run.block.category).all()
            assert (plan.fold_of[stimuli] == run.block.fold).all()
            if run.last:
                finished.append(run.block)
    assert finished == list(plan.blocks)
    assert [number for shard in plan.shards for number in shard] == list(range(len(batches)))
    beginning = [number for number, batch in enumerate(batches) if batch.begins_shard]
    assert beginning == [shard.start for shard in plan.shards]
    for shard in plan.shards:
        assert len(shard) >= min(4, len(batches))
        own = list(plan.batches(shard.start, shard.stop))
        np.testing.assert_equal(
            [tuple(batch) for batch in own], [tuple(batches[number]) for number in shard]
        )
    assert plan.counts(len(sizes)).sum(axis=1).tolist() == np.bincount(labels).tolist()


@given(units=st.lists(st.integers(1, 50), min_size=1, max_size=9), most=st.integers(20, 2000))
def test_layers_are_cut_into_the_fewest_parts_that_fit(units: list[int], most: int) -> None:
    layers = [Layer(f"{i}", "M", ("unit",), (n,), "float32") for i, n in enumerate(units)]
    parts = parts_within(layers, lambda layer: layer.state_bytes, most)
    assert [layer for part in parts for layer in part] == layers
    sizes = [sum(layer.state_bytes for layer in part) for part in parts]
    assert all(size <= most or len(part) == 1 for size, part in zip(sizes, parts, strict=True))
    for part, after in itertools.pairwise(parts):  # no part could take one more layer
        assert sum(layer.state_bytes for layer in (*part, after[0])) > most


def test_folds_share_every_joined_folder() -> None:
    labels = np.zeros(20, np.int32)
    labels[10:] = 1
    plan = make_plan(labels, NAMES[:2], folds=2)
    first_folder = plan.fold_of[:6]  # say faces = adult (6) + child (4)
    assert np.bincount(first_folder).tolist() == [3, 3]


def test_stimuli_are_shown_in_a_block_design() -> None:
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 0], np.int32)
    plan = make_plan(labels, NAMES[:2], folds=2, batch_size=3)
    assert plan.order.tolist() == [1, 5, 3, 7, 0, 4, 2, 6]


@pytest.mark.parametrize(
    ("size", "folds", "said"),
    [(1, 2, "faces has 1"), (3, 2, "`folds=1`"), (1, 1, "faces has 1"), (0, 1, "faces has 0")],
)
def test_too_few_stimuli_are_refused(size: int, folds: int, said: str) -> None:
    labels = np.array([0] * size + [1] * 9, np.int32)
    with pytest.raises(UserError, match=said):
        make_plan(labels, NAMES[:2], folds=folds)


@pytest.mark.parametrize(("folds", "batch_size"), [(0, 32), (2, 0), (-1, 1)])
def test_invalid_plan_arguments_raise(folds: int, batch_size: int) -> None:
    with pytest.raises(UserError, match="at least 1"):
        make_plan(np.repeat(np.int32([0, 1]), 8), NAMES[:2], folds=folds, batch_size=batch_size)
