"""Drafts that outlive the run that began them: found again, checked, and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from .. import beside
from ..disk import Lock, lacking, locked, telling
from ..errors import UserError, told_of_the_disk
from .commits import Commits
from .durable import sweep
from .filling import Filling, unusable
from .identity import difference, not_compared
from .places import Place, exists, is_group, remove, zarr_store
from .records import Records
from .root import Unreadable, refuse_schema
from .writing import SCANNED, Way, described, final_place, finish, is_no_group, refuse_existing

Note = Callable[[str], None]
# Times that the folder of a draft is made anew when another run has published it meanwhile.
_TRIES = 20


@contextmanager
def resuming(
    output: Path | str,
    overwrite: bool,
    restart: bool,
    note: Note,
    order: NDArray[np.int64],
    way: Way = SCANNED,
    go_back: bool = False,
    **contents: Any,
) -> Iterator[Any]:
    """Give the draft of a scan: what an earlier run of it has left, or a new one.

    It stands at ``output`` when the context ends without an error; until then an earlier store
    stays as it was (behind a URL, where nothing can be moved, it is gone from the start). After an
    error the draft stays if something was committed, and the error says so. ``contents`` are those
    of :func:`.writing.create_store`, ``order`` holds the stimuli in the order of showing, ``way``
    says whether it is a scan or a recording; with ``restart`` what an earlier run has left is given
    up, with ``go_back`` what its last commit had, if that is damaged.

    Raises
    ------
    UserError : see :func:`.writing.refuse_existing`; what was left is of another scan, or damaged;
        another program fills it; the output cannot be written to
    """
    refuse_existing(output, overwrite, unfinished=True, kind=way.kind)
    if go_back and restart:
        raise UserError(
            f"a {way.kind.work} goes back by one commit, or begins anew; got --go-back and "
            "--restart: choose one"
        )
    final, place = final_place(output), _draft_place(output)
    draft, begun = None, False
    with telling(note, final), told_of_the_disk(final), ExitStack() as stack:
        lock = stack.enter_context(_locked(place)) if isinstance(place, Path) else None
        try:
            if isinstance(final, Path) and isinstance(place, Path):
                # Whoever had the lock before may have published it.
                refuse_existing(final, overwrite, unfinished=True, kind=way.kind)
                if beside.waiting(final)[0]:
                    raise _taken(place)
                beside.mark(place)
            if not restart:
                draft = _left_behind(place, way, contents, order, go_back, note)
            if draft is None:
                begun = True
                draft = _begun(place, note, way, contents)
            with told_of_the_disk(final, draft):
                yield draft
                finish(draft, final, overwrite)
        except BaseException as error:
            if draft and draft.was_committed and is_group(place):
                error.add_note(_what_is_kept(draft, error))
            elif isinstance(place, str):
                if begun:
                    remove(place)
            elif (
                (begun or beside.is_bare(place) or (draft and draft.lost()))
                and lock
                and lock.in_place
            ):
                with suppress(OSError):
                    beside.remove(place)
            raise


@contextmanager
def _locked(place: Path) -> Iterator[Lock]:
    """Create the folder of a draft, if it is not there, and keep other programs from filling it.

    Raises
    ------
    UserError : another program fills it
    """
    with ExitStack() as stack:
        for _ in range(_TRIES):
            place.mkdir(exist_ok=True)
            try:
                lock = stack.enter_context(locked(place))
            except BlockingIOError:
                break
            except FileNotFoundError:  # its own run has published it meanwhile
                continue
            if not lock.held and lock.descriptor is not None:
                lacking("lock a folder: let one scan at a time write it")
            yield lock
            return
        raise _taken(place)


def _taken(place: Path) -> UserError:
    return UserError(
        f"one scan at a time fills {place}; another does: wait for its end, or choose another "
        "output"
    )


def _draft_place(output: Path | str) -> Place:
    final = final_place(output)
    return beside.draft_place(final) if isinstance(final, Path) else final


def _what_is_kept(draft: Filling, error: BaseException) -> str:
    """Say where an unfinished scan is kept, and the remedy if it is damaged."""
    kept = f"what was done is kept in {draft.path}: the same command goes on"
    if draft.lost():
        return f"what was done is kept in {draft.path}: restore that, or --restart"
    if not isinstance(error, Unreadable):
        return kept
    left = type(draft).join(draft.path)
    if left.forget_damaged(lambda _: None, thoroughly=True):
        return f"{kept}, and does again what is damaged"
    return left.what_is_wrong() or kept


def begun_with(output: Path | str) -> dict[str, Any]:
    """What the root says of an unfinished scan that would be gone on with; nothing without one.

    What cannot be read is judged when it is gone on with.
    """
    place = _draft_place(output)
    try:
        root = zarr.open_group(zarr_store(place), mode="r", zarr_format=3, use_consolidated=False)
    except Exception as error:
        if not is_no_group(error):
            raise
        return {}
    attributes = dict(root.attrs)
    published = isinstance(place, str) and attributes.get("status") == "complete"
    return {} if published else attributes


def _begun(place: Place, note: Note, way: Way, contents: Mapping[str, Any]) -> Filling:
    """A new draft, in place of anything that an earlier run has left."""
    store = zarr_store(place)
    if Commits(store).are_there or Records(store).are_there:
        note(f"what an earlier {way.kind.work} had done is given up: this one begins anew")
    if isinstance(place, Path):
        beside.empty(place)
    elif exists(place):
        remove(place)
    return way.create(place, **contents)


def _left_behind(
    place: Place,
    way: Way,
    contents: Mapping[str, Any],
    order: NDArray[np.int64],
    go_back: bool,
    note: Note,
) -> Filling | None:
    """The draft that an earlier run of the same scan has left; None where nothing is committed."""
    store = zarr_store(place, read_only=False)
    try:
        root = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        refuse_schema(place, root, way.kind)
        draft = way.draft(place, root)
    except UserError:
        if not (Commits(store).are_there or Records(store).are_there):
            return None
        raise
    except Exception as error:
        if not is_no_group(error):
            raise
        if not (Commits(store).are_there or Records(store).are_there):
            return None
        raise unusable(place, way.kind.work, str(error).partition("\n")[0]) from None
    if not draft.was_committed:
        return None
    if missing := draft.missing():
        raise unusable(place, way.kind.work, f"{missing} is gone")
    try:
        _agree(draft, way, contents, order)
        draft.take_up(go_back, note)
    except Unreadable as error:
        raise unusable(place, way.kind.work, str(error).partition(":")[0]) from None
    if unknown := not_compared({"what was begun": draft.provenance}):
        note(unknown)
        draft.add_notes([unknown])
    _exchange(draft, way, contents)
    if isinstance(place, Path):
        sweep(place)
    return draft


def _agree(draft: Filling, way: Way, contents: Mapping[str, Any], order: NDArray[np.int64]) -> None:
    """Refuse to go on with a draft that was begun otherwise than ``contents`` say.

    But for stimuli that were not shown yet: one that could not be read may have been restored.
    """
    began, table = draft.provenance, contents["stimuli"]
    wanted = described(kind=way.kind, **contents)
    differing = difference(began, wanted) or _other_stimulus(draft, table, order)
    if differing:
        raise UserError(
            f"an unfinished {way.kind.work} goes on as it was begun; that in {draft.path} and this "
            f"one differ in their {differing}: {way.kind.command} as then, choose another output, "
            "or give up what it had done with --restart"
        )
    changed = ", ".join(
        f"{name} {began['versions'].get(name)}"
        for name, version in wanted["versions"].items()
        if began["versions"].get(name) != version
    )
    if changed:
        raise UserError(
            f"an unfinished {way.kind.work} goes on with the versions it was begun with, others "
            f"may round differently; {draft.path} was begun with {changed}: install them, or give "
            "up what it had done with --restart"
        )


def _exchange(draft: Filling, way: Way, contents: Mapping[str, Any]) -> None:
    """Take over stimuli that were not shown yet, and have other contents by now."""
    wanted = described(kind=way.kind, **contents)
    if not draft.is_complete and draft.provenance["fingerprint"] != wanted["fingerprint"]:
        draft.exchange_stimuli(contents["stimuli"])


def _shown(draft: Filling, order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which stimuli of the table, in that order of showing, are in moments of any layer."""
    shown = np.ones(draft.provenance["n_stimuli"], bool)
    if not draft.is_complete and not draft.commit.finished:
        size = draft.provenance["batch_size"]
        shown[order[draft.commit.batches * size :]] = False
        for record in draft.records.of("show").values():
            first, stop = record["batches"]
            shown[order[first * size : stop * size]] = True
    return shown & (draft.stimulus_column("stimulus_fold") >= 0)


