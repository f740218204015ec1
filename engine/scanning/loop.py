"""The scan loop: show all stimuli, pass after pass, and commit on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..decoding.ahead import Decoded
from ..errors import UserError
from ..layer import Layer
from ..stimuli.catalogue import Catalogue
from ..stimuli.images import INVISIBLE
from ..store.writing.array_writer import BackgroundWriter, background_writer
from ..store.writing.base_draft import BaseDraft
from .forward import Taker, showing
from .interrupt import Stop
from .memory import peak_memory
from .progress import Listener, Progress
from .rounding import changed, machine
from .setup import Setup


class Passes:
    """Fills a draft by showing stimuli, or continues an earlier run; ``stage`` names the progress.

    The stimuli are shown once for every part of the layers that fits into memory.
    """

    stage = "scan"

    def __init__(self, draft: BaseDraft[Any], setup: Setup, listener: Listener, stop: Stop) -> None:
        self.draft, self.setup, self.listener, self.stop = draft, setup, listener, stop
        self._committed = time.perf_counter()
        if draft.was_committed:
            self._say_what_is_done()

    def _say_what_is_done(self) -> None:
        commit, plan = self.draft.commit, self.setup.plan
        if self.draft.is_complete:
            self.listener.note("an earlier run finished everything except publishing the store")
            return
        layers = self.draft.layers
        all_shown = len(commit.finished) == len(layers)
        shown = len(plan.order) if all_shown else commit.batches * plan.batch_size
        several = 0 < len(commit.finished) < len(layers)
        to = f" to {len(commit.live)} layers, all to {len(commit.finished)}" if several else ""
        self.listener.note(
            f"resuming an unfinished {self.stage}: {min(shown, len(plan.order)):,} of "
            f"{len(plan.order):,} stimuli were shown{to}{self._also_done(shown)}"
        )
        if differing := changed(commit.machine, machine()):
            before, now = differing
            self.listener.note(
                f"the run began with {before} and continues with {now}: the last bits may differ "
                "from those of one run"
            )

    def _also_done(self, shown: int) -> str:
        """Further progress after ``shown`` stimuli, as the end of a sentence."""
        del shown
        return ""

    @property
    def is_due(self) -> bool:
        """Whether the last commit is long enough ago."""
        return time.perf_counter() - self._committed >= self.setup.request.resources.commit_every

    def committed(self) -> None:
        """Count the time to the next commit from now."""
        self._committed = time.perf_counter()

    def _show(self, taker_of: Callable[[Sequence[Layer], BackgroundWriter], Taker]) -> None:
        """Show the network all stimuli, once for every part of the layers.

        ``taker_of`` makes the taker of some layers from them and a background writer.
        """
        commit, layers = self.draft.commit, self.draft.layers
        if self.draft.is_complete:
            return
        # A part that was begun continues with the same layers.
        begun = [layer for layer in layers if layer.name in commit.live]
        done = {*commit.live, *commit.finished}
        fitting = self.setup.fitting.parts
        rest = [[one for one in part if one.name not in done] for part in fitting]
        parts = [part for part in (begun, *rest) if part]
        plan, started = self.setup.plan, time.perf_counter()
        stimuli, size = len(plan.order), plan.batch_size
        before = min(commit.batches * size, stimuli)

        def report(part: int, batches: int) -> None:
            done = part * stimuli + min(batches * size, stimuli)
            self.report(self.stage, done, len(parts) * stimuli, before, started)

        for number, part in enumerate(parts):
            with background_writer(self.pending_writes(part)) as later:
                one = _Pass(self, part, taker_of(part, later), later)
                one.run(partial(report, number))

    def pending_writes(self, layers: Sequence[Layer]) -> int:
        """Most calls of the background writer that may be pending."""
        del layers
        return 1

    def refuse_to_skip(
        self, catalogue: Catalogue, skipped: Mapping[int, str], stimulus: int
    ) -> None:
        """Raise if too few stimuli would be left without this one."""

    def report(self, stage: str, done: int, total: int, before: int, started: float) -> None:
        """Tell the listener of progress."""
        seconds = time.perf_counter() - started
        self.listener.progress(Progress(stage, done, total, seconds, peak_memory(), before))


class _Pass:
    """One pass over the stimuli, for some of the layers."""

    def __init__(
        self, work: Passes, layers: Sequence[Layer], taker: Taker, later: BackgroundWriter
    ) -> None:
        self._work, self._draft = work, work.draft
        self._layers, self._taker, self._later = layers, taker, later
        commit = self._draft.commit
        taker.resume(commit.live, self._draft.take_live())
        self._batches, self._skipped = commit.batches, dict(commit.skipped)
        self._invisible = set(commit.invisible)
        self._is_whole = True  # no batch is half taken

    def run(self, report: Callable[[int], None]) -> None:
        """Decode, show, take; commit from time to time, and at an error."""
        work, setup = self._work, self._work.setup
        images = setup.batches(self._batches, work.stop.look, self._hear_invisible)
        how = setup.plan, setup.device, self._taker, setup.sample
        with showing(setup.backbone, setup.layers, *how) as show:
            try:
                for decoded in images:
                    self._take(decoded, show)
                    report(self._batches)
                    if work.is_due:
                        self._commit()
                    work.stop.look()
            except BaseException as error:
                self._rescue(error)
                raise
            self._taker.finish()
            self._finish()

    def _take(self, decoded: Decoded, show: Callable[[Decoded], None]) -> None:
        skipping = {**self._skipped, **self._failed(decoded)}
        self._is_whole = False
        show(decoded.but_for(skipping))
        self._batches, self._skipped, self._is_whole = self._batches + 1, skipping, True

    def _commit(self) -> None:
        """Commit what was shown; the network continues while it reaches the disk."""
        self._later.wait()
        records, contents = self._taker.save()
        self._draft.save_live(contents)
        self._later(
            self._draft.write_commit,
            batches=self._batches,
            skipped=self._skipped,
            invisible=sorted(self._invisible),
            live=records,
            machine=machine(),
        )
        self._work.committed()

    def _rescue(self, error: BaseException) -> None:
        """Commit after an error, unless it came within a batch or the program must exit at once."""
        if self._is_whole and type(error) is not KeyboardInterrupt:
            with suppress(Exception):
                self._later.wait()  # for a commit under way
                if self._batches > self._draft.commit.batches:
                    self._commit()
                    self._later.wait()

    def _finish(self) -> None:
        """Commit that all stimuli were shown to these layers."""
        self._later.wait()
        self._draft.save_live({})
        names = (layer.name for layer in self._layers)
        self._later(
            self._draft.write_commit,
            finished=[*self._draft.commit.finished, *names],
            batches=0,
            skipped=self._skipped,
            invisible=sorted(self._invisible),
            live={},
            machine=machine(),
        )

    def _hear_invisible(self, stimulus: int) -> None:
        if stimulus not in self._invisible:
            self._invisible.add(stimulus)
            note_invisible(self._work.setup.catalogue.path(stimulus), self._work.listener)

    def _failed(self, decoded: Decoded) -> dict[int, str]:
        """Stimuli of a batch that are skipped -> why.

        Raises
        ------
        UserError : too few would be left; the stimulus was shown to other layers before
        """
        catalogue = self._work.setup.catalogue
        failed = {int(decoded.batch.stimuli[row]): why for row, why in decoded.failed.items()}
        for stimulus, why in failed.items():
            if stimulus in self._skipped:
                continue
            if self._draft.commit.finished:
                raise UserError(
                    f"all passes show the same stimuli; {catalogue.path(stimulus)} {why}, but an "
                    "earlier pass has shown it: restore it"
                )
            self._work.listener.note(f"skipped: {catalogue.path(stimulus)} {why}")
            self._work.refuse_to_skip(catalogue, {**self._skipped, **failed}, stimulus)
        return failed


def note_invisible(path: Path, listener: Listener) -> None:
    """Name a stimulus in which nothing is visible."""
    listener.note(f"nothing is visible in {path}: {INVISIBLE}")
