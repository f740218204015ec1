"""Description of a store or recording from its metadata; no array is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError, shortened
from ..layer import Layer, describe_units
from ..stimulus_groups import Groups
from ..store.files.archive import Archive
from ..store.location import name_of
from ..store.reader import Reader
from ..store.recording_reader import RecordingReader
from ..store.root import kind_at
from ..store.schema import RECORDING, STORE
from ..store.store_reader import StoreReader
from .chunks import read_criterion

# Limits for counting files: beyond them, the count is a lower bound.
_MOST_FILES, _MOST_SECONDS = 1_000_000, 5.0


@dataclass(frozen=True)
class StoreInfo:
    """Result of :func:`fusiform.info`: a description of a store or recording, finished or not.

    Attributes
    ----------
    path : str
        Its path.
    complete : bool
        Whether the scan or recording has finished.
    layers : tuple of Layer
        The layers.
    categories : tuple of str
        The categories.
    folds : int
        Number of folds.
    stimuli : int
        Number of stimuli.
    shuffles : int
        Number of label shuffles; 0 without a null.
    saved : tuple of str
        Names of saved contrasts.
    recorded : mapping of str to int, or None
        Number of recorded units by layer; None for a store.
    attributes : mapping
        Attributes of the root, bounded in size but with any text if the store is untrusted.
    files : int or None
        Number of files in its folder, a lower bound unless ``all_counted``; None for a URL.
    bytes : int or None
        Their size in bytes, a lower bound unless ``all_counted``; None for a URL.
    all_counted : bool
        Whether all files were counted.
    units : int
        Number of units of all layers.
    criterion : str or None
        The criterion of the masks, in words; None if there are no masks.
    """

    path: str
    complete: bool
    layers: tuple[Layer, ...]
    categories: tuple[str, ...]
    folds: int
    stimuli: int
    shuffles: int
    saved: tuple[str, ...]
    recorded: Mapping[str, int] | None
    attributes: Mapping[str, Any]
    files: int | None
    bytes: int | None
    all_counted: bool

    @property
    def units(self) -> int:
        """Number of units of all layers."""
        return sum(layer.units for layer in self.layers)

    @property
    def criterion(self) -> str | None:
        """The criterion of the masks, in words; None if there are no masks."""
        record = self.attributes.get("criterion")
        try:
            return None if record is None else str(read_criterion(record))
        except UserError as error:
            return f"invalid: {error}"


def info(path: Path | str) -> StoreInfo:
    """Describe a store or recording; only the metadata of its root is read.

    The content is not verified, see :func:`fusiform.check`.

    Parameters
    ----------
    path : str or path
        A folder, archive or URL.

    Returns
    -------
    StoreInfo
        What it contains, finished or not.

    Raises
    ------
    UserError
        It does not exist, or this version cannot read it.

    Examples
    --------
    >>> found = fusiform.info("r18.zarr")
    >>> found.complete, found.units, found.stimuli, found.folds
    (True, 6144, 24, 2)
    """
    store = RecordingReader.open(path) if kind_at(path) is RECORDING else StoreReader.open(path)
    found = info_of(store)
    if isinstance(store.path, Archive):
        files = len(store.path.files.members)
        return replace(found, files=files, bytes=os.path.getsize(store.path))  # noqa: PTH202
    if isinstance(store.path, Path):
        files, size, all_counted = _size_of(store.path)
        return replace(found, files=files, bytes=size, all_counted=all_counted)
    return found


def info_of(store: Reader) -> StoreInfo:
    """Describe an open store or recording, without its files."""
    recorded = store.schema.recorded if isinstance(store, RecordingReader) else None
    return StoreInfo(
        str(store.path),
        store.provenance.get("status") == "complete",
        store.layers,
        store.categories,
        store.folds,
        store.schema.stimuli,
        store.shuffles if isinstance(store, StoreReader) else 0,
        tuple(store.saved) if isinstance(store, StoreReader) else (),
        None if recorded is None else {name: own.units for name, own in recorded.items()},
        store.provenance,
        files=None,
        bytes=None,
        all_counted=True,
    )


def facts(found: StoreInfo, *, whole_paths: bool = True) -> Iterator[tuple[str, str]]:
    """Facts about a store or recording by name; those that are missing are left out.

    Without ``whole_paths``, the folders of store and stimuli are not revealed.
    """
    shown = str if whole_paths else name_of
    attributes = found.attributes
    kind = STORE if found.recorded is None else RECORDING
    listed = {name: ", ".join(f"{k} {v}" for k, v in attributes[name].items())
              for name in ("preprocessing", "versions", "null")
              if isinstance(attributes.get(name), dict)}  # fmt: skip
    sources = ", ".join(map(shown, str(attributes.get("stimuli") or "").split(", ")))
    merged = attributes.get("merged")
    unfinished = f"not complete: the {kind.work} that fills it has not finished"
    texts = {
        kind.noun: shown(found.path),
        "status": "complete" if found.complete else unfinished,
        "model": f"{attributes['model']} ({attributes['weights']})",
        "weights sha256": str(attributes.get("weights_sha256") or ""),
        "modules sha256": str(attributes.get("modules_sha256") or ""),
        "preprocessing": listed.get("preprocessing", ""),
        "precision": str(attributes.get("precision") or ""),
        "compiled": "yes" if attributes.get("compiled") else "",
        "units": describe_units(attributes["units"]) if "units" in attributes else "",
        "layers": f"{len(found.layers):,}, of {found.units:,} units",
        "recorded": "" if found.recorded is None else _recorded(found.recorded, attributes, shown),
        "categories": f"{len(found.categories):,}: {shortened(found.categories)}",
        "groups": str(Groups.from_record(attributes.get("groups")) or ""),
        "folds": str(found.folds),
        "stimuli": f"{found.stimuli:,}{sources and ', of ' + sources}",
        "device": str(attributes.get("device") or ""),
        "batch size": str(attributes.get("batch_size") or ""),
        "moments": str(attributes.get("store_dtype") or ""),
        "null": listed.get("null", "") if found.shuffles else "",
        "criterion": found.criterion or "",
        "saved": shortened(found.saved),
        "created": str(attributes.get("created") or ""),
        "versions": listed.get("versions", ""),
        "merged from": f"{len(merged)} stores" if isinstance(merged, list) else "",
        "fingerprint": str(attributes.get("fingerprint") or ""),
    }
    yield from ((name, text) for name, text in texts.items() if text)
    yield from (("note", note) for note in attributes.get("notes", ()))


def _recorded(
    units: Mapping[str, int], attributes: Mapping[str, Any], shown: Callable[[str], str]
) -> str:
    """The number of recorded units, how they were chosen, and their projection."""
    parts = [f"{sum(units.values()):,} units", f"chosen by {shortened(attributes['choices'])}"]
    if projection := attributes.get("projection"):
        dim, seed = projection["dim"], projection["seed"]
        parts.append(f"layers of more than {dim:,} projected (seed {seed})")
    if isinstance(source := attributes.get("source"), dict):
        parts.append(f"as scanned in {shown(str(source.get('store')))}")
    return ", ".join(parts)


def _size_of(folder: Path) -> tuple[int, int, bool]:
    """Number of files in a folder, their bytes, and whether all were counted; skips links."""
    files = size = 0
    end = time.monotonic() + _MOST_SECONDS
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if files + len(pending) >= _MOST_FILES or time.monotonic() > end:
                        return files, size, False
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:  # unreadable, or removed in the meantime
            continue
    return files, size, True
