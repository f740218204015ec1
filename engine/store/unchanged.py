"""Whether a store that was opened is still the one at its path, or was replaced since."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from ..errors import UserError
from .metadata import ROOT_BYTES, Misfit, read_json, refusing

# Device, inode, time and size of a file: a root that is written anew has another.
Stamp = tuple[int, int, int, int]
# Attributes that tell one scan from another.
_IDENTITY = ("created", "fingerprint")


def stamp_of(folder: Path) -> Stamp | None:
    """A stamp that changes when the root's metadata are replaced; None if there are none."""
    try:
        found = os.stat(folder / "zarr.json")  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


@dataclass
class Unchanged:
    """A store in ``folder`` as it was opened, with the root's ``attributes``.

    What is read counts only if the root names it afterwards, too: files are replaced only when the
    root does not name them.
    """

    folder: Path
    stamp: Stamp | None
    attributes: Mapping[str, Any]
    _latest: tuple[Stamp | None, Mapping[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._latest = self.stamp, self.attributes

    @property
    def is_stale(self) -> bool:
        """Whether the root's metadata were replaced since."""
        return stamp_of(self.folder) != self.stamp

    def require(self, key: str) -> None:
        """Refuse what was read of a file or array ``key`` if it is another's by now.

        Raises
        ------
        UserError : another store stands at the path, or the contrast was saved anew or removed
        """
        now, attributes = stamp_of(self.folder), self.attributes
        if now == self.stamp:
            return
        if self._latest[0] != now:
            self._latest = now, self._read()
        latest = self._latest[1]
        if any(latest.get(name) != attributes.get(name) for name in _IDENTITY):
            raise UserError(f"{self.folder} was replaced while it was read: open it again")
        within = key.split("/")[1:-1]
        for name, record in attributes.get("saved", {}).items():
            own = within[:1] == [record.get("group", name)]
            if own and latest.get("saved", {}).get(name) != record:
                raise UserError(
                    f"{name} of {self.folder} was saved anew while it was read: open it again"
                )

    def _read(self) -> Mapping[str, Any]:
        def gone(said: str) -> UserError:
            return UserError(f"{self.folder} was changed while it was read ({said}): open it again")

        with refusing(gone):
            document = read_json(LocalStore(self.folder, read_only=True), "zarr.json", ROOT_BYTES)
            attributes = document.get("attributes")
            if not isinstance(attributes, dict) or not isinstance(
                attributes.get("saved", {}), dict
            ):
                raise Misfit("its root is not whole")
        return attributes
