"""The state of a draft that an earlier run left: progress, damage, and the commit to resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import UserError
from ..metadata import Misfit, refusing
from .base_draft import BaseDraft
from .commits import Commit, FoundCommit

# Stages of a scan by workers, which the names of tasks begin with.
STAGES = ("show", "merge", "contrast")


class Recovery:
    """Checks a draft that an earlier run left.

    Checks are quick, for missing and truncated files only, or ``thorough``: all data are read.
    """

    def __init__(self, draft: BaseDraft[Any]) -> None:
        self._draft = draft

    def settle(self, go_back: bool, note: Callable[[str], None]) -> None:
        """Choose the commit to continue from: the last, if all that it needs is there.

        With ``go_back`` all of it is read; if it is damaged, the commit before takes its place.

        Raises
        ------
        UserError : it is damaged; says how much is lost by going back, if that is possible
        """
        draft = self._draft
        if not draft.found and not draft.is_complete:  # filled by workers
            self.forget_damaged_tasks(note, thorough=go_back)
            return
        faults = self._faults(self._last, thorough=go_back)
        if not faults:
            return
        before = self._before_last() if go_back else None
        if before is None or before.commit is None or self._last is None:
            raise UserError(self._message(faults))
        note(
            f"going back from the last commit, which is damaged ({_cannot_read(faults[0])}), to "
            f"the one before: {self._repeated(self._last, before.commit)}"
        )
        draft.go_back(before)

    def forget_damaged_tasks(self, note: Callable[[str], None], thorough: bool) -> bool:
        """Have damaged tasks of workers repeated; return whether there were any."""
        tasks = self._damaged_tasks(thorough)
        for task, fault in tasks.items():
            self._draft.tasks.forget(task)
            note(f"{task} is done again: {_cannot_read(fault)}")
        return bool(tasks)

    def damage_to_last(self) -> str:
        """A message on the damage to the last commit, and the remedy; empty if it is whole."""
        faults = self._faults(self._last, thorough=True)
        return self._message(faults) if faults else ""

    def progress(self) -> str:
        """How far the draft is, as the end of a sentence; empty if nothing is committed."""
        draft = self._draft
        if not draft.found:
            shards, contrasts = (len(draft.tasks.of(stage)) for stage in ("show", "contrast"))
            return f": {shards} shards are done, {contrasts} contrasts" if shards else ""
        commit, total = draft.commit, len(draft.order)
        if not commit.number:
            return ": no commit is whole"
        layers = len(draft.layers)
        all_shown = len(commit.finished) == layers
        shown = total if all_shown else draft.n_shown(commit)
        return (
            f": commit {commit.number:,}, {shown:,} of {total:,} stimuli were shown"
            f"{'' if all_shown else f' to {len(commit.live)} layers'}, "
            f"{len(commit.finished)} of {layers} layers are finished"
        )

    def damage(self) -> list[str]:
        """All damage, file by file, and the remedy."""
        draft = self._draft
        root = draft.reader.schema.of_root()
        found = [fault for key in root if (fault := self._fault(key, (), thorough=True))]
        folder = draft.tasks.folder
        found += [f"{folder}/{name}: is not what was written" for name in draft.tasks.damaged()]
        if found or not (draft.found or draft.is_complete):
            return [*found, *self._damaged_tasks(thorough=True).values()]
        for one in draft.found or (None,):
            if not (faults := self._faults(one, thorough=True)):
                break
            found += faults
        found = list(dict.fromkeys(found))  # both commits may need the same file
        return [*found, self._remedy()] if found else []

    @property
    def _last(self) -> FoundCommit | None:
        return self._draft.found[0] if self._draft.found else None

    def _before_last(self) -> FoundCommit | None:
        """The commit before the last one, if all that it needs is whole."""
        earlier = self._draft.found[1:]
        return next((one for one in earlier if not self._faults(one, thorough=True)), None)

    def _faults(self, found: FoundCommit | None, thorough: bool) -> list[str]:
        """The faults of the files that a commit needs."""
        if found and (found.fault or not found.commit):
            return [found.fault]
        commit = found.commit if found and found.commit else self._draft.commit
        needed = self._draft.written(commit)
        return [fault for key, part in needed if (fault := self._fault(key, part, thorough))]

    def _damaged_tasks(self, thorough: bool) -> dict[str, str]:
        """Tasks of workers with missing or damaged results, and the fault of each."""
        return {
            task: fault
            for stage in STAGES
            for task, entry in self._draft.tasks.of(stage).items()
            if (fault := next(self._task_faults(task, entry, thorough), ""))
        }

    def _task_faults(self, task: str, entry: Mapping[str, Any], thorough: bool) -> Iterator[str]:
        for key, part in self._draft.written_by(task, entry):
            if fault := self._fault(key, part, thorough):
                yield fault
        if thorough:
            yield from self._draft.damaged_moments(task, entry)

    def _fault(self, key: str, part: tuple[int | slice, ...], thorough: bool) -> str:
        """The fault of a part of an array; empty if there is none."""
        arrays = self._draft.reader.arrays
        try:
            with refusing(Misfit):
                if thorough:
                    arrays.part(key, part)
                else:
                    arrays.require_files(key, part)
        except Misfit as misfit:
            return f"{key}: {misfit}"
        return ""

    def _message(self, faults: Sequence[str]) -> str:
        more = ", ..." if len(faults) > 1 else ""
        return (
            f"the unfinished {self._draft.kind.work} in {self._draft.path} is damaged "
            f"({_cannot_read(faults[0])}{more}): {self._remedy()}"
        )

    def _remedy(self) -> str:
        before = self._before_last()
        if before is None or before.commit is None:
            return "no earlier commit is whole: discard it with `restart=True`"
        repeated = self._repeated(self._last, before.commit)
        return f"go back to the commit before with `go_back=True` ({repeated})"

    def _repeated(self, last: FoundCommit | None, before: Commit) -> str:
        """How much is repeated after going back from the last commit to the one before."""
        draft = self._draft
        total, later = len(draft.order), last.commit if last else None
        again, up_to = 0, ""
        if len(before.finished) < len(draft.layers):
            if later is None:
                again, up_to = total - draft.n_shown(before), "up to "
            else:
                other_part = set(later.finished) != set(before.finished)
                again = draft.n_shown(later) - draft.n_shown(before) + total * other_part
        lost = later.contrasts - before.contrasts if later else 0
        contrasts = f", contrasts of {lost} layers are made again" if lost else ""
        return f"{up_to}{again:,} of {total:,} stimuli are shown again{contrasts}"


def _cannot_read(fault: str) -> str:
    key, _, said = fault.partition(": ")
    return f"cannot read {key} ({said})"
