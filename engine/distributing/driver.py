"""A scan on workers: they run the shards, then merge groups, then compute contrasts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..contrasts.select import annotate_criterion
from ..errors import UserError, shortened
from ..networks.weights import looks_like_file
from ..scanning.interrupt import Stop
from ..scanning.loop import note_invisible
from ..scanning.memory import peak_memory
from ..scanning.progress import Listener, Progress
from ..scanning.rounding import changed
from ..scanning.setup import Setup
from ..scanning.work import refuse_too_few
from ..store.files.durable import remove_partial_files
from ..store.reader import Unreadable
from ..store.writing.recovery import Recovery
from ..store.writing.store_draft import StoreDraft
from .cluster import Crew, Workers, connected
from .dispatch import Task, hand_out
from .stages import contrast_tasks, merge_tasks
from .tasks import (
    CONTRAST,
    MERGE,
    SHOW,
    Job,
    Outcome,
    Record,
    leave,
    show,
)


class OnWorkers:
    """Executor of a scan on dask workers: the same bits as in one process."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.processes = workers.number or 1

    def fill(self, draft: StoreDraft, setup: Setup, listener: Listener, stop: Stop) -> None:
        """Fill a draft on workers, from the start or from where it stopped.

        Raises
        ------
        UserError : no workers, or a user's mistake that a worker reports
        """
        distribution = Distribution(draft, setup, listener, stop)
        if draft.is_complete:
            return
        request, workers = setup.request, self._workers
        network = request.network
        if looks_like_file(network.weights):  # workers may run in another folder
            network = replace(network, weights=str(Path(network.weights).absolute()))
        job = Job(
            uuid4().hex,
            draft.path,
            {},
            network,
            str(setup.device),
            workers.threads_each,
            request.resources.decode_workers,
            request.stimuli.on_error == "skip",
            setup.reductions,
        )
        with connected(workers, listener) as crew:
            try:
                distribution.run(crew, job)
            finally:
                if workers.scheduler and crew.client.status == "running":
                    crew.client.run(leave, job.token, on_error="ignore")
        if isinstance(draft.path, Path):
            remove_partial_files(draft.path)  # left by workers that died


