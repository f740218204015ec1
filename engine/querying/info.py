"""What a store or recording says of itself, from its metadata alone: no array is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError, shortened
from ..layer import UNITS, Layer
from ..store.kinds import RECORDING, STORE
from ..store.places import name_of
from ..store.reading import Store
from ..store.recording import Recorded
from ..store.root import Root, kind_at
from .chunks import criterion_of

# A folder with more files, or one that takes longer to look through, is not looked at to its end.
_MOST_FILES, _MOST_SECONDS = 1_000_000, 5.0


@dataclass(frozen=True)
class StoreInfo:
    """What a store or recording says of itself, whether it has come to its end or not.

    ``attributes`` are those of its root, as they are: none is longer or deeper than a scan's, but a
    stranger may have written any text into them. ``recorded`` has the number of units that are
    recorded of each layer, and is None of a store. ``files`` and ``bytes`` are what its folder
    holds, at least so much where ``all_counted`` is off; None behind a URL.
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
        """Units of all layers."""
        return sum(layer.units for layer in self.layers)

    @property
    def criterion(self) -> str | None:
        """The criterion of the masks, in words; None where none are written."""
        record = self.attributes.get("criterion")
        try:
            return None if record is None else str(criterion_of(record))
        except UserError as error:
            return f"none that can be read: {error}"


def describe_store(path: Path | str) -> StoreInfo:
    """What a store or recording says of itself; only the metadata of its root are read.

    Whether it is true is for :func:`check_store <fusiform.engine.store.check.check_store>` to say.

    Raises
    ------
    UserError : there is none, or it is one that this version does not make
    """
    store = Recorded.open(path) if kind_at(path) is RECORDING else Store.open(path)
    found = info_of(store)
    if isinstance(store.path, Path):
        files, size, all_counted = _size_of(store.path)
        return replace(found, files=files, bytes=size, all_counted=all_counted)
    return found


def info_of(store: Root) -> StoreInfo:
    """What a store or recording that is open says of itself; its files are not looked at."""
    recorded = store.schema.recorded if isinstance(store, Recorded) else None
    return StoreInfo(
        str(store.path),
        store.provenance.get("status") == "complete",
        store.layers,
        store.categories,
        store.folds,
        store.schema.stimuli,
        store.shuffles if isinstance(store, Store) else 0,
        tuple(store.saved) if isinstance(store, Store) else (),
        None if recorded is None else {name: own.units for name, own in recorded.items()},
        store.provenance,
        files=None,
        bytes=None,
        all_counted=True,
    )


def facts(found: StoreInfo, *, whole_paths: bool = True) -> Iterator[tuple[str, str]]:
    """What a store or recording says of itself, name by name, but for what it does not say.

    Without ``whole_paths`` nothing says where on a machine store and stimuli lie.
    """
    shown = str if whole_paths else name_of
    said = found.attributes
    kind = STORE if found.recorded is None else RECORDING
    listed = {name: ", ".join(f"{k} {v}" for k, v in said[name].items())
              for name in ("preprocessing", "versions", "null")
              if isinstance(said.get(name), dict)}  # fmt: skip
    sources = ", ".join(map(shown, str(said.get("stimuli") or "").split(", ")))
    merged = said.get("merged")
    unfinished = f"not complete: the {kind.work} that fills it has not finished"
    told = {
        kind.noun: shown(found.path),
        "status": "complete" if found.complete else unfinished,
        "model": f"{said['model']} ({said['weights']})",
        "weights sha256": str(said.get("weights_sha256") or ""),
        "modules sha256": str(said.get("modules_sha256") or ""),
        "preprocessing": listed.get("preprocessing", ""),
        "precision": str(said.get("precision") or ""),
        "compiled": "yes" if said.get("compiled") else "",
        "units": UNITS[said["units"]] if "units" in said else "",
        "layers": f"{len(found.layers):,}, of {found.units:,} units",
        "recorded": "" if found.recorded is None else _recorded(found.recorded, said, shown),
        "categories": f"{len(found.categories):,}: {shortened(found.categories)}",
        "folds": str(found.folds),
        "stimuli": f"{found.stimuli:,}{sources and ', of ' + sources}",
        "device": str(said.get("device") or ""),
        "batch size": str(said.get("batch_size") or ""),
        "moments": str(said.get("store_dtype") or ""),
        "null": listed.get("null", "") if found.shuffles else "",
        "criterion": found.criterion or "",
        "saved": shortened(found.saved),
        "created": str(said.get("created") or ""),
        "versions": listed.get("versions", ""),
        "merged from": f"{len(merged)} stores" if isinstance(merged, list) else "",
        "fingerprint": str(said.get("fingerprint") or ""),
    }
    yield from ((name, text) for name, text in told.items() if text)
    yield from (("note", note) for note in said.get("notes", ()))


def _recorded(
    units: Mapping[str, int], said: Mapping[str, Any], shown: Callable[[str], str]
) -> str:
    """How many units are recorded, by what they were chosen, and how they are kept."""
    parts = [f"{sum(units.values()):,} units", f"chosen by {shortened(said['choices'])}"]
    if projection := said.get("projection"):
        dim, seed = projection["dim"], projection["seed"]
        parts.append(f"layers of more than {dim:,} projected (seed {seed})")
    if isinstance(source := said.get("source"), dict):
        parts.append(f"as scanned in {shown(str(source.get('store')))}")
    return ", ".join(parts)


def _size_of(folder: Path) -> tuple[int, int, bool]:
    """Files in a folder, their bytes, and whether all were counted; links are not followed."""
    files = size = 0
    end = time.monotonic() + _MOST_SECONDS
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if files + len(waiting) >= _MOST_FILES or time.monotonic() > end:
                        return files, size, False
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:  # not ours to read, or gone in the meantime
            continue
    return files, size, True
