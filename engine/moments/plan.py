"""Plan of a scan: order of stimuli, blocks, batches and shards; layers that are added together.

Pure functions; no torch.

Stimuli are shown category by category and fold by fold, as in a block design: only one group of
moments is in memory at a time, for any number of categories. Batches are cut from that order
independently of blocks, so that they are full even if blocks are small. Each batch knows which of
its rows belong to which block.

Consecutive batches form a shard, the unit of work of a worker. Moments are read out at the end of a
shard and merged in the order of the plan, so bits do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..layer import Layer
from ..limits import refuse_numbers

# Fewest batches per shard, and most shards per plan. The end of a shard costs a merge and a
# synchronous write to disk.
_LEAST_BATCHES, _MOST_SHARDS = 8, 256
# Most units of a layer in a bundle, and of a bundle of several: 64 KiB of a stimulus in float32.
# Adding fewer costs more in calls than in arithmetic.
_SMALL, BUNDLE = 4096, 16_384


class Block(NamedTuple):
    """The stimuli of one category and fold: ``start`` to ``stop`` in the order of showing."""

    category: int
    fold: int
    start: int
    stop: int


class Run(NamedTuple):
    """Rows ``start`` to ``stop`` of a batch, all of one ``block``; ``last`` completes it."""

    block: Block
    start: int
    stop: int
    last: bool

    @property
    def is_whole(self) -> bool:
        """Whether it has all stimuli of its block."""
        return self.stop - self.start == self.block.stop - self.block.start


class Batch(NamedTuple):
    """Stimuli ``[row]`` of a forward pass, as indices into the catalogue, and their runs.

    ``begins_shard`` marks the first batch of a shard.
    """

    stimuli: NDArray[np.int64]
    runs: tuple[Run, ...]
    begins_shard: bool = False

    def without(self, rows: Collection[int]) -> Batch:
        """The same batch with ``rows`` removed from its runs. The other rows stay in place."""
        if not rows:
            return self
        runs: list[Run] = []
        for run in self.runs:
            cuts = [row for row in sorted(rows) if run.start <= row < run.stop]
            starts, stops = [run.start, *(row + 1 for row in cuts)], [*cuts, run.stop]
            parts = [Run(run.block, *bounds, False) for bounds in zip(starts, stops, strict=True)]
            parts = [part for part in parts if part.start < part.stop]
            if run.last:  # an empty run still completes its block
                end = parts.pop() if parts else run._replace(start=run.stop)
                parts.append(end._replace(last=True))
            runs += parts
        return self._replace(runs=tuple(runs))


@dataclass(frozen=True)
class Plan:
    """Order of stimuli, and its division into blocks, batches and shards.

    ``order [stimulus]`` holds indices into the catalogue, ``blocks`` are consecutive parts of it.
    ``fold_of [stimulus]`` is the fold of every stimulus of the catalogue, -1 if it is not shown.
    ``is_shard`` marks a shard of another plan, which has no shards of its own.
    """

    order: NDArray[np.int64]
    fold_of: NDArray[np.int32]
    blocks: tuple[Block, ...]
    batch_size: int
    folds: int
    is_shard: bool = False

    @property
    def n_batches(self) -> int:
        """Number of forward passes."""
        return -(-len(self.order) // self.batch_size)

    @cached_property
    def shards(self) -> tuple[range, ...]:
        """Batch numbers of every shard; shards have about equal lengths."""
        most = 1 if self.is_shard else _MOST_SHARDS
        shards = min(max(1, self.n_batches // _LEAST_BATCHES), most)
        bounds = [shard * self.n_batches // shards for shard in range(shards + 1)]
        return tuple(map(range, bounds[:-1], bounds[1:]))

    def stimuli_of(self, shard: int) -> NDArray[np.int64]:
        """Stimuli of a shard in order."""
        batches = self.shards[shard]
        return self.order[batches.start * self.batch_size : batches.stop * self.batch_size]

    def shard(self, shard: int) -> Plan:
        """A shard as a plan over its own stimuli, in order.

        Its first block may begin before the shard, with a negative start, and its last may end
        after it.
        """
        stimuli = self.stimuli_of(shard)
        first = self.shards[shard].start * self.batch_size
        moved = [b._replace(start=b.start - first, stop=b.stop - first) for b in self.blocks]
        return Plan(
            np.arange(len(stimuli)),
            self.fold_of[stimuli],
            tuple(b for b in moved if b.start < len(stimuli) and b.stop > 0),
            self.batch_size,
            self.folds,
            is_shard=True,
        )

    def batches(self, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Batches ``first`` up to ``stop``, in order; the last may be short."""
        beginning = {shard.start for shard in self.shards}
        shown = first * self.batch_size
        block = sum(block.stop <= shown for block in self.blocks)
        end = len(self.order) if stop is None else min(stop * self.batch_size, len(self.order))
        for start in range(shown, end, self.batch_size):
            stop = min(start + self.batch_size, len(self.order))
            runs = []
            while block < len(self.blocks) and self.blocks[block].start < stop:
                current = self.blocks[block]
                last = current.stop <= stop
                first_row = max(current.start, start) - start
                runs.append(Run(current, first_row, min(current.stop, stop) - start, last))
                if not last:
                    break
                block += 1
            number = start // self.batch_size
            yield Batch(self.order[start:stop], tuple(runs), number in beginning)

    def counts(self, n_categories: int) -> NDArray[np.int64]:
        """Numbers of stimuli ``[category, fold]``."""
        counts = np.zeros((n_categories, self.folds), dtype=np.int64)
        for block in self.blocks:
            counts[block.category, block.fold] = block.stop - block.start
        return counts


