"""What the root of a store and that of a recording hold alike, read part by part.

Layers, categories, the stimulus table and how many are in each category and fold, and the
provenance as attributes. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import StorePath

from ..beside import draft_place, resolved, waiting
from ..errors import UserError, nearest
from ..layer import Layer
from ..values import listed
from ..variables import SHOWN
from .arrays import Arrays, Gathered
from .kinds import RECORDING, STORE, Kind
from .metadata import GROUP_KEYS, ROOT_BYTES, Misfit, Opened, gathered_in, read_json, refusing
from .places import Place, PlainFiles, exists, place_of, refuse_forked, zarr_store
from .schema import RootSchema
from .unchanged import Stamp, Unchanged, stamp_of

if TYPE_CHECKING:
    import xarray

# Columns of the stimulus table that point at something.
_INDICES = ("stimulus_category", "stimulus_fold")


class Unreadable(UserError):
    """A part of a store is missing, or not what was written."""


class Root:
    """What a scan or a recording has left. Numbers are read when they are asked for.

    ``path`` is its folder or URL; ``categories``, ``folds``, ``counts [category, fold]`` and
    ``layers`` describe it, ``provenance`` says how it came about.
    """

    kind: ClassVar[Kind]
    schema: RootSchema

    @staticmethod
    def _schema_of(attributes: Mapping[str, Any]) -> Any:
        """What the attributes of a root say that lies below it."""
        raise NotImplementedError

    def __init__(self, path: Place, root: zarr.Group, gathered: Gathered | None = None) -> None:
        self.path = path
        self._root = root
        self._unchanged: Unchanged | None = None
        self._describe(gathered)

    def _describe(self, gathered: Gathered | None) -> None:
        """Take over what the root says; where it has gathered no metadata, arrays have their own.

        Raises
        ------
        UserError : it is not what a scan writes
        """
        self.provenance: dict[str, Any] = dict(self._root.attrs)
        self.schema = self._schema_of(self.provenance)
        self.categories = self.schema.categories
        self.folds = self.schema.folds
        self.layers = self.schema.layers
        self.arrays = Arrays(self.path, self._root.store, self.schema, gathered)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a result for reading; nothing but metadata is read.

        Parameters
        ----------
        path : a folder, or the URL of an object store or web server

        Raises
        ------
        UserError : ``path`` is no store, one of another schema version, or one that no scan made
        """
        place = place_of(path)
        stamp = stamp_of(place) if isinstance(place, Path) else None
        root, gathered = open_root(place, cls.kind)
        try:
            found = cls(place, root, gathered)
            found._watch(stamp)
            return found
        except UserError as error:
            raise UserError(
                f"{place} is damaged: what its root says of itself is not whole ({error})"
            ) from None

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
            kind, said = cls.kind, type(given).__name__
            raise UserError(f"a {kind.noun} or its path is needed here; got {said}: open one")
        return given

    def refresh(self) -> None:
        """Read again what the store says of itself, after something was added to it."""
        stamp = stamp_of(self.path) if isinstance(self.path, Path) else None
        self._root, gathered = open_root(self.path, self.kind)
        self._describe(gathered)
        self._watch(stamp)

    def _watch(self, stamp: Stamp | None) -> None:
        """Have whatever is read from a folder compared with what the root said when it was read."""
        if isinstance(self.path, Path):
            self._unchanged = Unchanged(self.path, stamp, self.provenance)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of stimuli ``[category, fold]``."""
        counts = np.asarray(self._part("count"))
        known = (counts >= 0) & (counts <= self.schema.stimuli)
        if not known.all() or counts.sum() > self.schema.stimuli:
            raise self._unreadable("count", "these are no numbers of stimuli")
        return counts

    def layer(self, name: str) -> Layer:
        """The layer called ``name``."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = nearest(name, (layer.name for layer in self.layers))
        raise UserError(f"{self.path} has no layer {name!r}: {known}")

    def layers_named(self, patterns: str | Sequence[str]) -> list[Layer]:
        """The layers with names that match one of ``patterns`` (globs), in the store's order.

        Raises
        ------
        UserError : a pattern matches none
        """
        patterns = listed(patterns)
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise UserError(f"layers are names or globs; got {pattern!r}: '*' is all of them")
            if not any(fnmatchcase(layer.name, pattern) for layer in self.layers):
                self.layer(pattern)  # says which are nearest
        return [
            layer
            for layer in self.layers
            if any(fnmatchcase(layer.name, pattern) for pattern in patterns)
        ]

    def stimuli(self, column: str) -> NDArray[Any]:
        """A column ``[stimulus]`` of the stimulus table; see ``variables.STIMULUS_COLUMNS``."""
        values = self._part(column)
        if column in _INDICES and len(values):
            known = len(self.categories) if column == "stimulus_category" else self.folds
            if values.min() < -1 or values.max() >= known:
                raise self._unreadable(column, "it names one that is none")
        return values

    @property
    def stimuli_place(self) -> Path | None:
        """Where its stimuli lie; None if it is not said.

        Where they lay when they were shown; if nothing is there, as they were named, seen from the
        folder that the store is in, with which they may have been moved, or from the working one.
        """
        named = self.provenance.get("stimuli")
        places = [Path(place) for place in (self.provenance.get("stimuli_path"), named) if place]
        if named and isinstance(self.path, Path):
            places.insert(-1, self.path.resolve().parent / named)
        return next((place for place in places if place.exists()), places[0] if places else None)

    @cached_property
    def skipped(self) -> dict[str, int]:
        """How many stimuli of a category could not be shown, by its name; those with none aside."""
        gone = self.stimuli("stimulus_category")[self.stimuli("stimulus_status") != SHOWN]
        numbers = np.bincount(gone, minlength=len(self.categories)).tolist()
        return {name: n for name, n in zip(self.categories, numbers, strict=True) if n}

    def tree(self) -> xarray.DataTree:
        """The whole store as a lazy ``xarray.DataTree`` of dask arrays, a node per layer."""
        import xarray

        place: Any = (
            PlainFiles(self.path, unchanged=self._unchanged)
            if isinstance(self.path, Path)
            else zarr_store(self.path)
        )
        try:
            with self._refusing("all"):
                self.arrays.require_sound()
                tree = self._as_asked(xarray.open_datatree(place, engine="zarr", chunks={}))
        except UserError:
            if not (self._unchanged and self._unchanged.is_stale):
                raise
        else:
            if not (self._unchanged and self._unchanged.is_stale):
                return tree
        self._unchanged.require("zarr.json")
        return type(self).open(self.path).tree()  # others have saved something in it

    def _as_asked(self, tree: xarray.DataTree) -> xarray.DataTree:
        """The groups of a tree under the names by which they are asked for."""
        return tree

    def dataset(self, layer: str) -> xarray.Dataset:
        """One layer as a lazy ``xarray.Dataset`` of dask arrays, with named dims and categories."""
        return self.tree()[self.layer(layer).name].to_dataset()

    def _part(self, key: str, selection: tuple[int | slice, ...] = ()) -> NDArray[Any]:
        """Part of an array; whatever else than its numbers comes is damage.

        Raises
        ------
        UserError : it is missing, is not what the schema says, or not what was written
        """
        place = self._placed(key)
        with self._reading(key, place):
            return self.arrays.part(place, selection)

    def _opened(self, key: str) -> Opened:
        place = self._placed(key)
        with self._reading(key, place):
            return self.arrays.opened(place)

    def _placed(self, key: str) -> str:
        """Where an array lies that is asked for by a name."""
        return key

    @contextmanager
    def _reading(self, key: str, place: str) -> Iterator[None]:
        """Refuse what is no part of a store, or of one that is another by now."""
        try:
            with self._refusing(key):
                yield
        except UserError:
            if self._unchanged:
                self._unchanged.require(place)
            raise
        if self._unchanged:
            self._unchanged.require(place)

    def _refusing(self, key: str) -> AbstractContextManager[None]:
        refuse_forked(self.path)
        return refusing(lambda said: self._unreadable(key, said))

    def _unreadable(self, key: str, said: str) -> UserError:
        return Unreadable(
            f"cannot read {key} of {self.path} ({said}): it is damaged, or out of reach; "
            f"'fusiform check {self.path}' says more"
        )


