"""What will be done, before it is done: folds, order, blocks and batches. Pure; no torch.

Stimuli are shown category by category and fold by fold, as in a block design, so that one group of
moments is live at a time and memory does not grow with the number of categories. Batches are cut
from that order without regard to blocks (a batch is full even when blocks are small); each says
which of its rows belong to which block.

Batches that follow each other make a shard, which is what a worker takes at a time. Moments are
read out where shards meet and merged in the order of the plan, whoever computed them: so the bits
do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..layer import Layer
from ..limits import refuse_numbers

# A shard has at least so many batches, and a plan at most so many shards: at the end of each the
# sums are read out and merged, and a worker waits until what it has of them is on the disk.
_LEAST_BATCHES, _MOST_SHARDS = 8, 256


class Block(NamedTuple):
    """The stimuli of one category and fold: ``start`` to ``stop`` in the order of showing."""

    category: int
    fold: int
    start: int
    stop: int


class Run(NamedTuple):
    """Rows ``start`` to ``stop`` of a batch, which continue ``block``; ``last`` completes it."""

    block: Block
    start: int
    stop: int
    last: bool


class Batch(NamedTuple):
    """Stimuli ``[row]`` shown together, as indices into the catalogue, and their runs.

    ``begins_shard`` says that it is the first of a shard.
    """

    stimuli: NDArray[np.int64]
    runs: tuple[Run, ...]
    begins_shard: bool = False

    def without(self, rows: Collection[int]) -> Batch:
        """The same batch, in which these rows belong to no run: its other rows stay in place."""
        if not rows:
            return self
        runs: list[Run] = []
        for run in self.runs:
            cuts = [row for row in sorted(rows) if run.start <= row < run.stop]
            starts, stops = [run.start, *(row + 1 for row in cuts)], [*cuts, run.stop]
            parts = [Run(run.block, *bounds, False) for bounds in zip(starts, stops, strict=True)]
            parts = [part for part in parts if part.start < part.stop]
            if run.last:  # completes its block, be it with no row
                end = parts.pop() if parts else run._replace(start=run.stop)
                parts.append(end._replace(last=True))
            runs += parts
        return self._replace(runs=tuple(runs))


@dataclass(frozen=True)
class Plan:
    """The order of showing, and how it is cut.

    ``order [stimulus]`` holds indices into the catalogue; ``fold_of [stimulus]`` the fold of every
    stimulus of the catalogue, -1 where it is not shown; ``blocks`` follow each other in ``order``.
    One that ``is_shard`` is a part of another plan, and is not cut further.
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
        """The numbers of the batches of every shard, of about equal lengths."""
        most = 1 if self.is_shard else _MOST_SHARDS
        shards = min(max(1, self.n_batches // _LEAST_BATCHES), most)
        bounds = [shard * self.n_batches // shards for shard in range(shards + 1)]
        return tuple(map(range, bounds[:-1], bounds[1:]))

    def stimuli_of(self, shard: int) -> NDArray[np.int64]:
        """The stimuli of a shard, as they are shown."""
        batches = self.shards[shard]
        return self.order[batches.start * self.batch_size : batches.stop * self.batch_size]

    def shard(self, shard: int) -> Plan:
        """A shard as a plan of its own, of which its stimuli, as they are shown, are the catalogue.

        Its first block may have begun before it (and has a negative start), its last may end after
        it.
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
        """The batches in order, from number ``first`` up to ``stop``; the last may be short."""
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
        """Number of stimuli ``[category, fold]``."""
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
    """Cut a catalogue into folds, blocks and batches.

    Stimuli of a category are dealt to the folds in turn (odd-even for two folds), so that every
    fold gets its share of each folder that a group joins. The plan depends on its arguments alone.

    Parameters
    ----------
    labels : category index ``[stimulus]``
    categories : names, for errors
    folds : number of parts for cross-validation; 1 switches it off
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
    fewest = int(np.bincount(labels[kept], minlength=len(categories)).min())
    order: list[NDArray[np.int64]] = []
    blocks: list[Block] = []
    shown = 0
    for category, name in enumerate(categories):
        members = np.flatnonzero((labels == category) & kept)
        if len(members) < 2 * folds:
            without = np.count_nonzero(labels == category) - len(members)
            remedy = ": add images" + (f", or choose --folds {fewest // 2}" if fewest > 1 else "")
            raise UserError(
                f"a t statistic needs 2 images per category and fold ({2 * folds} with --folds "
                f"{folds}); {name} has {len(members)}"
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
    """Layers that follow each other, that take at most so many bytes together in each part.

    The stimuli are shown once for every part; a layer that is larger makes a part of its own.
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


def shuffled_labels(
    labels: NDArray[np.int32], fold_of: NDArray[np.int32], shuffles: int, seed: int
) -> NDArray[np.int32]:
    """Labels ``[shuffle, stimulus]``, dealt anew at random among the stimuli of every fold.

    Every category keeps its number of stimuli in every fold. A shuffle depends on ``seed`` and its
    own number, not on how many there are. The true categories are mixed as chance will have it:
    shuffles that balance them too give differences smaller than those of chance (Southworth, Kim &
    Owen 2009, J. Comput. Biol. 16(4)).
    """
    shuffled = np.zeros((shuffles, len(labels)), np.int32)
    for shuffle in range(shuffles):
        rng = np.random.default_rng([seed, shuffle])
        for fold in range(fold_of.max() + 1):
            members = np.flatnonzero(fold_of == fold)
            shuffled[shuffle, members] = rng.permutation(labels[members])
    return shuffled
