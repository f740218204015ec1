"""Moments of a shard of stimuli, on their way to the draft."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..layer import Layer, columns
from ..moments.finished import Finished
from ..moments.plan import Block, Plan
from ..scanning.work import nonfinite
from ..store.chunking import Shape
from ..store.writing.commits import Seal
from ..store.writing.store_draft import StoreDraft


class ShardResults:
    """Moments of a shard: those of whole files are written to the draft, others are kept.

    A shard shows consecutive groups, so it has a part of no more than two files of a layer.

    Parameters
    ----------
    task : name of the shard's task
    plan : of the shard alone
    dtype : precision of the network's input
    require_draft : raises if another scan has replaced the draft

    Attributes
    ----------
    written : layer -> places of the files that this shard writes
    kept : layer -> place of each file of which it has a part, and the seal of the part
    warnings : layer -> warning of values that are not finite
    """

    def __init__(
        self,
        draft: StoreDraft,
        task: str,
        plan: Plan,
        layers: Sequence[Layer],
        dtype: torch.dtype,
        require_draft: Callable[[], object],
    ) -> None:
        self._draft, self._task, self._layers, self._dtype = draft, task, layers, dtype
        self._require_draft = require_draft
        self._folds = draft.reader.folds
        whole = [
            self._number(block)
            for block in plan.blocks
            if block.start >= 0 and block.stop <= len(plan.order)
        ]
        # The files of every layer whose groups are all shown whole.
        self.written: dict[str, list[Shape]] = {}
        for layer in layers:
            files = draft.moments.files_of([layer], min(whole, default=0), len(whole))
            self.written[layer.name] = [
                part.place for part in files if part.groups.stop - part.groups.start == part.size
            ]
        self.kept: dict[str, list[tuple[Shape, Seal]]] = {}
        self.warnings: dict[str, str] = {}
        # Parts of a file that have come so far, by its first layer: its layers and place, the first
        # group, and moments [group, unit].
        self._parts: dict[str, tuple[Sequence[Layer], Shape, int, list[Moments]]] = {}

    def take(self, layers: Sequence[Layer], blocks: Sequence[Block], finished: Finished) -> None:
        """Write or keep the moments of blocks, and note values that are not finite."""
        draft = self._draft
        if layers[0] is self._layers[0]:
            self._require_draft()
        for layer, number, units in finished.nonfinite(layers):
            category = draft.categories[blocks[number].category]
            self.warnings.setdefault(layer.name, nonfinite(layer, units, category, self._dtype))
        first, (mean, m2) = self._number(blocks[0]), finished.moments()
        for part in draft.moments.files_of(layers, first, len(blocks)):
            own = part.groups, part.units
            start = first + part.groups.start
            if part.place in self.written[part.layers[0].name]:
                draft.write_groups(part.layers, start, mean[own], m2[own])
            else:
                count = finished.count[part.groups]
                self._add(part.layers, part.place, start, Moments(count, mean[own], m2[own]))

    def keep(self) -> None:
        """Keep the parts of files that have come, when all blocks are taken."""
        for name in list(self._parts):
            self._keep(name)

    def _number(self, block: Block) -> int:
        return block.category * self._folds + block.fold

    def _add(self, layers: Sequence[Layer], place: Shape, first: int, part: Moments) -> None:
        name = layers[0].name
        if name in self._parts and self._parts[name][1] != place:
            self._keep(name)
        self._parts.setdefault(name, (layers, place, first, []))[-1].append(part)

    def _keep(self, name: str) -> None:
        layers, place, first, parts = self._parts.pop(name)
        count, *moments = (np.concatenate(values) for values in zip(*parts, strict=True))
        for layer, units in columns(layers):
            own = Moments(count, *(values[:, units] for values in moments))
            seal = self._draft.tasks.keep(self._task, first, own)
            self.kept.setdefault(layer.name, []).append((place, seal))


def joined(parts: Iterable[tuple[int, Moments]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and M2 ``[group, unit]`` of consecutive parts, each with its first group.

    A group that is cut between shards is the last one of a part and the first of the next.
    """
    found: list[Moments] = []
    end = 0
    for first, part in parts:
        cut = first < end
        if cut:
            count, mean, m2 = found[-1]
            one, other = _one_group(found[-1], -1), _one_group(part, 0)
            count[-1], mean[-1], m2[-1] = merge(one, other)
        end = first + len(part.count)
        if len(part.count) > cut:
            found.append(Moments(*(values[cut:] for values in part)))
    return np.concatenate([part.mean for part in found]), np.concatenate([p.m2 for p in found])


def _one_group(moments: Moments, number: int) -> Moments:
    mean, m2 = (torch.from_numpy(values[number]) for values in moments[1:])
    return Moments(int(moments.count[number]), mean, m2)
