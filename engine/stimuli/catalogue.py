"""The catalogue: which images are shown, in which category, in an order that is the same anywhere.

A stimulus set is a folder with one folder per category, a manifest (see :mod:`.manifest`), tar
shards (see :mod:`.shards`), or a packed set (see :mod:`.packed`). Groups join and choose folders
(or the categories of the others) under a new name.

Names may hold anything that a file system takes: they are kept as they are to open files by, and
as storable text (see :func:`storable`) to be written and shown.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, refuse_no_path, shortened
from ..texts import composed
from ..values import listed
from .bounds import refuse_outside
from .columns import SHA256_BYTES, Contents, Texts, storable
from .folders import archives_in, beside_shards, list_folders, refuse_compressed, shards_in
from .images import UnfitStimulus, natural_key, read_header, read_stimulus
from .listing import Groups as Groups
from .listing import Listing, are_alike, joined, rows_by_category, tidied
from .manifest import MANIFESTS, list_manifest
from .packed.layout import METADATA
from .packed.pictures import Pictures
from .packed.table import list_packed
from .shards import COMPRESSED, SHARD, Index, Members

# Stimuli that a thread reads at a time: a job for each would be a gigabyte for a million.
_AT_ONCE = 64


@dataclass(frozen=True)
class Catalogue:
    """A labelled, ordered set of stimuli, in some 75 bytes each beside their names.

    ``names`` are paths relative to ``root``, ``labels [stimulus]`` index into ``categories``, and
    stimuli of one category stand together, in the order of ``categories``. ``notes`` say what was
    passed over. Categories and notes are storable text; names become so as ``shown_names``.
    ``members`` say where stimuli in tar shards lie, ``pictures`` where in a packed set, ``listed
    [stimulus, byte]`` are the SHA-256 that a manifest or a packed set gives.
    """

    root: Path
    categories: tuple[str, ...]
    names: Texts
    labels: NDArray[np.int32]
    notes: tuple[str, ...] = ()
    members: Members | None = None
    listed: NDArray[np.uint8] | None = None
    pictures: Pictures | None = None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, stimulus: int) -> Path:
        """Where the image lies; in a shard or a packed set, as if that were a folder."""
        return self.root / self.names[stimulus]

    def read(self, stimulus: int) -> bytes:
        """The bytes of the image file; of a packed one, those of a PNM file of its pixels.

        Raises
        ------
        UnfitStimulus : see :func:`.images.read_stimulus`, :meth:`.shards.Members.read` and
            :meth:`.packed.pictures.Pictures.read`
        """
        path = self.path(stimulus)
        if self.pictures:
            return self.pictures.as_file(stimulus, path)
        return self.members.read(stimulus, path) if self.members else read_stimulus(path)

    def require_unchanged(self, stimulus: int, content: bytes) -> None:
        """Refuse bytes that are not those that the catalogue has the SHA-256 of.

        Raises
        ------
        UnfitStimulus : they are others
        """
        if hashlib.sha256(content).digest() != self.contents.digests[stimulus].tobytes():
            reason = (
                "has changed since the scan began"
                if self.listed is None
                else "is not what its manifest lists, by the sha256 there"
            )
            raise UnfitStimulus(self.path(stimulus), reason)

    @cached_property
    def shown_names(self) -> Texts:
        """Names as the store keeps them."""
        return self.names.storable()

    @cached_property
    def contents(self) -> Contents:
        """What every stimulus holds; see :meth:`look`."""
        return self.look()

    def look(self, progress: Callable[[int, int], None] = lambda *_: None) -> Contents:
        """What every stimulus holds: each file is read once, and its header looked at.

        Where a manifest gives hashes no file is: they are compared when a stimulus is shown. Of a
        packed set it is seen whether its files are there.

        Parameters
        ----------
        progress : hears how many stimuli are read, and of how many
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

        with ThreadPoolExecutor() as pool:
            for done in pool.map(read, range(0, len(self), _AT_ONCE)):
                progress(done, len(self))
        return Contents(digests, problems)

    def chosen(self, stimuli: NDArray[np.int64]) -> Catalogue:
        """The catalogue of these stimuli, whose contents are known."""
        bare = replace(self, notes=())
        bare.__dict__["contents"] = self.contents
        return bare.labelled(stimuli, self.categories, self.labels[stimuli])

    def labelled(
        self, stimuli: NDArray[np.int64], categories: Sequence[str], labels: NDArray[np.int32]
    ) -> Catalogue:
        """The catalogue of these stimuli in other categories; what is known of them stays known."""
        part = replace(
            self,
            categories=tuple(categories),
            names=self.names.take(stimuli),
            labels=labels,
            members=self.members and self.members.take(stimuli),
            listed=None if self.listed is None else self.listed[stimuli],
            pictures=self.pictures and self.pictures.take(stimuli),
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
        """The same, by paths that hold in whatever folder a program stands."""
        members = self.members
        if members:
            members = replace(members, shards=tuple(path.absolute() for path in members.shards))
        pictures = self.pictures
        if pictures:
            pictures = replace(pictures, folder=pictures.folder.absolute())
        part = replace(self, root=self.root.absolute(), members=members, pictures=pictures)
        part.__dict__["contents"] = self.contents
        return part


def read_catalogue(
    source: Path | str, groups: Groups | None = None, root: Path | str | None = None
) -> Catalogue:
    """The catalogue of a stimulus set.

    Stimuli of a manifest lie in its folder. What a path (``..``, or absolute) or a link leads to
    outside of it is refused, since a list that someone else made could otherwise name any file of
    this machine; ``root`` allows it within another folder. Links in a folder are followed: to
    arrange a set out of links is common, and no text file makes them.

    Parameters
    ----------
    source : a folder that holds one folder of images per category; a manifest (``.csv``,
        ``.parquet``, ``.arrow``) with the columns ``path`` (relative to the manifest, or absolute),
        ``category`` and perhaps ``sha256``; a folder of ``.tar`` shards, or one of them; what
        ``fusiform stimuli pack`` has written
    groups : new category -> the folder or folders (or manifest categories) it joins; where given,
        only what it names is used, in its order
    root : a folder in which stimuli of a manifest may lie as well

    Raises
    ------
    UserError : source missing, unreadable or of neither kind, fewer than two categories, a category
        without images, a group that names an unknown folder or one that another group has already,
        a stimulus that a manifest lists outside of its folder and ``root``, a name with a NUL in
        it, a shard or a packed set that is damaged
    """
    refuse_no_path(source)
    if root is not None:
        refuse_no_path(root)
    source = Path(source)
    if groups is not None and not (
        isinstance(groups, Mapping)
        and all(
            isinstance(name, str | Path)
            for category, given in groups.items()
            for name in (category, *listed(given))
        )
    ):
        raise UserError(f"groups are {{category: folders}}; got {groups!r}: give a dict of texts")
    groups = groups and {category: listed(given) for category, given in groups.items()}
    is_manifest = False
    try:
        if os.path.isfile(source / METADATA):  # noqa: PTH113 - raises nothing
            listing, base = list_packed(source), source
        elif source.is_dir() and (shards := shards_in(source)):
            listing, base = _list_shards(shards, beside_shards(source)), source
        elif source.is_dir():
            groups = groups and tidied(groups)
            named = [folder for joined in (groups or {}).values() for folder in joined]
            listing, base = list_folders(source, named), source
        elif source.suffix.lower() == SHARD and source.is_file():
            listing, base = _list_shards([source]), source.parent
        elif source.suffix.lower() in MANIFESTS and source.is_file():
            listing, base, is_manifest = list_manifest(source), source.parent, True
        elif source.name.lower().endswith(COMPRESSED) and source.is_file():
            refuse_compressed(source.parent, [source.name])
        else:
            state = "is neither" if source.exists() else "does not exist"
            raise UserError(
                "stimuli are a folder with a folder per category, a folder of .tar shards, a "
                f"packed set, or a manifest ({', '.join(MANIFESTS)}); {source} {state}"
            )
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot read the stimuli in {error.filename or source} ({reason}): make it readable"
        ) from None
    listing = listing.of_one_form()
    rows = listing.rows if groups is None else joined(listing.rows, groups, source)
    if root is not None and not Path(root).is_dir():
        _refuse_unusable(rows, listing, source)
        raise UserError(f"stimuli lie in a folder; --root {root} is none: name another")
    catalogue = _catalogue(base, listing, rows, source)
    if is_manifest:
        refuse_outside(base, catalogue.names, root)
    return catalogue


