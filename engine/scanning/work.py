"""What a scan does for its draft, batch by batch and layer by layer, with commits on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch

from ...kernels.moments import Moments
from ..asking.select import materialise
from ..errors import UserError
from ..spec import Layer
from ..stimuli.catalogue import Catalogue
from ..store.behind import write_behind
from ..store.draft import Draft
from .decode import Decoded, decode_ahead
from .interrupt import Stop
from .layers import input_dtype
from .live import Live
from .memory import peak_memory
from .plan import Block, Plan
from .progress import Listener, Progress
from .setup import Setup
from .showing import showing
from .shuffle import ShuffledMoments


class Work:
    """What a scan does for its draft, committed from time to time: all of it, or what is left."""

    def __init__(
        self, draft: Draft, plan: Plan, listener: Listener, stop: Stop, commit_every: float
    ) -> None:
        self._draft = draft
        self._plan = plan
        self._listener = listener
        self._stop = stop
        self._every = commit_every
        self._committed = time.perf_counter()
        if not draft.is_complete and draft.records.are_there:
            raise UserError(
                f"an unfinished scan goes on as it was begun; that in {draft.path} was by workers: "
                "go on with --workers (any number) or --scheduler, or give it up with --restart"
            )
        if draft.was_committed:
            self._go_on()

    def _go_on(self) -> None:
        commit, plan = self._draft.commit, self._plan
        if self._draft.is_complete:
            self._listener.note("an earlier run has done all but put the store in its place")
            return
        layers = self._draft.layers
        all_shown = len(commit.finished) == len(layers)
        shown = len(plan.order) if all_shown else commit.batches * plan.batch_size
        finished = sum(block.stop <= shown for block in plan.blocks)
        several = 0 < len(commit.finished) < len(layers)
        to = f" to {len(commit.live)} layers, all to {len(commit.finished)}" if several else ""
        self._listener.note(
            f"going on with an unfinished scan: {min(shown, len(plan.order)):,} of "
            f"{len(plan.order):,} stimuli were shown{to}, "
            f"{finished:,} of {len(plan.blocks):,} groups are finished, contrasts of "
            f"{commit.contrasts} of {len(layers)} layers are written"
        )
        if commit.machine and commit.machine != machine():
            self._listener.note(
                f"it was begun with {said(commit.machine)}, and goes on with {said(machine())}: "
                "the last bits may differ from those of one run"
            )

    @property
    def _is_due(self) -> bool:
        return time.perf_counter() - self._committed >= self._every

    # Stimuli

    def show(
        self,
        setup: Setup,
        shuffled_of: Callable[..., ShuffledMoments] | None,
        workers: int,
        skip: bool,
    ) -> None:
        """Show the network all stimuli, once for every part of the layers that fits."""
        commit, layers = self._draft.commit, self._draft.layers
        if self._draft.is_complete:
            return
        # A part that was begun is gone on with as it is.
        begun = [layer for layer in layers if layer.name in commit.live]
        done = {*commit.live, *commit.finished}
        rest = [[one for one in part if one.name not in done] for part in setup.fitting.parts]
        parts = [part for part in (begun, *rest) if part]
        stimuli, size, started = len(self._plan.order), self._plan.batch_size, time.perf_counter()
        before = min(commit.batches * size, stimuli)

        def report(part: int, batches: int) -> None:
            done = part * stimuli + min(batches * size, stimuli)
            self._report("scan", done, len(parts) * stimuli, before, started)

        for number, part in enumerate(parts):
            shuffled = shuffled_of(shown=part) if shuffled_of else None
            self._show_to(part, setup, shuffled, workers, skip, partial(report, number))

    def _show_to(
        self,
        layers: Sequence[Layer],
        setup: Setup,
        shuffled: ShuffledMoments | None,
        workers: int,
        skip: bool,
        report: Callable[[int], None],
    ) -> None:
        """The loop: decode, show, fold in, and write every block's moments when it is complete."""
        draft, plan, commit = self._draft, self._plan, self._draft.commit
        warned: set[str] = set()

        def write(layer: Layer, block: Block, moments: Moments) -> None:
            if layer.name not in warned and not np.isfinite(moments.m2).all():
                warned.add(layer.name)
                category, own = draft.categories[block.category], input_dtype(setup.backbone.model)
                self._listener.note(nonfinite(layer, moments, category, own))
            later(draft.write_moments, layer, block.category, block.fold, moments)

        def keep() -> None:
            """Commit what is shown; the network goes on while it reaches the disk."""
            later.wait()
            records, contents = live.save()
            draft.save_live(contents)
            later(
                draft.write_commit,
                batches=batches,
                skipped=skipped,
                live=records,
                machine=machine(),
            )
            self._committed = time.perf_counter()

        live = Live(layers, setup.device, write, shuffled, setup.units)
        live.go_on(commit.live, draft.live)
        draft.live = {}
        batches, skipped, whole = commit.batches, dict(commit.skipped), True
        images = decode_ahead(
            setup.catalogue, plan, setup.backbone.preprocessing, workers,
            first=batches, skip=skip and not shuffled, look=self._stop.look,
            device=setup.device,
        )  # fmt: skip
        with (
            write_behind() as later,
            showing(setup.backbone, setup.layers, plan, setup.device, live) as show,
        ):
            try:
                for decoded in images:
                    skipping = {**skipped, **self._failed(decoded, skipped, setup.catalogue)}
                    whole = False
                    show(decoded.but_for(skipping))
                    batches, skipped, whole = batches + 1, skipping, True
                    report(batches)
                    if self._is_due:
                        keep()
                    self._stop.look()
            except BaseException as error:
                # Not in the middle of a batch; and not where it is to leave at once.
                if (
                    whole
                    and batches > draft.commit.batches
                    and type(error) is not KeyboardInterrupt
                ):
                    with suppress(Exception):
                        keep()
                        later.wait()
                raise
            if shuffled:
                for layer in layers:
                    null = shuffled.read_out(layer.name)
                    later(
                        draft.write_shuffled_moments,
                        layer,
                        shuffled.units[layer.name],
                        null.mean,
                        null.m2,
                    )
            later.wait()
            draft.save_live({})
            finished = [*commit.finished, *(layer.name for layer in layers)]
            later(
                draft.write_commit, finished=finished, batches=0, skipped=skipped, live={},
                machine=machine(),
            )  # fmt: skip

    def _failed(
        self, decoded: Decoded, skipped: Mapping[int, str], catalogue: Catalogue
    ) -> dict[int, str]:
        """The stimuli of a batch that are skipped, and why.

        Raises
        ------
        UserError : too few of their category and fold would be left
        """
        failed = {int(decoded.batch.stimuli[row]): why for row, why in decoded.failed.items()}
        for stimulus, why in failed.items():
            if stimulus in skipped:
                continue
            if self._draft.commit.finished:
                raise UserError(
                    f"all layers see the same stimuli, shown once for each part of them; "
                    f"{catalogue.path(stimulus)} {why}, and was shown before: restore it"
                )
            self._listener.note(f"skipped: {catalogue.path(stimulus)} {why}")
            refuse_too_few(catalogue, self._plan, {**skipped, **failed}, stimulus)
        return failed

    # Contrasts

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

    def _report(self, stage: str, done: int, total: int, before: int, started: float) -> None:
        seconds = time.perf_counter() - started
        self._listener.progress(Progress(stage, done, total, seconds, peak_memory(), before))


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


def machine() -> dict[str, Any]:
    """What the last bits can depend on beside the plan and the versions."""
    return {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def said(machine: Mapping[str, Any]) -> str:
    """A machine in words."""
    return f"{machine['threads']} threads and {machine['instructions']} instructions"