def _other_stimulus(
    draft: Filling, table: Mapping[str, Sequence[Any]], order: NDArray[np.int64]
) -> str | None:
    """The first stimulus that a draft's table and another differ in, as the end of a sentence."""
    paths, hashes, statuses = (f"stimulus_{name}" for name in ("path", "sha256", "status"))
    before, now = draft.stimulus_column(paths), table[paths]
    if len(before) != len(now):
        others = set(map(str, before)) ^ set(now)
        other, listed = min(others, default=now[0]), set(now)
        return f"stimuli: {other} is {'new' if other in listed else 'not there any more'}"
    for column in ("stimulus_category", "stimulus_fold"):
        for row in np.flatnonzero(draft.stimulus_column(column) != np.asarray(table[column]))[
            :1
        ].tolist():
            told = {
                before[row]: draft.stimulus_column(statuses)[row],
                now[row]: table[statuses][row],
            }
            return "stimuli: " + ", ".join(f"{name} ({status})" for name, status in told.items())
    shown = np.flatnonzero(_shown(draft, order)).tolist()
    before, wanted = draft.stimulus_column(hashes), table[hashes]
    for row in shown:  # one by one: the texts of all would be in memory twice
        if before[row] != wanted[row]:
            return f"stimuli: {now[row]} has changed, and was shown"
    return None