def catalogue_of(source: Path | str, groups: Groups, root: Path | str | None = None) -> Catalogue:
    """The catalogue of a set in ``groups`` of folders as far as it has these, else in its own.

    Raises
    ------
    UserError : see :func:`read_catalogue`
    """
    own = {category: [one for one in listed(folders) if (Path(source) / one).is_dir()]
           for category, folders in groups.items()}  # fmt: skip
    there = {category: folders for category, folders in own.items() if folders}
    try:
        return read_catalogue(source, there or groups, root)
    except UserError:
        return read_catalogue(source, None, root)


def _catalogue(
    base: Path, listing: Listing, rows: Mapping[str, NDArray[np.int64]], source: Path
) -> Catalogue:
    """What a listing has of the categories in ``rows``, in their order."""
    _refuse_unusable(rows, listing, source)
    order = np.concatenate(list(rows.values()))
    names = listing.names.take(order)
    labels = np.repeat(np.arange(len(rows), dtype=np.int32), [len(own) for own in rows.values()])
    for byte in np.flatnonzero(names.content == 0)[:1].tolist():
        _refuse_nul(list(rows)[labels[names.row_of(byte)]])
    return Catalogue(
        base,
        tuple(map(storable, rows)),
        names,
        labels,
        tuple(map(storable, listing.notes)),
        listing.members and listing.members.take(order),
        None if listing.digests is None else listing.digests[order],
        listing.pictures and listing.pictures.take(order),
    )


