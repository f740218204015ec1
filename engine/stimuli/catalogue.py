"""Catalogue of stimuli: images and their categories, in an order that is the same on any machine.

A stimulus set is a folder with one folder per category, or of another kind in ``KINDS``. Groups
select and join folders (or categories of the other kinds) under a new name.

Names may hold anything that a file system allows. Files are opened by the original name; stores and
messages have it as valid UTF-8 (see :func:`storable`).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..daemons import daemons
from ..errors import UserError, require_path, shortened
from ..stimulus_groups import Folders, Given, Groups
from ..texts import composed
from .arrays.named import ARRAYS
from .arrays.sets import list_arrays
from .bids import TABLE, list_events
from .columns import SHA256_BYTES, Contents, Texts, storable
from .datasets import list_dataset
from .folders import archives_in, list_folders, list_shards
from .images import UnfitStimulus, read_header
from .listing import FILES, Images, Listing, Source, joined
from .manifest import MANIFESTS, list_manifest
from .packed.pictures import Pictures
from .packed.table import list_packed
from .paths import refuse_outside

# Kinds of stimulus sources, in the order in which they are tried.
KINDS: tuple[Callable[[Source], Listing | None], ...] = (
    list_packed,
    list_dataset,
    list_shards,
    list_arrays,
    list_folders,
    list_manifest,
    list_events,
)
# Stimuli per job of a reading thread: a job for each would take a gigabyte for a million.
_AT_ONCE = 64


@dataclass(frozen=True)
class Catalogue:
    """A labelled, ordered set of stimuli. Takes about 75 bytes per stimulus beside the names.

    ``names`` are paths relative to ``root``; ``labels [stimulus]`` index into ``categories``, and
    stimuli are sorted by category. ``notes`` say what was left out. Categories and notes are valid
    UTF-8, and so are ``shown_names``. ``images`` reads them, and ``listed [stimulus, byte]`` are
    the SHA-256 of a manifest or packed set.
    """

    root: Path
    categories: tuple[str, ...]
    names: Texts
    labels: NDArray[np.int32]
    notes: tuple[str, ...] = ()
    images: Images = FILES
    listed: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, stimulus: int) -> Path:
        """Path of the image; a shard, array or packed set counts as a folder."""
        return self.root / self.names[stimulus]

    @property
    def pictures(self) -> Pictures | None:
        """Pictures of a packed set; None for another set."""
        return self.images if isinstance(self.images, Pictures) else None

    def read(self, stimulus: int) -> bytes:
        """Bytes of the image file; for raw pixels, a PNM file of them.

        Raises
        ------
        UnfitStimulus : see :meth:`.listing.Images.read`
        """
        return self.images.read(stimulus, self.path(stimulus))

    def require_unchanged(self, stimulus: int, content: bytes) -> None:
        """Raise if ``content`` does not have the SHA-256 of the catalogue.

        Raises
        ------
        UnfitStimulus : the hashes differ
        """
        if hashlib.sha256(content).digest() != self.contents.digests[stimulus].tobytes():
            reason = (
                "has changed since the scan began"
                if self.listed is None
                else "does not have the sha256 of its manifest"
            )
            raise UnfitStimulus(self.path(stimulus), reason)

    @cached_property
    def shown_names(self) -> Texts:
        """Names as stored."""
        return self.names.storable()

    @cached_property
    def contents(self) -> Contents:
        """Hash and problem of every stimulus; see :meth:`look`."""
        return self.look()

    def look(self, progress: Callable[[int, int], None] = lambda *_: None) -> Contents:
        """Hash and problem of every stimulus: reads every file once, and checks its header.

        With hashes from a manifest no file is read; they are compared when a stimulus is shown. For
        a packed set, only checks that its files exist.

        Parameters
        ----------
        progress : called with the number of stimuli read, and of all
        """
        if "contents" not in self.__dict__:
            lost = self.pictures.lost() if self.pictures else {}
            self.__dict__["contents"] = (
                self._read_all(progress) if self.listed is None else Contents(self.listed, lost)
            )
        found: Contents = self.__dict__["contents"]
        return found

    def _read_all(self, progress: Callable[[int, int], None]) -> Contents:
        digests = np.zeros((len(self), SHA256_BYTES), np.uint8)
        problems: dict[int, str] = {}

        def read(start: int) -> int:
            stop = min(start + _AT_ONCE, len(self))
            for stimulus in range(start, stop):
                try:
                    content = self.read(stimulus)
                    digest = hashlib.sha256(content).digest()
                    digests[stimulus] = np.frombuffer(digest, np.uint8)
                    read_header(self.path(stimulus), content)
                except UnfitStimulus as unfit:
                    problems[stimulus] = unfit.reason
            return stop

        starts = range(0, len(self), _AT_ONCE)
        with daemons(min(len(starts), 32, (os.cpu_count() or 1) + 4), "read") as submit:
            for done in [submit(read, start) for start in starts]:
                progress(done.result(), len(self))
        return Contents(digests, problems)

    def chosen(self, stimuli: NDArray[np.int64]) -> Catalogue:
        """Catalogue of these stimuli, with known contents."""
        bare = replace(self, notes=())
        bare.__dict__["contents"] = self.contents
        return bare.labelled(stimuli, self.categories, self.labels[stimuli])

    def files(self, stimuli: NDArray[np.int64]) -> Catalogue:
        """The files of these stimuli alone, with known contents, in no category."""
        bare = replace(self, categories=(), notes=())
        bare.__dict__["contents"] = self.contents
        return bare.labelled(stimuli, (), self.labels[stimuli])

    def labelled(
        self, stimuli: NDArray[np.int64], categories: Sequence[str], labels: NDArray[np.int32]
    ) -> Catalogue:
        """Catalogue of these stimuli in other categories; keeps known contents."""
        part = replace(
            self,
            categories=tuple(categories),
            names=self.names.take(stimuli),
            labels=labels,
            images=self.images.take(stimuli),
            listed=None if self.listed is None else self.listed[stimuli],
        )
        if "contents" in self.__dict__:
            known = self.contents
            problems = {
                row: known.problems[stimulus]
                for row, stimulus in enumerate(stimuli.tolist())
                if stimulus in known.problems
            }
            part.__dict__["contents"] = Contents(known.digests[stimuli], problems)
        return part

    def absolute(self) -> Catalogue:
        """The catalogue with absolute paths."""
        part = replace(self, root=self.root.absolute(), images=self.images.absolute())
        part.__dict__["contents"] = self.contents
        return part


def read_catalogue(
    source: Path | str,
    groups: Given | Sequence[Given] | None = None,
    root: Path | str | None = None,
) -> Catalogue:
    """Catalogue of a stimulus set.

    Stimuli of a manifest must be inside its folder or ``root``: a manifest from somebody else could
    otherwise name any file of this machine, by an absolute path, ``..`` or a link. Links in a
    folder of images are followed.

    Parameters
    ----------
    source : a folder with one folder of images per category; a manifest (``.csv``, ``.parquet``,
        ``.arrow``) with the columns ``path`` (relative to the manifest, or absolute), ``category``
        and optionally ``sha256``; a BIDS table (``.tsv``); a folder of ``.tar`` shards, or one
        shard; arrays in HDF5 or NumPy files (``FILE`` or ``FILE:ARRAY``); a folder written by
        Hugging Face's ``save_to_disk``; a packed set
    groups : new category -> the folder or folders (or manifest categories) it joins, or another
        form that :class:`..stimulus_groups.Groups` takes; only these are used, in this order
    root : another folder for stimuli of a manifest

    Raises
    ------
    UserError : the source is missing, unreadable or of no known kind; fewer than two categories, or
        one without images; a group that names an unknown folder, or a folder of another group; a
        manifest path outside its folder and ``root``; a name with a NUL; a damaged shard or packed
        set
    """
    require_path(source)
    if root is not None:
        require_path(root)
    source = Path(source)
    groups = None if groups is None else Groups.of(groups)
    named = [folder for joined in (groups or {}).values() for folder in joined]
    asked = Source(source, named, None if root is None else Path(root))
    try:
        listing = next(filter(None, (kind(asked) for kind in KINDS)), None)
        if listing is None:
            state = "is neither" if source.exists() else "does not exist"
            raise UserError(
                "stimuli are a folder with a folder per category, a folder of .tar shards, a "
                f"packed set, a dataset folder, arrays ({', '.join(ARRAYS)}), a manifest "
                f"({', '.join(MANIFESTS)}), or a BIDS table ({TABLE}); {source} {state}"
            )
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot read the stimuli in {error.filename or source} ({reason}): check permissions"
        ) from None
    listing = listing.of_one_form()
    rows = listing.rows if groups is None else joined(listing.rows, groups, source)
    if root is not None and not Path(root).is_dir():
        _refuse_unusable(rows, listing, source)
        raise UserError(f"`root` is a folder; {root} is not: name another")
    catalogue = _catalogue(listing, rows, source)
    if listing.confined:
        refuse_outside(listing.base, catalogue.names, root)
    return catalogue


def catalogue_of(
    source: Path | str, choices: Iterable[Folders], root: Path | str | None = None
) -> Catalogue:
    """Catalogue in the first of some groups that the set has folders of, or in its own categories.

    Raises
    ------
    UserError : see :func:`read_catalogue`
    """
    for groups in choices:
        own = {category: [one for one in folders if (Path(source) / one).is_dir()]
               for category, folders in groups.items()}  # fmt: skip
        there = {category: folders for category, folders in own.items() if folders}
        with suppress(UserError):
            return read_catalogue(source, there or groups, root)
    return read_catalogue(source, None, root)


def _catalogue(listing: Listing, rows: Mapping[str, NDArray[np.int64]], source: Path) -> Catalogue:
    """Catalogue of the categories in ``rows``, in their order."""
    _refuse_unusable(rows, listing, source)
    order = np.concatenate(list(rows.values()))
    names = listing.names.take(order)
    labels = np.repeat(np.arange(len(rows), dtype=np.int32), [len(own) for own in rows.values()])
    for byte in np.flatnonzero(names.content == 0)[:1].tolist():
        _refuse_nul(list(rows)[labels[names.row_of(byte)]])
    return Catalogue(
        listing.base,
        tuple(map(storable, rows)),
        names,
        labels,
        tuple(map(storable, listing.notes)),
        listing.images.take(order),
        None if listing.digests is None else listing.digests[order],
    )


def _refuse_unusable(rows: Mapping[str, NDArray[np.int64]], listing: Listing, source: Path) -> None:
    noted = f" ({'; '.join(map(storable, listing.notes[:3]))})" if listing.notes else ""
    for category, own in rows.items():
        if not len(own) and (shards := archives_in(source / category)):
            raise UserError(
                f"a category needs images; {category} in {source} has shards "
                f"({shortened(shards, 3)}): name {source / category} itself"
            )
    if len(rows) < 2:
        raise UserError(
            f"a contrast needs two or more categories; {source} has "
            f"{shortened(rows) or 'none'}{noted}: make one folder per category, or name folders "
            "in `groups`"
        )
    for category, own in rows.items():
        if not len(own):
            raise UserError(
                f"a category needs images; {category} in {source} has none{noted}: add some, "
                "remove it, or choose others in `groups`"
            )
        if "\0" in category:
            _refuse_nul(category)
    alike = [name for name, n in Counter(composed(storable(c)) for c in rows).items() if n > 1]
    if alike:
        raise UserError(
            f"categories have different names; two of {source} are both {alike[0]}: rename one"
        )


def _refuse_nul(category: str) -> None:
    raise UserError(f"a name cannot contain NUL; one of {category!a} does: rename it")
