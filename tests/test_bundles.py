"""Small layers are added together: the same bits as one by one, and the same refusals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer, columns
from fusiform.engine.moments import accumulate, accumulators, plan
from fusiform.engine.moments.accumulators import Live
from fusiform.engine.moments.finished import Finished
from fusiform.engine.moments.plan import Block, bundles, make_plan
from fusiform.kernels import device

CPU = torch.device("cpu")
SHAPES = {"map": (3, 4, 4), "tokens": (5, 6), "pooled": (7,), "large": (30, 8, 8), "half": (9,)}
DTYPES = {"half": torch.bfloat16}


def layer(name: str, shape: tuple[int, ...], dtype: str = "float32") -> Layer:
    return Layer(name, "Module", tuple(f"axis_{i}" for i in range(len(shape))), shape, dtype)


LAYERS = [
    layer(name, shape, str(DTYPES.get(name, torch.float32)).removeprefix("torch."))
    for name, shape in SHAPES.items()
]


@given(
    st.lists(st.tuples(st.integers(1, 9000), st.sampled_from(["float32", "float16"]))),
)
def test_bundles_hold_every_layer_once_and_keep_their_limits(sizes: list[tuple[int, str]]) -> None:
    layers = [layer(str(i), (units,), dtype) for i, (units, dtype) in enumerate(sizes)]
    found = bundles(layers)
    assert sorted(int(one.name) for bundle in found for one in bundle) == [*range(len(layers))]
    firsts = [int(bundle[0].name) for bundle in found]
    assert firsts == sorted(firsts)
    for dtype in ("float32", "float16"):
        own = [bundle for bundle in found if bundle[0].dtype == dtype]
        assert all(one.dtype == dtype for bundle in own for one in bundle)
        assert all(len(b) == 1 for b in own if max(one.units for one in b) > plan._SMALL)
        small = [bundle for bundle in own if bundle[0].units <= plan._SMALL]
        assert all(sum(one.units for one in bundle) <= plan.BUNDLE for bundle in small)
        for one, other in pairwise(small):  # the next had no room in it
            assert sum(part.units for part in one) + other[0].units > plan.BUNDLE


def activations(stimuli: int) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(3)
    found = {
        one.name: torch.randn(stimuli, *one.shape, generator=made).to(getattr(torch, one.dtype))
        for one in LAYERS
    }
    found["map"] = found["map"].contiguous(memory_format=torch.channels_last)
    found["tokens"][11:12, 2, 3] = torch.inf
    return found


def accumulated(
    monkeypatch: pytest.MonkeyPatch,
    small: int,
    batch_size: int,
    resumed_at: int | None = None,
    reverse: bool = False,
) -> tuple[dict[tuple[str, int, int], tuple[int, bytes, bytes]], list[tuple[str, int, int]], int]:
    """Moments by layer, category and fold; layers with infinite units; number of bundles."""
    monkeypatch.setattr(plan, "_SMALL", small)
    found: dict[tuple[str, int, int], tuple[int, bytes, bytes]] = {}
    bad: list[tuple[str, int, int]] = []

    def keep(layers: Sequence[Layer], blocks: Sequence[Block], read: Finished) -> None:
        mean, m2 = read.moments()
        for one, units in columns(layers):
            for at, block in enumerate(blocks):
                parts = mean[at, units].tobytes(), m2[at, units].tobytes()
                found[one.name, block.category, block.fold] = (read.count[at], *parts)
        bad.extend((one.name, first, units) for one, first, units in read.nonfinite(layers))

    labels = np.repeat(np.arange(5, dtype=np.int32), [4, 40, 6, 30, 20])
    order = make_plan(labels, tuple("abcde"), folds=2, batch_size=batch_size)
    shown = activations(len(labels))
    live = Live(LAYERS, CPU, keep, None)
    for number, batch in enumerate(order.batches()):
        if number == resumed_at:
            saved = live.save()
            live = Live(LAYERS, CPU, keep, None)
            live.resume(saved[0], {name: part.copy() for name, part in saved[1].items()})
        live.begin(batch.without({2}))
        for one in reversed(LAYERS) if reverse else LAYERS:
            live.take(one.name, shown[one.name][batch.stimuli])
    return found, bad, len(live.bundles)


@pytest.mark.parametrize("batch_size", [3, 16, 100])
def test_layers_added_together_have_the_bits_of_layers_added_alone(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, bad, number = accumulated(monkeypatch, 0, batch_size)
    assert number == len(LAYERS)
    assert bad
    assert {name for name, *_ in bad} == {"tokens"}
    assert len(alone) == len(LAYERS) * 10
    for how in ({}, {"reverse": True}, {"resumed_at": 4}):
        if how.get("resumed_at", 0) >= 100 // batch_size:
            continue
        together, found, number = accumulated(monkeypatch, 1000, batch_size, **how)  # type: ignore[arg-type]
        assert number == 3  # map, tokens, pooled; large; half
        assert found == bad
        assert together == alone


def test_layers_are_added_alone_where_bits_depend_on_their_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accumulate, "kernels_for", lambda _: device)
    monkeypatch.setattr(accumulate, "as_arrays", lambda tensor: tensor)
    assert [one.layers for one in Live(LAYERS, CPU, lambda *_: None, None).bundles] == [
        [one] for one in LAYERS
    ]


def test_a_network_may_run_in_inference_mode_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[np.ndarray] = []
    live = Live(LAYERS[:3], CPU, lambda _, __, read: found.append(read.moments()[0]), None)
    live.begin(next(make_plan(np.repeat(np.int32([0, 1]), 2), ("a", "b"), folds=1).batches()))
    shown = activations(4)
    with torch.inference_mode():
        live.take("map", shown["map"].clone())
    live.take("tokens", shown["tokens"])
    with torch.inference_mode():
        live.take("pooled", shown["pooled"].clone())
    means = np.concatenate([one.ravel() for one in found])
    assert len(means) == 2 * (48 + 30 + 7)
    np.testing.assert_allclose(means[:48], shown["map"][:2].mean(0).ravel(), rtol=1e-6)


def test_a_layer_of_a_bundle_that_changes_is_refused_by_its_name() -> None:
    labels = np.repeat(np.int32([0, 1]), 4)
    batch = next(make_plan(labels, ("a", "b"), batch_size=8).batches())
    for wrong, match in (
        (torch.zeros(8, 6), r"pooled had \[7\] and now has \[6\]"),
        (torch.zeros(8, 7, dtype=torch.float64), "pooled had float32 and now has torch.float64"),
    ):
        live = Live(LAYERS, CPU, lambda *_: None, None)
        live.begin(batch)
        live.take("map", torch.zeros(8, 3, 4, 4))
        with pytest.raises(UserError, match=match):
            live.take("pooled", wrong)


def test_live_moments_of_other_bundles_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    headers, contents = Live(LAYERS, CPU, lambda *_: None, None).save()
    monkeypatch.setattr(plan, "_SMALL", 0)
    other = Live(LAYERS, CPU, lambda *_: None, None)
    with pytest.raises(UserError, match=r"another version of fusiform: resume .*`restart=True`"):
        other.resume(headers, contents)
    before: Any = {one.name: {"count": 0, "earlier": 0, "memory_order": None} for one in LAYERS}
    with pytest.raises(UserError, match="another version"):
        Live(LAYERS, CPU, lambda *_: None, None).resume(before, {})


def test_a_bundle_takes_no_more_memory_than_its_layers_and_one_batch() -> None:
    bundle = accumulators.Bundle(LAYERS[:3], CPU, lambda *_: None)
    bundle.take("map", torch.zeros(8, 3, 4, 4), ())
    assert bundle._rows is not None
    bundle.take("tokens", torch.zeros(8, 5, 6), ())
    bundle.take("pooled", torch.zeros(8, 7), ())
    assert bundle._rows is None  # held only while a batch is incomplete
    state = bundle.moments._memory.nbytes
    assert state == sum(one.state_bytes for one in LAYERS[:3])
