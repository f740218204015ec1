"""Accumulating activations of any layout and precision into the moments of their blocks."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.moments import accumulate, finished
from fusiform.engine.moments.accumulate import LayerMoments
from fusiform.engine.moments.finished import Finished
from fusiform.engine.moments.plan import Block, Run, make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.progress import Listener
from fusiform.kernels import device
from fusiform.kernels.moments import Moments, merge

from . import flat, reference
from .fuzz.small import contents

CPU = torch.device("cpu")
LAYOUTS: dict[str, tuple[tuple[int, ...], Callable[[torch.Tensor], torch.Tensor]]] = {
    "contiguous": ((4, 3, 5), lambda x: x),
    "channels_last": ((4, 3, 5), lambda x: x.contiguous(memory_format=torch.channels_last)),
    "transposed": ((4, 3, 5), lambda x: x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)),
    "sliced, not dense": ((4, 3, 5), lambda x: torch.cat([x, x], dim=3)[..., :5]),
    "tokens": ((6, 7), lambda x: x),
    "units": ((9,), lambda x: x),
    "pooled": ((9, 1, 1), lambda x: x.contiguous(memory_format=torch.channels_last)),
}


def layer_of(x: torch.Tensor) -> Layer:
    dims = tuple(f"axis_{axis}" for axis in range(x.ndim - 1))
    return Layer("layer", "Module", dims, tuple(x.shape[1:]), str(x.dtype).removeprefix("torch."))


def each(blocks: Sequence[Block], read: Finished, shape: Sequence[int]) -> dict[Block, Moments]:
    """The moments of every block, in the shape of their layer."""
    shaped = (part.reshape(-1, *shape) for part in read.moments())
    parts = zip(read.count, *shaped, strict=True)
    return {block: Moments(*own) for block, own in zip(blocks, parts, strict=True)}


def accumulated(x: torch.Tensor, batch_size: int = 4) -> dict[tuple[int, int], Moments]:
    """Moments per (category, fold) of activations ``x`` of 14 stimuli, two categories of 7."""
    plan = make_plan(np.repeat(np.int32([0, 1]), 7), ("a", "b"), folds=2, batch_size=batch_size)
    finished: dict[tuple[int, int], Moments] = {}

    def keep(blocks: Sequence[Block], read: Finished) -> None:
        for block, own in each(blocks, read, x.shape[1:]).items():
            finished[block.category, block.fold] = own

    moments = LayerMoments(layer_of(x), CPU, keep)
    for batch in plan.batches():
        moments.fold_in(x[batch.stimuli], batch.runs)
    return finished


def check(x: torch.Tensor, found: dict[tuple[int, int], Moments], rel: float = 1e-12) -> None:
    values = x.double().numpy().reshape(14, -1)
    assert sorted(found) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for (category, fold), moments in found.items():
        assert moments.mean.shape == tuple(x.shape[1:])
        members = values[7 * category : 7 * category + 7][fold::2]
        for unit in range(values.shape[1]):
            count, mean, m2 = reference.moments(members[:, unit])
            assert moments.count == count
            assert moments.mean.ravel()[unit] == pytest.approx(mean, rel=rel, abs=1e-13)
            assert moments.m2.ravel()[unit] == pytest.approx(m2, rel=rel, abs=1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_size", [1, 3, 4, 14])
@pytest.mark.parametrize("on_device", [False, True], ids=["cpu", "device"])
def test_units_keep_their_place_in_any_layout(
    layout: str, batch_size: int, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_device:
        monkeypatch.setattr(accumulate, "kernels_for", lambda _: device)
        monkeypatch.setattr(accumulate, "as_arrays", lambda tensor: tensor)
    shape, lay_out = LAYOUTS[layout]
    x = torch.randn(14, *shape, generator=torch.Generator().manual_seed(1))
    check(x, accumulated(lay_out(x), batch_size))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_half_and_double_precision_are_accumulated(dtype: torch.dtype) -> None:
    x = torch.randn(14, 4, 3, 5, generator=torch.Generator().manual_seed(2)).to(dtype)
    check(x, accumulated(x))


def test_a_block_split_over_shards_is_merged_from_its_parts() -> None:
    x = torch.randn(14, 4, 3, 5, generator=torch.Generator().manual_seed(4)) + 100
    x = x.contiguous(memory_format=torch.channels_last)
    whole, cut = {}, {}
    for found, shards in ((whole, False), (cut, True)):
        moments = LayerMoments(
            layer_of(x), CPU, lambda *read, to=found: to.update(each(*read, x.shape[1:]))
        )
        block = Block(0, 0, 0, 14)
        for start in (0, 4, 8, 12):
            rows = x[start : start + 4]
            if shards:
                record, contents = moments.live()
                moments = LayerMoments(layer_of(x), CPU, moments._on_finished)  # as if resumed
                moments.resume(record, contents)
                moments.cut()
            moments.fold_in(rows, [Run(block, 0, len(rows), last=start == 12)])
    one, other = whole[block], cut[block]
    assert one.count == other.count == 14
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-14)
    np.testing.assert_allclose(other.m2, one.m2, rtol=1e-12)
    # Chan's formula over the parts, in their order, to the bit.
    by_hand = LayerMoments(layer_of(x), CPU, lambda *_: None)
    read = []
    for start in (0, 4, 8, 12):
        by_hand.fold_in(x[start : start + 4], [Run(block, 0, len(x[start : start + 4]), False)])
        read.append(each([block], by_hand.part(), x.shape[1:])[block])
    assert by_hand.part() is None
    merged = functools.reduce(merge, read)
    np.testing.assert_array_equal(other.mean, merged.mean)
    np.testing.assert_array_equal(other.m2, merged.m2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("at_once", [700, 2**20])
def test_whole_blocks_at_once_give_the_bits_of_one_by_one(
    layout: str, dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, lay_out = LAYOUTS[layout]
    sizes = [4, 5, 9, 20, 4, 4, 6, 11, 4, 5]
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    x = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(5)) + 3
    x[17, 0], x[40] = torch.nan, torch.inf
    x = lay_out(x.to(dtype))
    found: list[list[Any]] = []
    for most in (at_once, 0):
        monkeypatch.setattr(accumulate, "_AT_ONCE", most)
        read: list[Any] = []

        def keep(blocks: Any, one: Finished, read: list[Any] = read) -> None:
            parts = one.count, *one.moments(), one._packed[:, -1]
            for block, count, mean, m2, units in zip(blocks, *parts, strict=True):
                read.append((block, mean.tobytes() + m2.tobytes(), count, units))

        plan = make_plan(labels, tuple("abcdefghij"), folds=2, batch_size=32)
        moments = LayerMoments(layer_of(x), CPU, keep)
        for batch in plan.batches():
            runs = batch.without({3, 12}).runs  # one group loses its first, one its last stimulus
            moments.fold_in(x[batch.stimuli], runs)
        found.append(read)
    assert [block for block, *_ in found[0]] == list(plan.blocks)
    assert found[0] == found[1]


class SlowCopies:
    """Copies of a pretended GPU, which arrive when they are waited for and not before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[str] = []  # names of threads
        monkeypatch.setattr(accumulate, "kernels_for", lambda _: device)
        monkeypatch.setattr(accumulate, "as_arrays", lambda tensor: tensor)
        monkeypatch.setattr(finished, "start_copy", self.start)

    def start(self, values: torch.Tensor) -> tuple[np.ndarray, Any]:
        host = np.full(values.shape, np.nan)

        def synchronize() -> None:
            self.waiting.append(threading.current_thread().name)
            host[:] = values.numpy()

        return host, SimpleNamespace(synchronize=synchronize)