def open_root(place: Place, kind: Kind = STORE) -> tuple[zarr.Group, Gathered | None]:
    """The root of a store or recording, and the metadata that it has gathered, if it has.

    Raises
    ------
    UserError : there is none
    """
    noun, command = kind.noun, kind.command
    if not exists(place):
        if isinstance(place, Path):
            _refuse_unfinished(place, kind)
        raise UserError(f"no {noun} at {place}: make one with 'fusiform {command} ... -o {place}'")

    def none_of_ours(said: str) -> UserError:
        return UserError(
            f"{place} is not a zarr v3 store ({said}): name one that fusiform {command} made"
        )

    store = zarr_store(place)
    with refusing(none_of_ours):
        try:
            document = read_json(store, "zarr.json", ROOT_BYTES)
        except FileNotFoundError:
            raise Misfit("it has no zarr.json") from None
        attributes = document.get("attributes", {})
        if (document.get("zarr_format"), document.get("node_type")) != (3, "group"):
            raise Misfit("its zarr.json is not that of a group")
        if not isinstance(attributes, dict) or not document.keys() <= GROUP_KEYS:
            raise Misfit("its zarr.json has fields that no scan writes")
        gathered = gathered_in(document)
    metadata = {"zarr_format": 3, "attributes": attributes}
    root = zarr.Group(zarr.AsyncGroup.from_dict(StorePath(store), metadata))
    refuse_schema(place, root, kind)
    return root, gathered


