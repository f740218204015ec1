"""Drafts that outlive the run that began them: found again, checked, and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import UserError
from .commits import Commits
from .durable import locked, sweep, telling
from .filling import Filling, unusable
from .identity import difference
from .places import Place, exists, is_group, remove, unfinished_place, zarr_store
from .records import Records
from .root import refuse_schema
from .writing import (
    SCANNED,
    Way,
    described,
    final_place,
    finish,
    is_no_group,
    refuse_existing,
    told_of_the_disk,
)

Note = Callable[[str], None]


@contextmanager
def resuming(
    output: Path | str,
    overwrite: bool,
    restart: bool,
    note: Note,
    order: NDArray[np.int64],
    way: Way = SCANNED,
    **contents: Any,
) -> Iterator[Any]:
    """Give the draft of a scan: what an earlier run of it has left, or a new one.

    It stands at ``output`` when the context ends without an error; until then an earlier store
    stays as it was (behind a URL, where nothing can be moved, it is gone from the start). After an
    error the draft stays if something was committed, and the error says so. ``contents`` are those
    of :func:`.writing.create_store`, ``order`` holds the stimuli in the order of showing, ``way``
    says whether it is a scan or a recording; with ``restart`` what an earlier run has left is given
    up.

    Raises
    ------
    UserError : see :func:`.writing.refuse_existing`; what was left is of another scan, or damaged;
        another program fills it; the output cannot be written to
    """
    refuse_existing(output, overwrite, unfinished=True, kind=way.kind)
    final = final_place(output)
    place = unfinished_place(final) if isinstance(final, Path) else final
    draft, begun = None, False
    lock = locked(place) if isinstance(place, Path) else nullcontext()
    with telling(note, final), told_of_the_disk(final), lock:
        try:
            if not restart:
                draft = _left_behind(place, way, contents, order)
            if draft is None:
                begun = True
                draft = _begun(place, note, way, contents)
            with told_of_the_disk(final, draft):
                yield draft
                finish(draft, final, overwrite)
        except BaseException as error:
            if draft and draft.was_committed and is_group(place):
                how = "restore that, or --restart" if draft.lost() else "the same command goes on"
                error.add_note(f"what was done is kept in {place}: {how}")
            elif begun or (draft and draft.lost()):
                remove(place)
            elif isinstance(place, Path):
                with suppress(OSError):
                    place.rmdir()  # which the lock made, unless something is in it
            raise


def begun_with(output: Path | str) -> dict[str, Any]:
    """What the root says of an unfinished scan that would be gone on with; nothing without one.

    What cannot be read is judged when it is gone on with.
    """
    final = final_place(output)
    place = unfinished_place(final) if isinstance(final, Path) else final
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
        _empty(place)
    elif exists(place):
        remove(place)
    return way.create(place, **contents)


def _empty(folder: Path) -> None:
    """Remove what is in a folder, which stays, and is locked."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            remove(path)
        else:
            path.unlink()


def _left_behind(
    place: Place, way: Way, contents: Mapping[str, Any], order: NDArray[np.int64]
) -> Filling | None:
    """The draft that an earlier run of the same scan has left; None where nothing is committed."""
    store = zarr_store(place, read_only=False)
    try:
        root = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        refuse_schema(place, root, way.kind)
        draft = way.draft(place, root)
    except UserError:
        if not (Commits(store).latest() or Records(store).are_there):
            return None
        raise
    except Exception as error:
        if not is_no_group(error):
            raise
        if not (Commits(store).latest() or Records(store).are_there):
            return None
        raise unusable(place, way.kind.work, str(error).partition("\n")[0]) from None
    if not draft.was_committed:
        return None
    if missing := draft.missing():
        raise unusable(place, way.kind.work, f"{missing} is gone")
    _agree(draft, way, contents, order)
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
    draft.require_written(order)
    if not draft.is_complete and began["fingerprint"] != wanted["fingerprint"]:
        draft.exchange_stimuli(table)


def _shown(draft: Filling, order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which stimuli of the table, in that order of showing, are in moments of any layer."""
    shown = np.ones(draft.provenance["n_stimuli"], bool)
    if not draft.is_complete and not draft.commit.finished:
        size = draft.provenance["batch_size"]
        shown[order[draft.commit.batches * size :]] = False
        for record in draft.records.of("show").values():
            first, stop = record["batches"]
            shown[order[first * size : stop * size]] = True
    return shown & (draft.stimuli("stimulus_fold") >= 0)


def _other_stimulus(
    draft: Filling, table: Mapping[str, Sequence[Any]], order: NDArray[np.int64]
) -> str | None:
    """The first stimulus that a draft's table and another differ in, as the end of a sentence."""
    paths, hashes, statuses = (f"stimulus_{name}" for name in ("path", "sha256", "status"))
    before, now = draft.stimuli(paths), table[paths]
    if len(before) != len(now):
        others = set(map(str, before)) ^ set(now)
        other, listed = min(others, default=now[0]), set(now)
        return f"stimuli: {other} is {'new' if other in listed else 'not there any more'}"
    for column in ("stimulus_category", "stimulus_fold"):
        for row in np.flatnonzero(draft.stimuli(column) != np.asarray(table[column]))[:1].tolist():
            told = {before[row]: draft.stimuli(statuses)[row], now[row]: table[statuses][row]}
            return "stimuli: " + ", ".join(f"{name} ({status})" for name, status in told.items())
    shown = np.flatnonzero(_shown(draft, order)).tolist()
    before, wanted = draft.stimuli(hashes), table[hashes]
    for row in shown:  # one by one: the texts of all would be in memory twice
        if before[row] != wanted[row]:
            return f"stimuli: {now[row]} has changed, and was shown"
    return None