def make_plan(
    labels: NDArray[np.int32],
    categories: tuple[str, ...],
    *,
    folds: int = 2,
    batch_size: int = 32,
    left_out: Collection[int] = (),
) -> Plan:
    """Divide a catalogue into folds, blocks and batches.

    Stimuli of a category go to the folds in turn (odd-even for two folds), so that every fold gets
    its share of each folder in a group. The plan depends on the arguments alone.

    Parameters
    ----------
    labels : category index ``[stimulus]``
    categories : names, for errors
    folds : number of cross-validation folds; 1 for none
    batch_size : stimuli per forward pass
    left_out : stimuli that are not shown

    Raises
    ------
    UserError : folds or batch size below 1; a category with fewer than two stimuli in a fold
    """
    refuse_numbers(folds=folds, batch_size=batch_size)
    if folds is None or folds < 1 or batch_size < 1:
        raise UserError(f"folds and batch size are at least 1; got {folds} and {batch_size}")
    fold_of = np.full(len(labels), -1, dtype=np.int32)
    kept = np.ones(len(labels), dtype=bool)
    kept[list(left_out)] = False
    sizes = np.bincount(labels[kept], minlength=len(categories))
    fewest = int(sizes.min())
    sorted_by_category = np.flatnonzero(kept)[np.argsort(labels[kept], kind="stable")]
    members_of = np.split(sorted_by_category, np.cumsum(sizes)[:-1])
    order: list[NDArray[np.int64]] = []
    blocks: list[Block] = []
    shown = 0
    for category, (name, members) in enumerate(zip(categories, members_of, strict=True)):
        if len(members) < 2 * folds:
            without = np.count_nonzero(labels == category) - len(members)
            remedy = ": add images" + (f", or choose `folds={fewest // 2}`" if fewest > 1 else "")
            raise UserError(
                f"a t statistic needs 2 images per category and fold ({2 * folds} with "
                f"`folds={folds}`); {name} has {len(members)}"
                f"{f', and {without} that cannot be shown' if without else ''}{remedy}"
            )
        fold_of[members] = np.arange(len(members)) % folds
        for fold in range(folds):
            chosen = members[fold::folds]
            order.append(chosen)
            blocks.append(Block(category, fold, shown, shown + len(chosen)))
            shown += len(chosen)
    return Plan(np.concatenate(order), fold_of, tuple(blocks), batch_size, folds)


def parts_within(
    layers: Sequence[Layer], bytes_of: Callable[[Layer], int], most: int | None
) -> list[tuple[Layer, ...]]:
    """Split consecutive layers into parts of at most ``most`` bytes; one pass shows each part.

    A larger layer gets a part of its own.
    """
    if most is None:
        return [tuple(layers)]
    parts: list[tuple[Layer, ...]] = []
    room = 0
    for layer in layers:
        if not parts or bytes_of(layer) > room:
            parts.append(())
            room = most
        parts[-1] += (layer,)
        room -= bytes_of(layer)
    return parts


def bundles(layers: Iterable[Layer]) -> list[list[Layer]]:
    """Small layers of one precision, whose activations are added in one call.

    A larger layer is a bundle of its own.
    """
    found: list[list[Layer]] = []
    open_ones: dict[str, tuple[list[Layer], int]] = {}  # precision -> bundle, and its room
    for layer in layers:
        bundle, room = open_ones.get(layer.dtype, ([], 0))
        if layer.units > min(room, _SMALL):
            bundle, room = [], BUNDLE
            found.append(bundle)
        bundle.append(layer)
        if layer.units <= _SMALL:
            open_ones[layer.dtype] = bundle, room - layer.units
    return found


def shuffled_labels(
    labels: NDArray[np.int32], fold_of: NDArray[np.int32], shuffles: int, seed: int
) -> NDArray[np.int32]:
    """Labels ``[shuffle, stimulus]``, permuted at random within every fold.

    Every category keeps its number of stimuli in every fold. A shuffle depends on ``seed`` and its
    own number only. The true categories are not balanced within a shuffled one: balanced
    permutations give differences smaller than chance (Southworth, Kim & Owen 2009, J. Comput. Biol.
    16(4)).
    """
    shuffled = np.zeros((shuffles, len(labels)), np.int32)
    for shuffle in range(shuffles):
        rng = np.random.default_rng([seed, shuffle])
        for fold in range(fold_of.max() + 1):
            members = np.flatnonzero(fold_of == fold)
            shuffled[shuffle, members] = rng.permutation(labels[members])
    return shuffled
