"""A scan in this process: all stimuli shown, then the contrasts, with commits on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial

import torch

from ..contrasts.select import materialise
from ..errors import UserError
from ..layer import Layer
from ..moments.accumulators import Live
from ..moments.finished import Finished
from ..moments.null import ShuffledMoments
from ..moments.plan import Block, Plan
from ..networks.placement import input_dtype, moments_device
from ..stimuli.catalogue import Catalogue
from ..store.writing.array_writer import BackgroundWriter
from ..store.writing.store_draft import StoreDraft
from .budget import pending_writes
from .interrupt import Stop
from .loop import Passes
from .memory import recycled
from .progress import Listener
from .setup import Setup


class Work(Passes):
    """Fills the draft of a scan in this process: moments of every group, then the contrasts."""

    draft: StoreDraft

    def __init__(self, draft: StoreDraft, setup: Setup, listener: Listener, stop: Stop) -> None:
        if not draft.is_complete and draft.tasks.exists():
            raise UserError(
                f"an unfinished scan continues the way it began; the one in {draft.path} ran on "
                "workers: use `workers` (any number) or `scheduler`, or start over with "
                "`restart=True`"
            )
        super().__init__(draft, setup, listener, stop)
        self._warned: set[str] = set()

    def _also_done(self, shown: int) -> str:
        blocks, layers = self.setup.plan.blocks, self.draft.layers
        finished = sum(block.stop <= shown for block in blocks)
        return (
            f", {finished:,} of {len(blocks):,} groups are finished, contrasts of "
            f"{self.draft.commit.contrasts} of {len(layers)} layers are written"
        )

    def show(self) -> None:
        """Show all stimuli and write the moments of every group as it is complete."""
        self._show(self._live_of)

    def pending_writes(self, layers: Sequence[Layer]) -> int:
        """Most finished groups of a bundle of layers that may wait to be written."""
        return pending_writes(layers, self.setup.device)

    def _live_of(self, layers: Sequence[Layer], later: BackgroundWriter) -> Live:
        setup = self.setup
        write, write_null = partial(later, self._write), partial(later, self._write_null)
        shuffled = null_of(setup, layers)
        device = moments_device(setup.device)
        return Live(layers, device, write, shuffled, write_null, setup.reductions)

    def _write_null(self, layer: Layer, shuffled: ShuffledMoments) -> None:
        """Write a layer's null, read out in the writing thread: one is held at a time."""
        null, units = shuffled.read_out(layer.name), shuffled.units[layer.name]
        self.draft.write_shuffled_moments(layer, units, null.mean, null.m2)

    def _write(self, layers: Sequence[Layer], blocks: Sequence[Block], finished: Finished) -> None:
        """Write finished groups, in the writing thread: a GPU may still be copying them."""
        for layer, first, units in finished.nonfinite(layers):
            if layer.name not in self._warned:
                self._warned.add(layer.name)
                category = self.draft.categories[blocks[first].category]
                own = input_dtype(self.setup.backbone.model)
                self.listener.note(nonfinite(layer, units, category, own))
        group = blocks[0].category * self.draft.reader.folds + blocks[0].fold
        self.draft.write_groups(layers, group, *finished.moments())

    def refuse_to_skip(
        self, catalogue: Catalogue, skipped: Mapping[int, str], stimulus: int
    ) -> None:
        """Raise if fewer than two stimuli of a group would be left."""
        refuse_too_few(catalogue, self.setup.plan, skipped, stimulus)

    def contrast(self) -> None:
        """Write the contrasts beside the moments, layer by layer."""
        draft = self.draft
        if draft.is_complete:
            return
        draft.leave_out(draft.commit.skipped)
        first, layers = draft.commit.contrasts, draft.layers
        started, written = time.perf_counter(), first
        before = sum(layer.units for layer in layers[:first])

        def report(_: Layer) -> None:
            nonlocal written
            written += 1
            done = sum(one.units for one in layers[:written])
            self.report("contrasts", done, sum(one.units for one in layers), before, started)
            if self.is_due or self.stop.signal is not None:
                draft.save_live({})
                draft.write_commit(contrasts=written)
                self.committed()
            self.stop.look()

        materialise(draft, report, first)


class InProcess:
    """Executor of a scan in this process."""

    processes = 1

    def fill(self, draft: StoreDraft, setup: Setup, listener: Listener, stop: Stop) -> None:
        """Show the stimuli, then write the contrasts."""
        work = Work(draft, setup, listener, stop)
        with recycled():
            work.show()
        with recycled():  # what the forward passes had is returned between
            work.contrast()


def null_of(setup: Setup, shown: Sequence[Layer]) -> ShuffledMoments | None:
    """Accumulators of the null for the layers ``shown``; None without a null."""
    if not setup.design.null:
        return None
    return ShuffledMoments(
        setup.layers,
        setup.shuffled_labels,
        setup.plan.fold_of,
        setup.design.null_units,
        setup.request.network.seed,
        shown,
    )


def refuse_too_few(
    catalogue: Catalogue, plan: Plan, skipped: Mapping[int, str], stimulus: int
) -> None:
    """Raise if skipping leaves fewer than two stimuli of a stimulus's category and fold.

    Raises
    ------
    UserError : it does
    """
    group = catalogue.labels[stimulus], plan.fold_of[stimulus]
    gone = sum((catalogue.labels[other], plan.fold_of[other]) == group for other in skipped)
    if plan.counts(len(catalogue.categories))[group] - gone < 2:
        raise UserError(
            f"a t statistic needs 2 images per category and fold; {catalogue.categories[group[0]]} "
            f"has fewer that can be shown ({catalogue.path(stimulus)} {skipped[stimulus]}): "
            "restore them, or add others and start over with `restart=True`"
        )


def nonfinite(layer: Layer, units: int, category: str, dtype: torch.dtype) -> str:
    """Warning that the moments of some ``units`` are not finite."""
    cause = (
        ": float16 holds nothing above 65,504, most likely why: scan in bfloat16 or float32"
        if layer.dtype == "float16" or dtype == torch.float16  # it may be a mean of one
        else ""
    )
    return (
        f"warning: {units:,} of {layer.units:,} units of {layer.name} gave NaN or infinity for "
        f"{category}{cause}"
    )
