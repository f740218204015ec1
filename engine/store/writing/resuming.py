"""Resuming a draft that an earlier run left behind, if it is of the same scan and undamaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore

from ... import beside
from ...disk import Lock, add_limitation, locked, note_limitations
from ...errors import UserError, explain_disk_errors
from ...spec import Request
from ..files.durable import remove_partial_files
from ..files.memory import Memory
from ..identity import difference, not_compared
from ..location import Location, exists, is_group, remove, zarr_store
from ..reader import Unreadable
from ..root import require_kind
from ..zarr_internals import await_writes
from .base_draft import BaseDraft
from .commits import CommitLog, TaskLog
from .creating import Blueprint
from .publishing import final_location, is_no_group, publish, refuse_existing
from .recovery import Recovery

Note = Callable[[str], None]
Draft = BaseDraft[Any]
# Attempts to create the folder of a draft that other runs publish meanwhile.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Existing:
    """Choices about an earlier store, and the draft of an earlier run.

    Attributes
    ----------
    overwrite : replace an earlier store
    restart : discard the draft, instead of resuming it
    go_back : continue from the commit before the last, if that is damaged

    Raises
    ------
    UserError : both of these
    """

    overwrite: bool = False
    restart: bool = False
    go_back: bool = False

    def __post_init__(self) -> None:
        if self.go_back and self.restart:
            raise UserError(
                "a run goes back by one commit, or begins anew; got `go_back=True` and "
                "`restart=True`: choose one"
            )


@contextmanager
def resuming(
    output: Path | str,
    blueprint: Blueprint,
    order: NDArray[np.int64],
    existing: Existing = Existing(),
    note: Note = lambda _: None,
) -> Iterator[Any]:
    """Give the draft of an earlier run of the same scan, or a new one.

    It is published when the context ends without an error. Until then an earlier store stays as it
    was (behind a URL, where nothing can be moved, it is removed at the start). After an error the
    draft stays if something was committed, and a note on the error says so.

    Parameters
    ----------
    order : the stimuli, in the order of showing

    Raises
    ------
    UserError : see :func:`.publishing.refuse_existing`; the draft is of another scan, or damaged;
        another program fills it; the output cannot be written to
    """
    kind, overwrite = blueprint.kind, existing.overwrite
    refuse_existing(output, overwrite, unfinished=True, kind=kind)
    final, location = final_location(output), _draft_location(output)
    # An error of zarr about a group that is not there would keep the store in a reference cycle.
    draft, begun, in_memory = None, False, isinstance(location, Memory)
    with note_limitations(note, final), explain_disk_errors(final), ExitStack() as stack:
        lock = stack.enter_context(_locked(location)) if isinstance(location, Path) else None
        try:
            if isinstance(final, Path) and isinstance(location, Path):
                # Another program may have held the lock before, and published.
                refuse_existing(final, overwrite, unfinished=True, kind=kind)
                if beside.pending_publication(final)[0]:
                    raise _taken(location)
                beside.mark(location)
            if not existing.restart and not in_memory:
                draft = _earlier_draft(location, blueprint, order, existing.go_back, note)
            if draft is None:
                begun = True
                draft = _new_draft(location, blueprint, note)
            with explain_disk_errors(final, draft):
                yield draft
                publish(draft, final, overwrite)
        except BaseException as error:
            await_writes()  # they would come back into a removed folder
            if draft and draft.was_committed and is_group(location) and not in_memory:
                error.add_note(_kept(draft, error))
            elif begun or lock:
                _clear(location, lock, begun, draft)
            raise


def _clear(location: Location, lock: Lock | None, begun: bool, draft: Draft | None) -> None:
    """Remove a draft with no commits after an error, if this run began it or it is useless."""
    if not isinstance(location, Path):
        remove(location)
        return
    useless = begun or beside.is_bare(location) or (draft and draft.lost())
    if useless and lock and lock.in_place:
        with suppress(OSError):
            beside.remove(location)


@contextmanager
def _locked(folder: Path) -> Iterator[Lock]:
    """Create the folder of a draft, if necessary, and keep other programs from filling it.

    Raises
    ------
    UserError : another program fills it
    """
    with ExitStack() as stack:
        for _ in range(_ATTEMPTS):
            folder.mkdir(exist_ok=True)
            try:
                lock = stack.enter_context(locked(folder))
            except BlockingIOError:
                break
            except FileNotFoundError:  # its own run published it meanwhile
                continue
            if not lock.held and lock.descriptor is not None:
                add_limitation("lock a folder: let one scan at a time write it")
            yield lock
            return
        raise _taken(folder)


def _taken(folder: Path) -> UserError:
    return UserError(
        f"one scan at a time fills {folder}; another does: wait for its end, or choose another "
        "output"
    )


def _draft_location(output: Path | str) -> Location:
    final = final_location(output)
    return beside.draft_path(final) if isinstance(final, Path) else final


def _kept(draft: Draft, error: BaseException) -> str:
    """Where an unfinished draft is kept, and the remedy if it is damaged."""
    kept = f"what was done is kept in {draft.path}: the same command resumes it"
    if draft.lost():
        return f"what was done is kept in {draft.path}: restore that, or `restart=True`"
    if not isinstance(error, Unreadable):
        return kept
    recovery = Recovery(type(draft).join(draft.path))
    if recovery.forget_damaged_tasks(lambda _: None, thorough=True):
        return f"{kept}, and repeats what is damaged"
    return recovery.damage_to_last() or kept


def begun_with(output: Path | str) -> dict[str, Any]:
    """The attributes of an unfinished draft that would be resumed; empty without one.

    A draft that cannot be read raises an error when it is resumed, not here.
    """
    location = _draft_location(output)
    try:
        store = zarr_store(location)
        root = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)
    except Exception as error:
        if not is_no_group(error):
            raise
        return {}
    attributes = dict(root.attrs)
    published = isinstance(location, str) and attributes.get("status") == "complete"
    return {} if published else attributes


def as_begun(request: Request, output: str | Path) -> Request:
    """The request with the batch size of an unfinished scan, where it leaves it open."""
    if request.design.batch_size is not None:
        return request
    begun = begun_with(output).get("batch_size")
    size = begun if isinstance(begun, int) and begun > 0 else None
    return replace(request, design=replace(request.design, batch_size=size))


def _new_draft(location: Location, blueprint: Blueprint, note: Note) -> Draft:
    """A new draft, in place of an earlier run's."""
    if _is_committed(zarr_store(location)):
        note(f"what an earlier {blueprint.kind.work} had done is discarded: this one begins anew")
    if isinstance(location, Path):
        beside.empty(location)
    elif exists(location):
        remove(location)
    return blueprint.create(location)


