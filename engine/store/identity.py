"""Whether two results are of the same scan: fingerprints, differences, and replaced stores.

Only a scan with the same fingerprint is resumed; stores are merged where only their stimuli or
layers differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from ..errors import UserError, shortened
from ..registry import SHOWN, apart
from .files.archive import Archive
from .metadata import ROOT_BYTES, Misfit, read_json, refusing

# Stimuli converted to text at a time: the whole list would take 200 bytes for each.
_BATCH = 4096
# Attributes of the root that determine the numbers, beside the stimuli; and their names.
IDENTITY: dict[str, str] = {
    "model": "network",
    "weights_sha256": "weights",
    "modules_sha256": "modules",
    "configuration_sha256": "modules",
    "preprocessing": "preprocessing",
    "precision": "precision of the network",
    "compiled": "compiled network",
    "units": "units",
    "units_sha256": "function of the units",
    "layers": "layers",
    "categories": "categories",
    "folds": "folds",
    "batch_size": "batch size",
    "device_type": "kind of device",
    "store_dtype": "precision of the store",
    "null": "shuffled labels",
    "coordinates": "coordinates of units",
    # Of a recording.
    "recorded": "recorded units",
    "projection": "projection",
}
# Those that identify a network, apart from its answers.
NETWORK = ("model", "weights_sha256", "modules_sha256", "configuration_sha256", "preprocessing",
           "precision", "units", "units_sha256")  # fmt: skip
# Factor on the tolerance of answers between two kinds of device.
_OTHER_DEVICE = 10
# Meaning of a missing attribute of a root, or of its preprocessing.
_DEFAULTS = {"precision": "its own", "compiled": False, "units": "all", "decoder": "pillow"}
# Attributes that identify a run.
_RUN = ("created", "fingerprint")

# Device, inode, time and size of a file: they change when a root is rewritten.
Stamp = tuple[int, int, int, int]


def fingerprint(provenance: Mapping[str, Any], stimuli: Mapping[str, Sequence[Any]]) -> str:
    """SHA-256 of everything that determines a result.

    Parameters
    ----------
    provenance : attributes of a root
    stimuli : columns of the stimulus table; rows that were shown count, and give their order
    """
    identity = {name: provenance[name] for name in IDENTITY if name in provenance}
    digest, opened = hashlib.sha256(), "{"
    for name in sorted([*identity, "stimuli"]):
        digest.update(f"{opened}{_canonical(name)}:".encode())
        if name == "stimuli":
            for part in _shown_rows(stimuli):
                digest.update(part.encode())
        else:
            digest.update(_canonical(identity[name]).encode())
        opened = ","
    digest.update(b"}")
    return digest.hexdigest()


def _shown_rows(stimuli: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Hash, category and fold of every stimulus that was shown, as parts of a JSON list."""
    columns = [stimuli[f"stimulus_{name}"] for name in ("sha256", "category", "fold", "status")]
    rows = zip(*columns, strict=True)
    opened = "["
    while part := list(islice(rows, _BATCH)):
        shown = [[str(sha256), int(k), int(f)] for sha256, k, f, status in part if status == SHOWN]
        if shown:
            yield opened + _canonical(shown)[1:-1]
            opened = ","
    yield "[]" if opened == "[" else "]"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def difference(
    one: Mapping[str, Any], other: Mapping[str, Any], but: Collection[str] = ()
) -> str | None:
    """The first difference between two roots that changes numbers; None without one.

    It ends a sentence: "weights: ... and ...". Attributes in ``but`` are ignored. Answers of layers
    to fixed images are compared where both roots have them.
    """
    for name, shown in IDENTITY.items():
        own, its = (root.get(name, _DEFAULTS.get(name)) for root in (one, other))
        if own == its or name in but:
            continue
        if name == "configuration_sha256" and None in (own, its):
            continue
        if name == "weights_sha256":
            own, its = (f"{root['weights']} ({str(root.get(name))[:12]})" for root in (one, other))
        if name == "units_sha256":
            own, its = (
                f"{root.get('units')} ({str(root.get(name))[:12]})" for root in (one, other)
            )
        if name in ("modules_sha256", "configuration_sha256"):
            own, its = _differing_module(one, other, str(own)[:12], str(its)[:12])
        return f"{shown}: {_difference(name, own, its)}"
    return _differing_answer(one, other)