def _refuse_unusable(rows: Mapping[str, NDArray[np.int64]], listing: Listing, source: Path) -> None:
    noted = f" ({'; '.join(map(storable, listing.notes[:3]))})" if listing.notes else ""
    for category, own in rows.items():
        if not len(own) and (shards := archives_in(source / category)):
            raise UserError(
                f"a category needs images; {category} in {source} has shards "
                f"({shortened(shards, 3)}): give {source / category}"
            )
    if len(rows) < 2:
        raise UserError(
            f"a contrast needs two or more categories; {source} has "
            f"{shortened(rows) or 'none'}{noted}: make one folder per category, or name folders "
            "with --group"
        )
    for category, own in rows.items():
        if not len(own):
            raise UserError(
                f"a category needs images; {category} in {source} has none{noted}: add some, "
                "remove it, or choose others with --group"
            )
        if "\0" in category:
            _refuse_nul(category)
    alike = [name for name, n in Counter(composed(storable(c)) for c in rows).items() if n > 1]
    if alike:
        raise UserError(
            f"categories differ in name; two of {source} are both written {alike[0]}: rename one"
        )


def _refuse_nul(category: str) -> None:
    raise UserError(f"a name has no NUL in it; one of {category!a} has: take it out")


def _list_shards(shards: Sequence[Path], notes: Iterable[str] = ()) -> Listing:
    """The images of shards, as they lie in them; categories in natural order.

    Raises
    ------
    UserError : see :class:`.shards.Index`; a shard that lists a name twice
    """
    index, known = Index(shards), dict[str, int]()
    numbers, marks = array("i"), array("q")

    def names() -> Iterator[str]:
        for found in index:
            numbers.append(known.setdefault(found.category, len(known)))
            marks.append(hash(found.name))
            yield found.name

    listed = Texts.of(names())
    if are_alike(np.frombuffer(marks, np.int64)):
        for name, count in Counter(listed).items():
            if count > 1:
                raise UserError(f"a shard holds a name once; {name} is there {count} times")
    rows = rows_by_category(known, np.frombuffer(numbers, np.int32))
    return Listing(
        listed,
        {category: rows[category] for category in sorted(rows, key=natural_key)},
        (*notes, *index.notes),
        members=index.members(),
    )
