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
def test_bundles_keep_the_order_of_layers_and_their_limits(sizes: list[tuple[int, str]]) -> None:
    layers = [layer(str(i), (units,), dtype) for i, (units, dtype) in enumerate(sizes)]
    found = bundles(layers)
    assert [one for bundle in found for one in bundle] == layers
    for bundle in found:
        assert len({one.dtype for one in bundle}) == 1
        if len(bundle) > 1:
            assert max(one.units for one in bundle) <= plan._SMALL
            assert sum(one.units for one in bundle) <= plan._BUNDLE
    for one, other in pairwise(found):  # none could join the one before
        following = other[0]
        assert (
            one[0].dtype != following.dtype
            or max(one[0].units, following.units) > plan._SMALL
            or sum(part.units for part in one) + following.units > plan._BUNDLE
        )


def activations(stimuli: int) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(3)
    found = {
        one.name: torch.randn(stimuli, *one.shape, generator=made).to(getattr(torch, one.dtype))
        for one in LAYERS
    }
    found["map"] = found["map"].contiguous(memory_format=torch.channels_last)
    found["tokens"][11, 2, 3] = torch.inf
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
@pytest.mark.parametrize("on_device", [False, True], ids=["cpu", "device"])
def test_layers_added_together_have_the_bits_of_layers_added_alone(
    batch_size: int, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_device:
        monkeypatch.setattr(accumulate, "kernels_for", lambda _: device)
        monkeypatch.setattr(accumulate, "as_arrays", lambda tensor: tensor)
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
        if not on_device:
            assert together == alone
            continue
        assert together.keys() == alone.keys()
        for key, (count, *parts) in together.items():  # torch's sums round by the shape
            assert count == alone[key][0]
            for part, expected in zip(parts, alone[key][1:], strict=True):
                np.testing.assert_allclose(
                    np.frombuffer(part), np.frombuffer(expected), rtol=1e-11, atol=1e-13
                )


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
