"""Reading what stores and recordings have in common. Never imports torch.

Both have layers, categories, folds, counts, a stimulus table, and their provenance as attributes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from ..daemons import daemons
from ..errors import UserError, nearest
from ..layer import Layer
from ..registry import SHOWN
from ..spec import Design, Network, Stimuli
from ..stimulus_groups import Groups
from ..urls import Url
from ..values import listed
from .arrays import Arrays, Consolidated
from .identity import Stamp, Unchanged, stamp_of
from .location import Location, location_of, refuse_forked, store_for_others
from .metadata import Opened, refusing
from .root import open_root
from .scan_values import design_of, groups_of, network_of, stimuli_of
from .schema import Kind, RootSchema

if TYPE_CHECKING:
    import xarray


T = TypeVar("T")
U = TypeVar("U")


class Unreadable(UserError):
    """A part of a store is missing, or not what was written."""


class Reader:
    """Reads a store or recording; numbers are read on demand.

    Attributes
    ----------
    path : folder, archive or URL
    provenance : attributes of the root
    categories, folds, layers : of the scan
    """

    kind: ClassVar[Kind]
    schema: RootSchema

    @staticmethod
    def _schema_of(attributes: Mapping[str, Any]) -> Any:
        """The schema that the attributes of a root declare."""
        raise NotImplementedError

    def __init__(
        self, path: Location, root: zarr.Group, consolidated: Consolidated | None = None
    ) -> None:
        self.path = path
        self._root = root
        self._unchanged: Unchanged | None = None
        self._describe(consolidated)

    def _describe(self, consolidated: Consolidated | None) -> None:
        """Take over what the root declares.

        Raises
        ------
        UserError : it is not what a scan writes
        """
        self.provenance: dict[str, Any] = dict(self._root.attrs)
        self.schema = self._schema_of(self.provenance)
        self.categories = self.schema.categories
        self.folds = self.schema.folds
        self.layers = self.schema.layers
        self.arrays = Arrays(self.path, self._root.store, self.schema, consolidated)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open for reading; only metadata are read.

        Parameters
        ----------
        path : a folder or archive, or the URL of an object store or web server

        Raises
        ------
        UserError : nothing of this kind and schema version is there, or its root is damaged
        """
        location = location_of(path)
        stamp = None if isinstance(location, Url) else stamp_of(location)
        root, consolidated = open_root(location, cls.kind)
        try:
            found = cls(location, root, consolidated)
            found._watch(stamp)
            return found
        except UserError as error:
            raise UserError(f"{location} is damaged: its root is not whole ({error})") from None

    @classmethod
    def of(cls, given: Path | str | Self) -> Self:
        """Return ``given``, or open the store at this path.

        Raises
        ------
        UserError : it is neither; see also :meth:`open`
        """
        if isinstance(given, str | Path):
            return cls.open(given)
        if not isinstance(given, cls):
            kind, came = cls.kind, type(given).__name__
            raise UserError(f"a {kind.noun} or its path is needed here; got {came}: open one")
        return given

    def refresh(self) -> None:
        """Read the root again, after something was added to the store."""
        stamp = None if isinstance(self.path, Url) else stamp_of(self.path)
        self._root, consolidated = open_root(self.path, self.kind)
        self._describe(consolidated)
        self._watch(stamp)

    def _watch(self, stamp: Stamp | None) -> None:
        """From now on, compare reads from a disk with the root as it is now."""
        if not isinstance(self.path, Url):
            self._unchanged = Unchanged(self.path, stamp, self.provenance)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of stimuli ``[category, fold]``."""
        counts = np.asarray(self._part("count"))
        known = (counts >= 0) & (counts <= self.schema.stimuli)
        if not known.all() or counts.sum() > self.schema.stimuli:
            raise self._unreadable("count", "it holds no numbers of stimuli")
        return counts

    def layer(self, name: str) -> Layer:
        """The layer called ``name``."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = nearest(str(name), (layer.name for layer in self.layers))
        raise UserError(f"{self.path} has no layer {name!r}: {known}")

    def layers_named(self, patterns: str | Sequence[str]) -> list[Layer]:
        """The layers whose names match one of ``patterns`` (globs), in the store's order.

        Raises
        ------
        UserError : a pattern matches no layer
        """
        patterns = listed(patterns)
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise UserError(f"layers are names or globs; got {pattern!r}: '*' is all of them")
            if not any(fnmatchcase(layer.name, pattern) for layer in self.layers):
                self.layer(pattern)  # raises, and names the nearest
        return [
            layer
            for layer in self.layers
            if any(fnmatchcase(layer.name, pattern) for pattern in patterns)
        ]

    @property
    def network(self) -> Network:
        """The network that was shown; a module stands by its class, and must be given again."""
        return network_of(self)

    @property
    def stimuli(self) -> Stimuli:
        """The stimuli, where they are now."""
        return stimuli_of(self)

    @property
    def groups(self) -> Groups | None:
        """The groups of folders that the scan was given; None without any."""
        return groups_of(self)

    @property
    def design(self) -> Design:
        """The design, its layers by name."""
        return design_of(self)

    def stimulus_column(self, column: str) -> NDArray[Any]:
        """A column ``[stimulus]`` of the stimulus table; see ``registry.STIMULUS_COLUMNS``."""
        values = self._part(column)
        known = {"stimulus_category": len(self.categories), "stimulus_fold": self.folds}
        if column not in known or not len(values):
            return values
        if values.min() < -1 or values.max() >= known[column]:
            raise self._unreadable(column, "it names one that does not exist")
        return values

    @property
    def stimuli_place(self) -> Path | None:
        """Where the stimuli lie; None if the root does not say.

        Tried in turn: their full path during the scan; their path as given, seen from the store's
        folder, because both may have been moved together; the same, seen from the working folder.
        """
        named = self.provenance.get("stimuli")
        paths = [Path(path) for path in (self.provenance.get("stimuli_path"), named) if path]
        if named and not isinstance(self.path, Url):
            paths.insert(-1, Path(self.path).resolve().parent / named)
        there = (path for path in paths if path.exists() or _file_of(path).exists())
        return next(there, paths[0] if paths else None)

    @cached_property
    def skipped(self) -> dict[str, int]:
        """Number of stimuli that could not be shown, for every category that has any."""
        gone = self.stimulus_column("stimulus_category")[
            self.stimulus_column("stimulus_status") != SHOWN
        ]
        numbers = np.bincount(gone, minlength=len(self.categories)).tolist()
        return {name: n for name, n in zip(self.categories, numbers, strict=True) if n}

    def tree(self) -> xarray.DataTree:
        """The whole store as a lazy ``xarray.DataTree`` of dask arrays, a node per layer.

        Returns
        -------
        xarray.DataTree
            The root holds the counts and the stimulus table, a node per layer the rest;
            ``docs/reference/store.md`` describes all variables.

        Examples
        --------
        >>> tree = fusiform.open_store("r18.zarr").tree()
        >>> list(tree.children)
        ['layer3.1', 'layer4.1']
        """
        import xarray

        place: Any = store_for_others(self.path, self._unchanged)
        try:
            with self._refusing("all"):
                self.arrays.require_sound()
                tree = self._renamed(xarray.open_datatree(place, engine="zarr", chunks={}))
        except UserError:
            if not (self._unchanged and self._unchanged.is_stale):
                raise
        else:
            if not (self._unchanged and self._unchanged.is_stale):
                return tree
        self._unchanged.require("zarr.json")
        return type(self).open(self.path).tree()  # another program saved something in it

    def _renamed(self, tree: xarray.DataTree) -> xarray.DataTree:
        """A tree with its groups under the names by which users know them."""
        return tree

    def dataset(self, layer: str) -> xarray.Dataset:
        """One layer as a lazy ``xarray.Dataset`` of dask arrays, with named dims and categories."""
        return self.tree()[self.layer(layer).name].to_dataset()

    def _part(
        self,
        key: str,
        selection: tuple[int | slice, ...] = (),
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Read part of an array, into ``out`` if it is given.

        Raises
        ------
        UserError : it is missing or damaged
        """
        stored = self._stored_key(key)
        with self._reading(key, stored):
            return self.arrays.part(stored, selection, out)

    def _opened(self, key: str) -> Opened:
        stored = self._stored_key(key)
        with self._reading(key, stored):
            return self.arrays.opened(stored)

    def _stored_key(self, key: str) -> str:
        """The key under which an array is stored."""
        return key

    @contextmanager
    def _reading(self, key: str, stored: str) -> Iterator[None]:
        """Raise if what was read is damaged, or belongs to a store that has been replaced."""
        try:
            with self._refusing(key):
                yield
        except UserError:
            if self._unchanged:
                self._unchanged.require(stored)
            raise
        if self._unchanged:
            self._unchanged.require(stored)

    def _refusing(self, key: str) -> AbstractContextManager[None]:
        refuse_forked(self.path)
        return refusing(lambda fault: self._unreadable(key, fault))

    def _unreadable(self, key: str, fault: str) -> UserError:
        return Unreadable(
            f"cannot read {key} of {self.path} ({fault}): it is damaged, or out of reach; "
            f"'fusiform check {self.path}' says more"
        )


def require_complete(store: Reader) -> None:
    """Raise unless a store or recording is finished.

    Raises
    ------
    UserError : it is not
    """
    if store.provenance.get("status") != "complete":
        raise UserError(
            f"the {store.kind.work} that fills {store.path} has not finished: the same command "
            "resumes it"
        )


def map_ahead(function: Callable[[T], U], items: Iterable[T], threads: int) -> Iterator[U]:
    """``function`` of every item, in order, computed ahead by a few threads.

    At most ``threads`` results wait to be taken. An abandoned iterator does not wait for its
    threads: it may be collected in zarr's own thread, which readers need.
    """
    pending: deque[Future[U]] = deque()
    with daemons(threads, "ahead") as submit:
        for item in items:
            pending.append(submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _file_of(path: Path) -> Path:
    """The file of an array of stimuli, ``FILE:ARRAY``."""
    return Path(str(path).rpartition(":")[0] or path)
