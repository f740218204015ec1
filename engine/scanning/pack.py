"""Packed stimulus sets: decode all images once, for many scans."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..beside import publish, resolve_output, scratch, tidy
from ..decoding.ahead import ImageSource, decode_ahead, default_workers
from ..disk import flush_descriptor, flush_path, note_limitations
from ..errors import UserError, draft_removed, explain_disk_errors
from ..moments.plan import Plan, make_plan
from ..networks.backbones import overridden, preprocessing_of
from ..preprocessing import Preprocessing
from ..spec import Network, Resources, Stimuli
from ..stimuli.catalogue import Catalogue
from ..stimuli.packed.layout import (
    METADATA,
    SCHEMA,
    VERSION,
    checksum_of,
    column_path,
    encoded,
    metadata,
    per_shard,
    prepared,
    shard_index,
    shard_path,
    with_checksum,
)
from ..store.attributes import limit_notes
from ..store.location import missing_file
from .bar import listening
from .interrupt import Stop, asked_to_stop
from .loop import note_invisible
from .memory import peak_memory
from .progress import Listener, Progress
from .stimulus_set import listed_stimuli, read_problems

# Pictures decoded together.
_BATCH = 32
# Characters per note: a set with more than a MiB of metadata cannot be read.
_LONGEST_NOTE = 500


def pack_stimuli(
    stimuli: Stimuli | str | Path,
    output: str | Path,
    *,
    network: Network | str | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    decode_workers: int | None = None,
    progress: bool | Listener = True,
) -> int:
    """Decode, resize and crop every stimulus once. A scan of the packed set gives the same bits.

    Pictures are written to a zarr array ``pictures [stimulus, y, x, rgb]`` of uint8, three bytes
    per pixel, beside the stimulus table. ``stimulus_sha256`` has the hashes of the original files,
    so a scan has the same fingerprint as one of the files. Any network with the same image size,
    cropping and resizing can use the set. A few dozen pictures are in memory at a time.

    Parameters
    ----------
    stimuli : Stimuli, str or path
        The stimuli, or the path of their source alone.
    output : str or path
        The folder to create, usually ``NAME.zarr``.
    network : Network or str, optional
        Network whose preprocessing is used; by default that of :class:`fusiform.Preprocessing`.
    preprocessing : Preprocessing or dict, optional
        Replaces it, as a whole or by single values (``{"crop": 288}``).
    decode_workers : int, optional
        Decode threads; by default one per core, at most 8.
    progress : bool or Listener, default True
        As in :func:`fusiform.scan`.

    Returns
    -------
    int
        Number of packed stimuli.

    Raises
    ------
    UserError
        The request cannot be carried out; nothing is left behind.
    KeyboardInterrupt
        At SIGINT or SIGTERM; nothing is left behind.

    Examples
    --------
    >>> own = {"resize": 64, "crop": 64}
    >>> fusiform.pack_stimuli("stimuli", "packed.zarr", preprocessing=own)
    24
    """
    final = _new_folder(output)
    workers = Resources(decode_workers=decode_workers).decode_workers or default_workers()
    with listening(progress) as listener:
        choose = partial(_preprocessing, network, preprocessing)
        return _pack_into(Stimuli.of(stimuli), final, choose, workers, listener)


def _pack_into(
    stimuli: Stimuli,
    final: Path,
    choose: Callable[[], Preprocessing],
    workers: int,
    listener: Listener,
) -> int:
    """Pack the stimuli into the folder ``final``; return their number."""
    catalogue = listed_stimuli(stimuli, listener).catalogue
    if catalogue.pictures:
        raise UserError(
            f"packing takes image files; {stimuli.source} is a packed set: name the files"
        )
    chosen = choose()
    listener.note(f"preprocessing: {chosen.geometry}")
    skipped = read_problems(stimuli, catalogue, listener)
    plan = make_plan(
        catalogue.labels, catalogue.categories, folds=1, batch_size=_BATCH, left_out=skipped
    )
    source = ImageSource(catalogue, chosen, workers, skip=stimuli.on_error == "skip")
    with (
        note_limitations(listener.note, final),
        explain_disk_errors(final),
        asked_to_stop() as stop,
        scratch(final) as new,
        explain_disk_errors(final, new),
    ):
        packed = _pack(source, plan, new, listener, stop)
        notes = [*catalogue.notes, *(_left_out(catalogue, i) for i in skipped), *packed.notes]
        _write_table(new, catalogue, packed.kept, chosen, str(stimuli.source), notes)
        _refuse_existing(final)
        publish(new, final)
    return len(packed.kept)


def _preprocessing(
    network: Network | str | None, preprocessing: Preprocessing | Mapping[str, Any] | None
) -> Preprocessing:
    """How pictures are packed."""
    if network is None:
        chosen = overridden(Preprocessing(), Network("", preprocessing=preprocessing).preprocessing)
    else:
        network = Network.of(network)
        given = preprocessing or network.preprocessing
        chosen = preprocessing_of(replace(network, preprocessing=given))
    if chosen.decoder != "pillow":
        raise UserError(
            f"pictures are packed as Pillow decodes them; got {chosen.decoder}: leave out `decoder`"
        )
    return chosen


class _Packed(NamedTuple):
    """Stimuli that were packed, and notes on those that were not."""

    kept: NDArray[np.int64]
    notes: list[str]


def _pack(source: ImageSource, plan: Plan, new: Path, listener: Listener, stop: Stop) -> _Packed:
    """Write the pictures of all stimuli that can be decoded."""
    catalogue, started = source.catalogue, time.perf_counter()
    kept, notes, done = list[NDArray[np.int64]](), list[str](), 0
    with Shards(new, source.preprocessing.crop) as shards:
        for decoded in decode_ahead(
            source,
            plan,
            look=stop.look,
            invisible=lambda s: note_invisible(catalogue.path(s), listener),
        ):
            fit = np.ones(len(decoded.pixels), bool)
            for row, reason in decoded.failed.items():
                fit[row] = False
                stimulus = int(decoded.batch.stimuli[row])
                notes.append(_left_out(catalogue, stimulus, reason))
                listener.note(f"skipped: {catalogue.path(stimulus)} {reason}")
            shards.add(np.asarray(decoded.pixels)[fit])
            kept.append(decoded.batch.stimuli[fit])
            done += len(fit)
            seconds = time.perf_counter() - started
            listener.progress(Progress("pack", done, len(plan.order), seconds, peak_memory()))
            stop.look()
    return _Packed(np.concatenate(kept), notes)


def _left_out(catalogue: Catalogue, stimulus: int, reason: str = "") -> str:
    reason = reason or catalogue.contents.problems[stimulus]
    return f"left out when it was packed: {catalogue.shown_names[stimulus]} {reason}"


class Shards:
    """Shard files of pictures ``[side, side, 3]``, written one after the other."""

    def __init__(self, folder: Path, side: int) -> None:
        self._folder, self._side = folder, side
        self._full = per_shard(side)
        self._file: BinaryIO | None = None
        self.pictures = 0

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file:
            if kind is None:
                self._end()
            else:
                self._file.close()

    def add(self, pictures: Iterable[NDArray[np.uint8]]) -> None:
        """Append pictures."""
        for picture in pictures:
            if self._file is None:
                path = shard_path(self._folder, self.pictures // self._full)
                path.parent.mkdir(parents=True)
                self._file = path.open("wb")
            content = picture.tobytes()
            self._file.write(content)
            self._file.write(checksum_of(content))
            self.pictures += 1
            if self.pictures % self._full == 0:
                self._end()

    def _end(self) -> None:
        """Write the index, and sync the file to disk."""
        assert self._file is not None
        self._file.write(shard_index(self._side, self.pictures))
        _close(self._file)
        self._file = None


def _write_table(
    folder: Path,
    catalogue: Catalogue,
    kept: NDArray[np.int64],
    preprocessing: Preprocessing,
    source: str,
    notes: Sequence[str],
) -> None:
    """Write the columns, then the metadata, which make the folder a packed set."""
    labels, names = catalogue.labels[kept], catalogue.shown_names
    for category in np.flatnonzero(np.bincount(labels, minlength=len(catalogue.categories)) == 0):
        raise UserError(
            f"a category needs images; none of {catalogue.categories[category]} can be decoded: "
            "restore them, or leave it out with `groups`"
        )
    columns = {
        "category": encoded(catalogue.categories),
        "stimulus_path": encoded(names.take(kept)),
        "stimulus_category": with_checksum(labels.astype("<i4").tobytes()),
        "stimulus_sha256": encoded([catalogue.contents.sha256(i) for i in kept.tolist()]),
    }
    for column, content in columns.items():
        _write(column_path(folder, column), content)
    arrays = metadata(len(kept), len(catalogue.categories), preprocessing.crop)
    for name, document in arrays.items():
        _write(folder / name / METADATA, _json(document))
        if missing := missing_file(folder / name):
            raise UserError(draft_removed(folder, f"{name}/{missing}"))
    for below in (path for path in folder.rglob("*") if path.is_dir()):
        flush_path(below)
    attributes = {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "preprocessing": prepared(preprocessing),
        "stimuli": source,
        "notes": limit_notes([note[:_LONGEST_NOTE] for note in notes]),
        "versions": {name: version(name) for name in ("fusiform", "pillow")},
    }
    gathered = {"kind": "inline", "must_understand": False, "metadata": arrays}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    _write(folder / METADATA, _json({**group, "consolidated_metadata": gathered}))
    flush_path(folder)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()


def _write(path: Path, content: bytes) -> None:
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
    file = path.open("wb")
    file.write(content)
    _close(file)


def _close(file: BinaryIO) -> None:
    """Sync a file to disk and close it."""
    with file:
        file.flush()
        flush_descriptor(file.fileno(), Path(file.name))


def _new_folder(output: str | Path) -> Path:
    """Resolved path of the folder to create."""
    if "://" in str(output):
        raise UserError(f"a packed set is a folder; got {output}: pack into a folder and copy it")
    final = Path(output)
    tidy(resolve_output(final))
    _refuse_existing(final)
    if not final.resolve().parent.is_dir():
        raise UserError(f"the output's folder must exist; {final.parent} does not: create it")
    return resolve_output(final)


def _refuse_existing(final: Path) -> None:
    if final.exists() or final.is_symlink():
        raise UserError(
            f"packing never overwrites; {final} exists: choose another output, or remove it "
            "yourself"
        )
