"""Showing all stimuli, pass after pass, and keeping what comes of it: committed on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..decoding.ahead import Decoded, decode_ahead
from ..errors import UserError
from ..layer import Layer
from ..moments.plan import Plan
from ..stimuli.catalogue import Catalogue
from ..stimuli.images import INVISIBLE
from ..store.behind import Behind, write_behind
from ..store.filling import Filling
from .forward import Taker, showing
from .interrupt import Stop
from .memory import peak_memory
from .progress import Listener, Progress
from .rounding import changed, machine
from .setup import Setup


class Passes:
    """What is done for a draft by showing stimuli: all of it, or what an earlier run has left.

    ``stage`` is what progress says is under way.
    """

    stage = "scan"

    def __init__(
        self, draft: Filling, plan: Plan, listener: Listener, stop: Stop, commit_every: float
    ) -> None:
        self._draft = draft
        self._plan = plan
        self._listener = listener
        self._stop = stop
        self._every = commit_every
        self._committed = time.perf_counter()
        if draft.was_committed:
            self._say_what_is_done()

    def _say_what_is_done(self) -> None:
        commit, plan = self._draft.commit, self._plan
        if self._draft.is_complete:
            self._listener.note("an earlier run has done all but put the store in its place")
            return
        layers = self._draft.layers
        all_shown = len(commit.finished) == len(layers)
        shown = len(plan.order) if all_shown else commit.batches * plan.batch_size
        several = 0 < len(commit.finished) < len(layers)
        to = f" to {len(commit.live)} layers, all to {len(commit.finished)}" if several else ""
        self._listener.note(
            f"resuming an unfinished {self.stage}: {min(shown, len(plan.order)):,} of "
            f"{len(plan.order):,} stimuli were shown{to}{self._also_done(shown)}"
        )
        if differing := changed(commit.machine, machine()):
            before, now = differing
            self._listener.note(
                f"it was begun with {before}, and goes on with {now}: the last bits may differ "
                "from those of one run"
            )

    def _also_done(self, shown: int) -> str:
        """What else is done, where so many stimuli were shown, as the end of a sentence."""
        del shown
        return ""

    @property
    def _is_due(self) -> bool:
        return time.perf_counter() - self._committed >= self._every

    def _show(
        self,
        setup: Setup,
        taker_of: Callable[[Sequence[Layer], Behind], Taker],
        workers: int,
        skip: bool,
    ) -> None:
        """Show the network all stimuli, once for every part of the layers that fits.

        ``taker_of`` gives what takes some layers, and what calls a function behind the network.
        """
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
            self._report(self.stage, done, len(parts) * stimuli, before, started)

        for number, part in enumerate(parts):
            with write_behind() as later:
                taker = taker_of(part, later)
                self._show_to(part, taker, later, setup, workers, skip, partial(report, number))

    def _show_to(
        self,
        layers: Sequence[Layer],
        taker: Taker,
        later: Behind,
        setup: Setup,
        workers: int,
        skip: bool,
        report: Callable[[int], None],
    ) -> None:
        """The loop: decode, show, take; and commit from time to time, and at an error."""
        draft, plan, commit = self._draft, self._plan, self._draft.commit

        def keep() -> None:
            """Commit what is shown; the network goes on while it reaches the disk."""
            later.wait()
            records, contents = taker.save()
            draft.save_live(contents)
            later(
                draft.write_commit,
                batches=batches,
                skipped=skipped,
                invisible=sorted(invisible),
                live=records,
                machine=machine(),
            )
            self._committed = time.perf_counter()

        taker.go_on(commit.live, draft.live)
        draft.live = {}
        batches, skipped, whole = commit.batches, dict(commit.skipped), True
        invisible = set(commit.invisible)

        def hear(stimulus: int) -> None:
            if stimulus not in invisible:
                invisible.add(stimulus)
                note_invisible(setup.catalogue.path(stimulus), self._listener)

        images = decode_ahead(
            setup.catalogue, plan, setup.backbone.preprocessing, workers,
            first=batches, skip=skip, look=self._stop.look, invisible=hear, device=setup.device,
        )  # fmt: skip
        with showing(setup.backbone, setup.layers, plan, setup.device, taker) as show:
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
                if whole and type(error) is not KeyboardInterrupt:
                    with suppress(Exception):
                        later.wait()  # for a commit that may be under way
                        if batches > draft.commit.batches:
                            keep()
                            later.wait()
                raise
            taker.finish()
            later.wait()
            draft.save_live({})
            finished = [*commit.finished, *(layer.name for layer in layers)]
            later(
                draft.write_commit, finished=finished, batches=0, skipped=skipped,
                invisible=sorted(invisible), live={}, machine=machine(),
            )  # fmt: skip

    def _failed(
        self, decoded: Decoded, skipped: Mapping[int, str], catalogue: Catalogue
    ) -> dict[int, str]:
        """The stimuli of a batch that are skipped, and why.

        Raises
        ------
        UserError : too few would be left; it was shown to other layers before
        """
        failed = {int(decoded.batch.stimuli[row]): why for row, why in decoded.failed.items()}
        for stimulus, why in failed.items():
            if stimulus in skipped:
                continue
            if self._draft.commit.finished:
                raise UserError(
                    "all passes show the same stimuli; "
                    f"{catalogue.path(stimulus)} {why}, but an earlier pass has shown it: restore it"
                )
            self._listener.note(f"skipped: {catalogue.path(stimulus)} {why}")
            self._refuse_to_skip(catalogue, {**skipped, **failed}, stimulus)
        return failed

    def _refuse_to_skip(
        self, catalogue: Catalogue, skipped: Mapping[int, str], stimulus: int
    ) -> None:
        """Refuse to leave a stimulus out where too few would be left."""

    def _report(self, stage: str, done: int, total: int, before: int, started: float) -> None:
        seconds = time.perf_counter() - started
        self._listener.progress(Progress(stage, done, total, seconds, peak_memory(), before))


def note_invisible(path: Path, listener: Listener) -> None:
    """Name a stimulus of which nothing is visible; the store names it when it is complete."""
    listener.note(f"nothing is visible of {path}: {INVISIBLE}")