class Distribution:
    """Fills a draft on workers, from the start or from where it stopped.

    The bits are those of one process: the plan fixes shards and groups, and the parts of a group
    are merged in plan order.
    """

    def __init__(self, draft: StoreDraft, setup: Setup, listener: Listener, stop: Stop) -> None:
        self._draft, self._plan = draft, setup.plan
        self._layers = setup.fitting.parts
        self._catalogue = setup.catalogue.absolute()
        self._listener, self._stop = listener, stop
        self._warned: set[str] = set()
        self._peak = 0
        if draft.commit.number and not draft.is_complete:
            raise UserError(
                f"an unfinished scan continues the way it began; the one in {draft.path} ran in "
                "one process: leave out `workers` and `scheduler`, or start over with "
                "`restart=True`"
            )
        self._machines: list[Mapping[str, Any]] = []
        self._records: dict[str, Record] = {}
        if not draft.is_complete:
            for damaged in draft.tasks.damaged():
                listener.note(f"repeating {damaged.removesuffix('.json')}: its record is damaged")
            Recovery(draft).forget_damaged_tasks(listener.note, thorough=False)
            self._records = {
                name: {**record, "batches": tuple(record["batches"])}
                for name, record in draft.tasks.of(SHOW).items()
            }
            if self._records:
                self._note_what_is_done()
            for stage in (SHOW, MERGE, CONTRAST):
                for record in draft.tasks.of(stage).values():
                    self._compare(record.get("machine", {}))

    def run(self, crew: Crew, job: Job) -> None:
        """Run everything that is left, with one pass over the stimuli per part of the layers."""
        if "criterion" not in self._draft.provenance:
            annotate_criterion(self._draft)
        self._show(crew, self._identified(job))
        self._draft.leave_out(self._skipped())
        job = self._identified(job)
        self._merge(crew, job)
        self._contrast(crew, job)
        self._draft.commit = replace(
            self._draft.commit, skipped=self._skipped(), invisible=sorted(self._invisible())
        )

    def _identified(self, job: Job) -> Job:
        """The job with the draft's identity, which workers compare."""
        identity = {name: self._draft.provenance[name] for name in ("created", "fingerprint")}
        return replace(job, identity=identity)

    # Stimuli

    def _show(self, crew: Crew, job: Job) -> None:
        parts = self._parts()
        total, started = len(self._plan.order), time.perf_counter()
        before = done = sum(self._stimuli(record) for record in self._records.values())
        for part in parts:
            tasks = [task for task in self._shards(part) if task.name not in self._records]
            if tasks:  # new moments make later results stale
                self._draft.tasks.forget(MERGE)
                self._draft.tasks.forget(CONTRAST)
            for task, outcome in self._done(crew, job, tasks):
                self._take(task, outcome)
                done += self._stimuli(outcome.record)
                self._report("scan", done, len(parts) * total, before, started)

    def _parts(self) -> list[tuple[str, ...]]:
        """Layer names of every pass over the stimuli; passes already begun keep their layers."""
        begun = {tuple(record["layers"]): None for record in self._records.values()}
        named = {name for part in begun for name in part}
        left = (
            tuple(layer.name for layer in part if layer.name not in named) for part in self._layers
        )
        return [*begun, *(part for part in left if part)]

    def _shards(self, part: tuple[str, ...]) -> Iterator[Task]:
        plan, catalogue = self._plan, self._catalogue
        first = [layer.name for layer in self._draft.layers].index(part[0])
        skipped = self._skipped()
        for number, batches in enumerate(plan.shards):
            stimuli = plan.stimuli_of(number)
            own = {row: skipped[s] for row, s in enumerate(stimuli.tolist()) if s in skipped}
            cut = plan.shard(number)
            shown = dict.fromkeys(self._draft.categories[block.category] for block in cut.blocks)
            passing = f", layers from {part[0]}" if len(part) < len(self._draft.layers) else ""
            name = f"{SHOW}/{first}/{number}"
            yield Task(
                name,
                f"show shard {number + 1} ({shortened(shown, 3)}{passing})",
                show,
                (name, cut, catalogue.chosen(stimuli), (batches.start, batches.stop), part, own),
            )

    def _take(self, task: Task, outcome: Outcome) -> None:
        """Keep the record of a shard, and note skipped stimuli and values that are not finite."""
        for layer, warning in outcome.record["warnings"].items():
            if layer not in self._warned:
                self._warned.add(layer)
                self._listener.note(warning)
        earlier, before = self._skipped(), list(self._records.values())
        seen = self._invisible()
        record = {**outcome.record, "batches": tuple(outcome.record["batches"])}
        self._records[task.name] = record
        for stimulus in self._invisible_in(record):
            if stimulus not in seen:
                note_invisible(self._catalogue.path(stimulus), self._listener)
        for stimulus, why in self._skipped_in(record).items():
            if stimulus in earlier:
                continue
            path = self._catalogue.path(stimulus)
            try:
                if any(other["batches"] == record["batches"] for other in before):
                    raise UserError(
                        "all passes show the same stimuli; "
                        f"{path} {why}, but an earlier pass has shown it: restore it"
                    )
                self._listener.note(f"skipped: {path} {why}")
                refuse_too_few(self._catalogue, self._plan, self._skipped(), stimulus)
            except UserError:
                self._forget_those_without(stimulus)
                raise

    def _compare(self, machine: Mapping[str, Any]) -> None:
        """Note how a worker's machine differs from the first worker's, once per difference."""
        self._machines = self._machines or [machine]
        difference = changed(self._machines[0], machine)
        if difference and machine not in self._machines:
            self._machines.append(machine)
            first, own = difference
            self._listener.note(
                f"one worker computes with {own}, others with {first}: last bits may differ from a "
                "scan on identical workers"
            )

    def _forget_those_without(self, stimulus: int) -> None:
        """Forget shards that skipped stimuli of the same group, as they may be restored."""
        catalogue, fold_of = self._catalogue, self._plan.fold_of
        group = catalogue.labels[stimulus], fold_of[stimulus]
        for name, record in self._records.items():
            gone = self._skipped_in(record)
            if any((catalogue.labels[other], fold_of[other]) == group for other in gone):
                self._draft.tasks.forget(name)

    # Moments and contrasts

    def _merge(self, crew: Crew, job: Job) -> None:
        """Merge the parts of files that shards have kept."""
        draft = self._draft
        tasks = merge_tasks(draft, self._records)
        there = draft.tasks.of(MERGE)
        left = [task for task in tasks if task.name not in there]
        started, before = time.perf_counter(), len(tasks) - len(left)
        for done, _ in enumerate(self._done(crew, job, left), before + 1):
            self._report("merge", done, len(tasks), before, started)

    def _contrast(self, crew: Crew, job: Job) -> None:
        there = self._draft.tasks.of(CONTRAST)
        tasks, units = contrast_tasks(self._draft)
        left = [task for task in tasks if task.name not in there]
        started, before = time.perf_counter(), sum(units[name] for name in there)
        done = before
        for task, _ in self._done(crew, job, left):
            done += units[task.name]
            self._report("contrasts", done, sum(units.values()), before, started)

    # Bookkeeping

    def _note_what_is_done(self) -> None:
        stimuli = sum(self._stimuli(record) for record in self._records.values())
        contrasts = self._draft.tasks.of(CONTRAST).values()
        contrasted = sum(stop - first for first, stop in (one["contrasts"] for one in contrasts))
        passes = len({record["layers"][0] for record in self._records.values()})
        self._listener.note(
            f"resuming an unfinished scan: {len(self._records)} of "
            f"{passes * len(self._plan.shards)} shards are done ({stimuli:,} of "
            f"{passes * len(self._plan.order):,} stimuli), "
            f"contrasts of {contrasted} of {len(self._draft.layers)} layers are written"
        )

    def _stimuli(self, record: Any) -> int:
        first, stop = record["batches"]
        size, total = self._plan.batch_size, len(self._plan.order)
        return int(min(stop * size, total) - first * size)

    def _skipped_in(self, record: Record) -> dict[int, str]:
        """Stimuli that a shard skipped, by their number in the catalogue, and why."""
        return {self._numbered(record, int(r)): why for r, why in record["skipped"].items()}

    def _invisible_in(self, record: Record) -> list[int]:
        """Invisible stimuli of a shard, by their number in the catalogue."""
        return [self._numbered(record, row) for row in record.get("invisible", ())]

    def _numbered(self, record: Record, row: int) -> int:
        return int(self._plan.order[record["batches"][0] * self._plan.batch_size + row])

    def _invisible(self) -> set[int]:
        return {s for record in self._records.values() for s in self._invisible_in(record)}

    def _skipped(self) -> dict[int, str]:
        return {
            stimulus: why
            for record in self._records.values()
            for stimulus, why in self._skipped_in(record).items()
        }

    def _done(self, crew: Crew, job: Job, tasks: Sequence[Task]) -> Iterator[Any]:
        """Run tasks and yield each with its outcome as it finishes.

        Raises
        ------
        UserError : a user's mistake that a worker reports; see :func:`.dispatch.hand_out`
        """
        for task, outcome in hand_out(crew, job, tasks, self._stop, self._listener.note):
            if outcome.refused:
                raise (Unreadable if outcome.damaged else UserError)(*outcome.refused)
            self._compare(outcome.record.get("machine", {}))
            self._peak = max(self._peak, outcome.peak_bytes)
            yield task, outcome

    def _report(self, stage: str, done: int, total: int, before: int, started: float) -> None:
        seconds = time.perf_counter() - started
        peak = max(self._peak, peak_memory())
        self._listener.progress(Progress(stage, done, total, seconds, peak, before))
