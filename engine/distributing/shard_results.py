"""Moments of a shard of stimuli, on their way to the draft."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ...kernels.moments import Moments
from ..layer import Layer
from ..moments.finished import Finished
from ..moments.plan import Block, Plan
from ..scanning.work import nonfinite
from ..store.chunking import Shape
from ..store.writing.commits import Seal
from ..store.writing.store_draft import StoreDraft


class ShardResults:
    """Moments of a shard: those of whole files are written to the draft, others are kept.

    Parameters
    ----------
    task : name of the shard's task
    plan : of the shard alone
    dtype : precision of the network's input
    require_draft : raises if another scan has replaced the draft

    Attributes
    ----------
    written : layer -> places of the files that this shard writes
    kept : part of a group -> its seal
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
        self._cut = {
            (block.category, block.fold)
            for block in plan.blocks
            if block.start < 0 or block.stop > len(plan.order)
        }
        self._shown = {(block.category, block.fold) for block in plan.blocks} - self._cut
        moments = draft.moments
        # The files of every layer whose groups are all shown whole.
        self.written: dict[str, list[Shape]] = {}
        for layer in layers:
            places = dict.fromkeys(moments.place_of(layer, one) for one in self._shown)
            whole = (p for p in places if self._shown.issuperset(moments.groups_of(layer, p)))
            self.written[layer.name] = sorted(whole)
        self.kept: dict[str, Seal] = {}
        self.warnings: dict[str, str] = {}

    def keep(self, layer: Layer, blocks: Sequence[Block], finished: Finished) -> None:
        """Write or keep the moments of blocks, and note values that are not finite."""
        draft = self._draft
        if layer is self._layers[0]:
            self._require_draft()
        units, (mean, m2) = finished.nonfinite(), finished.moments()
        if units.any() and layer.name not in self.warnings:
            first = int(np.flatnonzero(units)[0])
            category = draft.categories[blocks[first].category]
            self.warnings[layer.name] = nonfinite(layer, int(units[first]), category, self._dtype)
        written = set(self.written[layer.name])
        for number, block in enumerate(blocks):
            group, moments = (block.category, block.fold), (mean[number], m2[number])
            own = Moments(finished.count[number], *moments)
            if draft.moments.place_of(layer, group) in written:
                draft.write_moments(layer, *group, own)
            else:
                self.kept[part_of(layer, group)] = draft.tasks.keep(self._task, own)


def part_of(layer: Layer, group: tuple[int, int]) -> str:
    """Name of a shard's part of a group."""
    return f"{layer.name}/{group[0]}.{group[1]}"
