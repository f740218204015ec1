"""What a scan does for its draft, batch by batch and layer by layer, with commits on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..asking.select import materialise
from ..errors import UserError
from ..spec import Layer
from ..stimuli.catalogue import Catalogue
from ..store.behind import write_behind
from ..store.draft import Draft
from .backbones import Backbone
from .capture import capture
from .decode import Decoded, decode_ahead, normalise
from .faults import explained
from .interrupt import Stop
from .layers import input_dtype
from .live import Live
from .memory import peak_memory
from .plan import Block, Plan
from .progress import Listener, Progress
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
        if draft.was_committed:
            self._go_on()

    def _go_on(self) -> None:
        commit, plan = self._draft.commit, self._plan
        if self._draft.is_complete:
            self._listener.note("an earlier run has done all but put the store in its place")
            return
        shown = min(commit.batches * plan.batch_size, len(plan.order))
        finished = sum(block.stop <= shown for block in plan.blocks)
        self._listener.note(
            f"going on with an unfinished scan: {shown:,} of {len(plan.order):,} stimuli were "
            f"shown, {finished:,} of {len(plan.blocks):,} groups are finished, contrasts of "
            f"{commit.contrasts} of {len(self._draft.layers)} layers are written"
        )
        if commit.machine and commit.machine != _machine():
            self._listener.note(
                f"it was begun with {_said(commit.machine)}, and goes on with {_said(_machine())}: "
                "the last bits may differ from those of one run"
            )

    @property
    def _is_due(self) -> bool:
        return time.perf_counter() - self._committed >= self._every

    # Stimuli

    def show(
        self,
        backbone: Backbone,
        catalogue: Catalogue,
        device: torch.device,
        shuffled: ShuffledMoments | None,
        workers: int,
        skip: bool,
    ) -> None:
        """The loop: decode, show, fold in, and write every block's moments when it is complete."""
        draft, plan, commit = self._draft, self._plan, self._draft.commit
        if draft.is_complete or (commit.batches == plan.n_batches and not commit.live):
            return
        dtype = input_dtype(backbone.model)
        warned: set[str] = set()

        def write(layer: Layer, block: Block, moments: Moments) -> None:
            if layer.name not in warned and not np.isfinite(moments.m2).all():
                warned.add(layer.name)
                self._listener.note(
                    _nonfinite(layer, moments, draft.categories[block.category], dtype)
                )
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
                machine=_machine(),
            )
            self._committed = time.perf_counter()

        live = Live(draft.layers, device, write, shuffled, units=draft.units)
        live.go_on(commit.live, draft.live)
        draft.live = {}
        batches, skipped, whole = commit.batches, dict(commit.skipped), True
        images = decode_ahead(
            catalogue, plan, backbone.preprocessing, workers,
            first=batches, skip=skip and not shuffled, look=self._stop.look,
            pinned=device.type == "cuda",
        )  # fmt: skip
        started, before = time.perf_counter(), min(batches * plan.batch_size, len(plan.order))
        side = backbone.preprocessing.crop
        with (
            write_behind() as later,
            explained(backbone.model, (plan.batch_size, 3, side, side), dtype, device),
            capture(backbone.model, live.layers, live.fold_in) as show,
        ):
            try:
                for decoded in images:
                    failed = self._failed(decoded, skipped, catalogue)
                    pixels = _filled(decoded.pixels, plan)
                    whole = False
                    live.begin(decoded.batch.without(decoded.failed))
                    show(normalise(pixels, backbone.preprocessing, device, dtype))
                    batches, skipped, whole = batches + 1, skipped | failed, True
                    self._report("scan", batches * plan.batch_size, before, started)
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
                for layer in draft.layers:
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
            later(draft.write_commit, batches=batches, skipped=skipped, live={}, machine=_machine())

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
            self._listener.note(f"skipped: {catalogue.path(stimulus)} {why}")
            category, fold = catalogue.labels[stimulus], self._plan.fold_of[stimulus]
            gone = [
                other
                for other in {**skipped, **failed}
                if (catalogue.labels[other], self._plan.fold_of[other]) == (category, fold)
            ]
            name = catalogue.categories[category]
            if self._plan.counts(len(catalogue.categories))[category, fold] - len(gone) < 2:
                raise UserError(
                    f"a t statistic needs 2 images per category and fold; {name} has fewer that "
                    f"can be shown ({catalogue.path(stimulus)} {why}): restore them, or add others "
                    "and --restart"
                )
        return failed

    # Contrasts

    def contrast(self) -> None:
        """Write the contrasts beside the moments, layer by layer."""
        draft = self._draft
        if draft.is_complete:
            return
        first, layers = draft.commit.contrasts, draft.layers
        started, written = time.perf_counter(), first
        before = sum(layer.units for layer in layers[:first])

        def report(_: Layer) -> None:
            nonlocal written
            written += 1
            self._report("contrasts", sum(one.units for one in layers[:written]), before, started)
            if self._is_due or self._stop.signal is not None:
                draft.save_live({})
                draft.write_commit(contrasts=written)
                self._committed = time.perf_counter()
            self._stop.look()

        materialise(draft, report, first)

    def _report(self, stage: str, done: int, before: int, started: float) -> None:
        total = (
            len(self._plan.order)
            if stage == "scan"
            else sum(layer.units for layer in self._draft.layers)
        )
        seconds = time.perf_counter() - started
        self._listener.progress(
            Progress(stage, min(done, total), total, seconds, peak_memory(), before)
        )


def _filled(pixels: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
    """The last, short batch, filled up with its last image, whose extra rows belong to no run.

    Networks round differently at another batch size: a unit that is constant would seem to vary.
    """
    missing = plan.batch_size - len(pixels)
    if not missing or plan.n_batches == 1:
        return pixels
    return np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])


def _nonfinite(layer: Layer, moments: Moments, category: str, dtype: torch.dtype) -> str:
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


def _machine() -> dict[str, Any]:
    """What else than the plan and the versions the last bits can depend on."""
    return {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _said(machine: Mapping[str, Any]) -> str:
    return f"{machine['threads']} threads and {machine['instructions']} instructions"