def _earlier_draft(
    location: Location,
    blueprint: Blueprint,
    order: NDArray[np.int64],
    go_back: bool,
    note: Note,
) -> Draft | None:
    """The draft of an earlier run of the same scan, ready to be resumed; None without a commit."""
    draft = _opened(location, blueprint)
    if draft is None or not draft.was_committed:
        return None
    if missing := draft.missing():
        raise _unusable(location, blueprint, f"{missing} is gone")
    wanted = blueprint.attributes()
    try:
        _require_same(draft, blueprint, wanted, order)
        Recovery(draft).settle(go_back, note)
    except Unreadable as error:
        raise _unusable(location, blueprint, str(error).partition(":")[0]) from None
    if unknown := not_compared({"what was begun": draft.provenance}):
        note(unknown)
        draft.add_notes([unknown])
    if not draft.is_complete and draft.provenance["fingerprint"] != wanted["fingerprint"]:
        draft.update_stimuli(blueprint.stimuli)
    if isinstance(location, Path):
        remove_partial_files(location)
    return draft


def _opened(location: Location, blueprint: Blueprint) -> Draft | None:
    """Open the draft of an earlier run; None if there is none, or nothing is committed."""
    store = zarr_store(location, read_only=False)
    try:
        root = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        require_kind(location, root, blueprint.kind)
        return blueprint.draft_type(location, root)
    except UserError:
        if not _is_committed(store):
            return None
        raise
    except Exception as error:
        if not is_no_group(error):
            raise
        if not _is_committed(store):
            return None
        raise _unusable(location, blueprint, str(error).partition("\n")[0]) from None


def _is_committed(store: ZarrStore) -> bool:
    return CommitLog(store).exists() or TaskLog(store).exists()


def _unusable(location: Location, blueprint: Blueprint, reason: str) -> UserError:
    return UserError(
        f"the unfinished {blueprint.kind.work} in {location} is damaged ({reason}): discard it "
        "with `restart=True`"
    )


def _require_same(
    draft: Draft, blueprint: Blueprint, wanted: Mapping[str, Any], order: NDArray[np.int64]
) -> None:
    """Raise if a draft is of another scan than the blueprint.

    Stimuli that were not shown yet may differ: one that could not be read may have been restored.
    """
    began, kind = draft.provenance, blueprint.kind
    differing = difference(began, wanted) or _other_stimulus(draft, blueprint.stimuli, order)
    if differing:
        raise UserError(
            f"an unfinished {kind.work} is resumed as it was begun; that in {draft.path} and this "
            f"one differ in their {differing}: {kind.command} as then, choose another output, "
            "or discard it with `restart=True`"
        )
    changed = ", ".join(
        f"{name} {began['versions'].get(name)}"
        for name, version in wanted["versions"].items()
        if began["versions"].get(name) != version
    )
    if changed:
        raise UserError(
            f"an unfinished {kind.work} is resumed with the versions it was begun with, because "
            f"others may round differently; {draft.path} was begun with {changed}: install them, "
            "or discard it with `restart=True`"
        )


def _shown(draft: Draft, order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The stimuli of the table that are in the moments of any layer."""
    shown = np.ones(draft.provenance["n_stimuli"], bool)
    if not draft.is_complete and not draft.commit.finished:
        size = draft.provenance["batch_size"]
        shown[order[draft.commit.batches * size :]] = False
        for entry in draft.tasks.of("show").values():
            first, stop = entry["batches"]
            shown[order[first * size : stop * size]] = True
    shown &= draft.reader.stimulus_column("stimulus_fold") >= 0
    return shown


def _other_stimulus(
    draft: Draft, table: Mapping[str, Sequence[Any]], order: NDArray[np.int64]
) -> str | None:
    """The first difference between a draft's stimuli and a table, as the end of a sentence."""
    paths, hashes, statuses = (f"stimulus_{name}" for name in ("path", "sha256", "status"))
    stored = draft.reader.stimulus_column
    before, now = stored(paths), table[paths]
    if len(before) != len(now):
        others = set(map(str, before)) ^ set(now)
        other, listed = min(others, default=now[0]), set(now)
        return f"stimuli: {other} is {'new' if other in listed else 'not there any more'}"
    for column in ("stimulus_category", "stimulus_fold"):
        for row in np.flatnonzero(stored(column) != np.asarray(table[column]))[:1].tolist():
            told = {before[row]: stored(statuses)[row], now[row]: table[statuses][row]}
            return "stimuli: " + ", ".join(f"{name} ({status})" for name, status in told.items())
    before, wanted = stored(hashes), table[hashes]
    for row in np.flatnonzero(_shown(draft, order)).tolist():  # not all at once: texts are large
        if before[row] != wanted[row]:
            return f"stimuli: {now[row]} has changed, and was shown"
    return None