class Overflowing(nn.Module):
    """Half of the units are infinite for bright images; in channels-last memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images[:, :, :5, :4].contiguous(memory_format=torch.channels_last).clone()
        values[..., :2] = torch.where(values[..., :2] > 0, torch.inf, values[..., :2])
        return self.layer(values)


@pytest.mark.parametrize("batch_size", [3, 8])
def test_only_the_writing_thread_waits_for_a_device(
    batch_size: int,
    draw_stimuli: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stimuli = draw_stimuli(tmp_path / "stimuli", each=12)

    def scanned(name: str) -> tuple[dict[str, Any], list[str]]:
        notes: list[str] = []
        store = flat.scan(
            Overflowing(), stimuli, tmp_path / name, layers="layer", batch_size=batch_size,
            preprocessing=Preprocessing(resize=16, crop=16), progress=Listener(notes.append),
        )  # fmt: skip
        return contents(store.path), [note for note in notes if "infinity" in note]

    monkeypatch.setattr(accumulate, "kernels_for", lambda _: device)
    monkeypatch.setattr(accumulate, "as_arrays", lambda tensor: tensor)
    expected, warned = scanned("at_once.zarr")
    copies = SlowCopies(monkeypatch)
    assert scanned("slow.zarr") == (expected, warned)
    assert len(warned) == 1
    assert set(copies.waiting) == {"write_0"}


def test_dense_activations_are_not_copied() -> None:
    x = torch.randn(4, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    moments = LayerMoments(layer_of(x), CPU, lambda *_: None)
    assert moments._flat.rows(x).data_ptr() == x.data_ptr()


def test_a_layout_that_changes_between_batches_does_not_mix_units_up() -> None:
    x = torch.randn(14, 4, 3, 5, generator=torch.Generator().manual_seed(3))
    plan = make_plan(np.repeat(np.int32([0, 1]), 7), ("a", "b"), folds=2, batch_size=3)
    finished: dict[tuple[int, int], Moments] = {}
    moments = LayerMoments(
        layer_of(x),
        CPU,
        lambda *read: finished.update(
            {(k.category, k.fold): own for k, own in each(*read, x.shape[1:]).items()}
        ),
    )
    formats = [torch.channels_last, torch.contiguous_format]
    for index, batch in enumerate(plan.batches()):
        activation = x[batch.stimuli].contiguous(memory_format=formats[index % 2])
        moments.fold_in(activation, batch.runs)
    check(x, finished)


def test_a_layer_whose_shape_changes_between_batches_raises() -> None:
    x = torch.randn(4, 3, 8, 8)
    moments = LayerMoments(layer_of(x), CPU, lambda *_: None)
    with pytest.raises(UserError, match=r"had \[3, 8, 8\] and now has \[3, 9, 8\]"):
        moments.fold_in(torch.randn(4, 3, 9, 8), ())


def test_a_layer_whose_precision_changes_between_batches_raises() -> None:
    x = torch.randn(4, 3, 8, 8)
    moments = LayerMoments(layer_of(x), CPU, lambda *_: None)
    with pytest.raises(UserError, match=r"had float32 and now has torch.float64"):
        moments.fold_in(x.double(), ())


def test_kernels_do_not_change_the_number_of_torch_threads() -> None:
    # In a subprocess: numba starts its threads once per process, and may set torch's as well.
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from fusiform.engine.moments.accumulate import LayerMoments\n"
        "from fusiform.engine.moments.plan import Block, Run\n"
        "from fusiform.engine.layer import Layer\n"
        "layer = Layer('a', 'M', ('unit',), (50_000,), 'float32')\n"
        "moments = LayerMoments(layer, torch.device('cpu'), lambda *_: None)\n"
        "moments.fold_in(torch.zeros(8, 50_000), [Run(Block(0, 0, 0, 8), 0, 8, True)])\n"
        "import numba; print(torch.get_num_threads(), numba.get_num_threads())\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["1", "1"]
