"""What a scan does for its draft: all stimuli shown, and the contrasts, with commits on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ...kernels.moments import Moments
from ..contrasts.select import materialise
from ..errors import UserError
from ..layer import Layer
from ..moments.accumulators import Live
from ..moments.null import ShuffledMoments
from ..moments.plan import Block, Plan
from ..networks.layers import input_dtype
from ..stimuli.catalogue import Catalogue
from ..store.behind import Behind
from ..store.draft import Draft
from .interrupt import Stop
from .loop import Passes
from .progress import Listener
from .setup import Setup


class Work(Passes):
    """What a scan does for its draft, committed from time to time: all of it, or what is left."""

    _draft: Draft

    def __init__(
        self, draft: Draft, plan: Plan, listener: Listener, stop: Stop, commit_every: float
    ) -> None:
        if not draft.is_complete and draft.records.are_there:
            raise UserError(
                f"an unfinished scan goes on as it was begun; that in {draft.path} was by workers: "
                "go on with --workers (any number) or --scheduler, or give it up with --restart"
            )
        super().__init__(draft, plan, listener, stop, commit_every)

    def _also_done(self, shown: int) -> str:
        plan, layers = self._plan, self._draft.layers
        finished = sum(block.stop <= shown for block in plan.blocks)
        return (
            f", {finished:,} of {len(plan.blocks):,} groups are finished, contrasts of "
            f"{self._draft.commit.contrasts} of {len(layers)} layers are written"
        )

    def show(
        self,
        setup: Setup,
        shuffled_of: Callable[..., ShuffledMoments] | None,
        workers: int,
        skip: bool,
    ) -> None:
        """Show the network all stimuli, and write every block's moments when it is complete."""
        warned: set[str] = set()

        def live_of(layers: Sequence[Layer], later: Behind) -> Live:
            draft = self._draft

            def write(layer: Layer, block: Block, moments: Moments) -> None:
                if layer.name not in warned and not np.isfinite(moments.m2).all():
                    warned.add(layer.name)
                    category, own = (
                        draft.categories[block.category],
                        input_dtype(setup.backbone.model),
                    )
                    self._listener.note(nonfinite(layer, moments, category, own))
                later(draft.write_moments, layer, block.category, block.fold, moments)

            def write_null(layer: Layer, shuffled: ShuffledMoments) -> None:
                null, units = shuffled.read_out(layer.name), shuffled.units[layer.name]
                later(draft.write_shuffled_moments, layer, units, null.mean, null.m2)

            shuffled = shuffled_of(shown=layers) if shuffled_of else None
            return Live(layers, setup.device, write, shuffled, setup.units, write_null, setup.axes)

        self._show(setup, live_of, workers, skip and not shuffled_of)

    def _refuse_to_skip(
        self, catalogue: Catalogue, skipped: Mapping[int, str], stimulus: int
    ) -> None:
        refuse_too_few(catalogue, self._plan, skipped, stimulus)

    def contrast(self) -> None:
        """Write the contrasts beside the moments, layer by layer."""
        draft = self._draft
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
            self._report("contrasts", done, sum(one.units for one in layers), before, started)
            if self._is_due or self._stop.signal is not None:
                draft.save_live({})
                draft.write_commit(contrasts=written)
                self._committed = time.perf_counter()
            self._stop.look()

        materialise(draft, report, first)


def refuse_too_few(
    catalogue: Catalogue, plan: Plan, skipped: Mapping[int, str], stimulus: int
) -> None:
    """Refuse to leave out a stimulus where, with all that are skipped, too few would be left.

    Raises
    ------
    UserError : fewer than two of its category and fold would be
    """
    group = catalogue.labels[stimulus], plan.fold_of[stimulus]
    gone = sum((catalogue.labels[other], plan.fold_of[other]) == group for other in skipped)
    if plan.counts(len(catalogue.categories))[group] - gone < 2:
        raise UserError(
            f"a t statistic needs 2 images per category and fold; {catalogue.categories[group[0]]} "
            f"has fewer that can be shown ({catalogue.path(stimulus)} {skipped[stimulus]}): "
            "restore them, or add others and --restart"
        )


def nonfinite(layer: Layer, moments: Moments, category: str, dtype: torch.dtype) -> str:
    """The warning that moments of some units are no numbers."""
    units = int(np.count_nonzero(~np.isfinite(moments.m2)))
    cause = (
        ": float16 holds nothing above 65,504, most likely why: scan in bfloat16 or float32"
        if layer.dtype == "float16" or dtype == torch.float16  # of which it may be a mean
        else ""
    )
    return (
        f"warning: {units:,} of {layer.units:,} units of {layer.name} gave NaN or infinity for "
        f"{category}{cause}"
    )