def not_compared(roots: Mapping[str, Mapping[str, Any]]) -> str | None:
    """A note if networks could be compared by weights and module types alone; else None.

    ``roots`` maps names to attributes of roots.
    """
    without = [name for name, root in roots.items() if "configuration_sha256" not in root]
    if not without:
        return None
    return (
        f"an earlier version made {shortened(without, 3)} and kept neither how modules were set up "
        "nor what they answer: networks were compared by weights and types of modules alone"
    )


def _differing_module(
    one: Mapping[str, Any], other: Mapping[str, Any], *hashes: str
) -> tuple[str, str]:
    """The first differing module in both networks; the hashes where modules are not listed."""
    lists = (list(root.get("modules", ())) for root in (one, other))
    pairs = zip_longest(*lists, fillvalue="none")
    return next(((a, b) for a, b in pairs if a != b), (hashes[0], hashes[1]))


def _differing_answer(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first layer with differing answers to fixed images, and their distance."""
    kinds = {root.get("device_type") for root in (one, other)}
    for name, own in one.get("answers", {}).items():
        its = other.get("answers", {}).get(name)
        if its is None:
            continue
        distance = apart(own, its)
        if distance > max(own[-1], its[-1]) * (1 if len(kinds) == 1 else _OTHER_DEVICE):
            return (
                f"answers: those of {name} to the same images are {distance:.2g} of their norm "
                "apart"
            )
    return None


def _difference(name: str, own: Any, its: Any) -> str:
    if name == "layers":
        names = [{record["name"] for record in records} for records in (own, its)]
        alone = sorted(names[0] ^ names[1])
        return f"only one has {shortened(alone)}" if alone else "some have other shapes"
    if name in ("recorded", "coordinates"):
        own, its = own or {}, its or {}
        differing = [key for key in {**own, **its} if own.get(key) != its.get(key)]
        return f"others of {shortened(differing)}"
    if isinstance(own, Mapping) and isinstance(its, Mapping):
        own, its = (
            {key: one.get(key, _DEFAULTS.get(key)) for key in {**own, **its}} for one in (own, its)
        )
        keys = [key for key in own if own[key] != its[key]]
        own, its = ({key: one[key] for key in keys} for one in (own, its))
    return f"{own} and {its}"


def stamp_of(place: Path | Archive) -> Stamp | None:
    """A stamp that changes when a root's metadata, or an archive, are replaced; None without."""
    try:
        found = os.stat(place if isinstance(place, Archive) else place / "zarr.json")  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


@dataclass
class Unchanged:
    """Guards readers of a store on a disk against its replacement.

    A read counts only if the root still names what was read: files are replaced only while the root
    does not name them.

    Attributes
    ----------
    place : the store, a folder or archive
    stamp, attributes : of its root, when the store was opened
    """

    place: Path | Archive
    stamp: Stamp | None
    attributes: Mapping[str, Any]
    _latest: tuple[Stamp | None, Mapping[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._latest = self.stamp, self.attributes

    @property
    def is_stale(self) -> bool:
        """Whether the root's metadata were replaced since."""
        return stamp_of(self.place) != self.stamp

    def require(self, key: str) -> None:
        """Raise if the file or array just read at ``key`` belongs to another store by now.

        Raises
        ------
        UserError : another store stands at the path, or the contrast was saved anew or removed
        """
        now, attributes = stamp_of(self.place), self.attributes
        if now == self.stamp:
            return
        if isinstance(self.place, Archive):
            raise UserError(f"{self.place} was replaced while it was read: open it again")
        if self._latest[0] != now:
            self._latest = now, self._read()
        latest = self._latest[1]
        if any(latest.get(name) != attributes.get(name) for name in _RUN):
            raise UserError(f"{self.place} was replaced while it was read: open it again")
        within = key.split("/")[1:-1]
        for name, record in attributes.get("saved", {}).items():
            own = within[:1] == [record.get("group", name)]
            if own and latest.get("saved", {}).get(name) != record:
                raise UserError(
                    f"{name} of {self.place} was saved anew while it was read: open it again"
                )

    def _read(self) -> Mapping[str, Any]:
        def changed(said: str) -> UserError:
            return UserError(f"{self.place} was changed while it was read ({said}): open it again")

        with refusing(changed):
            document = read_json(
                LocalStore(Path(self.place), read_only=True), "zarr.json", ROOT_BYTES
            )
            attributes = document.get("attributes")
            saved = attributes.get("saved", {}) if isinstance(attributes, dict) else None
            if not isinstance(attributes, dict) or not isinstance(saved, dict):
                raise Misfit("its root is not whole")
        return attributes