def _refuse_unfinished(place: Path, kind: Kind) -> None:
    """Say what lies on the way to a store that is not there yet."""
    final = resolved(place)
    draft, old = waiting(final)
    if old:
        raise UserError(
            f"no {kind.noun} at {place}: it was being replaced, and is kept in {old}: the command "
            "that makes it anew puts it back first"
        )
    unfinished = draft or draft_place(final)
    if unfinished.exists():
        raise UserError(
            f"no {kind.noun} at {place} yet, but an unfinished {kind.work} in {unfinished}: the "
            f"same command goes on with it; 'fusiform check {place}' says how far it is"
        )


def kind_at(path: Path | str) -> Kind:
    """What lies somewhere, by what its root says: a recording, or what is taken for a store."""
    try:
        with refusing(Misfit):
            document = read_json(zarr_store(place_of(path)), "zarr.json", ROOT_BYTES)
    except (Misfit, UserError):  # said when it is opened
        return STORE
    attributes = document.get("attributes")
    schema = attributes.get("schema") if isinstance(attributes, dict) else None
    return RECORDING if schema == RECORDING.schema else STORE


def refuse_schema(place: Place, root: zarr.Group, kind: Kind = STORE) -> None:
    """Refuse what is not of this kind and its schema.

    Raises
    ------
    UserError : it is another program's, of another kind, or of another schema version
    """
    schema, version = root.attrs.get("schema"), root.attrs.get("schema_version")
    for other in (STORE, RECORDING):
        if schema == other.schema != kind.schema:
            raise UserError(
                f"a {kind.noun} is what fusiform {kind.command} makes; {place} is a {other.noun}, "
                f"of fusiform {other.command}: name a {kind.noun}"
            )
    if schema != kind.schema:
        raise UserError(
            f"{place} is a zarr store, but not of fusiform: name one from fusiform {kind.command}"
        )
    if version != kind.version:
        raise UserError(
            f"this fusiform reads {kind.noun}s of schema {kind.version}; {place} has {version}: "
            f"{kind.command} again, or install the version that made it"
        )


def require_complete(store: Root) -> None:
    """Refuse what was not filled to its end.

    Raises
    ------
    UserError : it was not
    """
    if store.provenance.get("status") != "complete":
        raise UserError(
            f"the {store.kind.work} that fills {store.path} has not finished: its command goes on "
            "with it"
        )
