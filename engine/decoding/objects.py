"""Stimuli that are objects of the program, in a mapping or a map-style Dataset.

Each is asked for when the catalogue is made, which hashes it, and again when it is shown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError, first_line, shortened
from ..moments.plan import Plan
from ..networks.inputs import Inputs
from ..preprocessing import Preprocessing
from ..spec import Stimuli
from ..stimuli.catalogue import Catalogue
from ..stimuli.columns import SHA256_BYTES, Contents, Texts, storable
from ..texts import composed
from .ahead import Decoded
from .items import batch_of, digest_of, form_of, item_of, require_form, rows_of, shown
from .pictures import invisible_rows

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ObjectCatalogue(Catalogue):
    """Stimuli that ``get`` returns by number; ``numbers [stimulus]`` are those of the stimuli.

    ``known`` are their hashes.
    """

    get: Callable[[int], Any] = field(default=lambda number: number)
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    known: Contents = field(default_factory=lambda: Contents(np.empty((0, 0), np.uint8), {}))

    def look(self, progress: Progress = lambda *_: None) -> Contents:
        """Hashes of all stimuli, which were read when the catalogue was made."""
        del progress
        return self.known

    def labelled(
        self, stimuli: NDArray[np.int64], categories: Sequence[str], labels: NDArray[np.int32]
    ) -> ObjectCatalogue:
        """Catalogue of these stimuli in other categories."""
        return replace(
            self,
            categories=tuple(categories),
            names=self.names.take(stimuli),
            labels=labels,
            numbers=self.numbers[stimuli],
            known=Contents(self.known.digests[stimuli], {}),
        )

    def item(self, stimulus: int) -> Any:
        """A picture or input, which must be what it was when the catalogue was made.

        Raises
        ------
        UserError : it is not
        """
        item = _asked(self.get, int(self.numbers[stimulus]), self.names[stimulus])
        if digest_of(item) != self.known.digests[stimulus].tobytes():
            raise UserError(
                "stimuli stay the same during a scan, which asks for each at least twice; "
                f"{self.names[stimulus]} has changed: leave out random augmentation"
            )
        return item

    def sample(
        self, number: int, preprocessing: Preprocessing, *, preprocessed: bool
    ) -> Inputs | None:
        """Inputs from all over the set; None if it holds pictures.

        ``preprocessed``: the preprocessing was asked for, so that tensors count as pictures.

        Raises
        ------
        UserError : the preprocessing is of files alone, or for what is no picture
        """
        if preprocessing.decoder != "pillow":
            raise UserError(
                f"`decoder` {preprocessing.decoder} is for JPEG files; got objects of the program: "
                "leave it out"
            )
        if isinstance(shown(self.item(0), self.names[0], preprocessed), Image.Image):
            return None
        places = np.linspace(0, len(self) - 1, number).astype(int).tolist()
        return Inputs.joined([self.item(place) for place in places])

    def batches(
        self,
        plan: Plan,
        preprocessing: Preprocessing | None,
        first: int,
        invisible: Callable[[int], None],
    ) -> Iterator[Decoded]:
        """Batches of a plan from number ``first`` on; see :func:`.ahead.decode_ahead`.

        Parameters
        ----------
        preprocessing : of pictures; None for inputs, which are shown as they are
        """
        for batch in plan.batches(first):
            stimuli = batch.stimuli.tolist()
            names = [self.names[stimulus] for stimulus in stimuli]
            pixels = batch_of([self.item(one) for one in stimuli], names, preprocessing)
            for row in invisible_rows(pixels) if isinstance(pixels, np.ndarray) else ():
                invisible(stimuli[row])
            yield Decoded(batch, pixels, {})


def catalogue_of_objects(stimuli: Stimuli, progress: Progress) -> ObjectCatalogue:
    """Catalogue of a mapping or Dataset; every stimulus is asked for once, and hashed.

    Raises
    ------
    UserError : fewer than two categories; a label that is none of them; a stimulus that is neither
        picture nor input, or has another form than the first
    """
    source = stimuli.source
    if isinstance(source, Mapping):
        return _of_mapping(source, progress)
    categories = categories_of(stimuli)
    labels = np.empty(len(source), np.int32)

    def first(number: int) -> Any:
        given, label = _pair(source[number], f"item {number}")
        labels[number] = label_of(label, categories, f"item {number}")
        return given

    def again(number: int) -> Any:
        given, label = _pair(source[number], f"item {number}")
        if label_of(label, categories, f"item {number}") != labels[number]:
            raise UserError(
                f"stimuli stay the same during a scan; the label of item {number} has changed: "
                "leave out random labels"
            )
        return given

    digests = _read(first, [f"item {number}" for number in range(len(labels))], progress)
    order = np.argsort(labels, kind="stable")
    names = [f"{categories[labels[number]]}/{number}" for number in order.tolist()]
    return catalogue(categories, names, labels[order], digests[order], again, order)


def catalogue(
    categories: Sequence[str],
    names: Iterable[str],
    labels: NDArray[np.int32],
    digests: NDArray[np.uint8],
    get: Callable[[int], Any],
    numbers: NDArray[np.int64],
) -> ObjectCatalogue:
    """Catalogue of stimuli that were read."""
    texts, known = Texts.of(map(storable, names)), Contents(digests, {})
    return ObjectCatalogue(
        Path(), tuple(categories), texts, labels, get=get, numbers=numbers, known=known
    )


def categories_of(stimuli: Stimuli) -> tuple[str, ...]:
    """Names of the labels of a Dataset or iterable.

    Raises
    ------
    UserError : they are not named, fewer than two, or alike
    """
    names, source = stimuli.categories, stimuli.source
    while names is None and source is not None:  # a Subset or DataLoader holds its Dataset
        names, source = getattr(source, "classes", None), getattr(source, "dataset", None)
    if names is None:
        raise UserError(
            "labels are numbers of categories, which have names; "
            f"{type(stimuli.source).__name__} has no `classes`: give `categories`"
        )
    return _categories(names)


def _categories(names: Any) -> tuple[str, ...]:
    names = tuple(names) if isinstance(names, Iterable) else (names,)
    if not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise UserError(
            f"names of categories are texts; got {shortened(map(repr, names))}: give texts, those "
            "of a Dataset in `categories`"
        )
    names = tuple(map(str.__str__, names))  # of str_ of NumPy or an enumeration, which zarr refuses
    if len({composed(storable(name)) for name in names}) < max(2, len(names)):
        raise UserError(
            "a contrast needs two or more categories of different names; got "
            f"{shortened(names) or 'none'}: add or rename some"
        )
    return tuple(map(storable, names))


def _of_mapping(source: Mapping[Any, Any], progress: Progress) -> ObjectCatalogue:
    categories = _categories(source)
    values = [rows_of(images, name) for name, images in source.items()]
    sizes = [len(own) for own in values]
    ends = np.cumsum(sizes)
    names = [f"{c}/{k}" for c, size in zip(categories, sizes, strict=True) for k in range(size)]
    labels = np.repeat(np.arange(len(values), dtype=np.int32), sizes)

    def get(number: int) -> Any:
        category = labels[number]
        return values[category][int(number - ends[category] + sizes[category])]

    digests = _read(get, names, progress)
    return catalogue(categories, names, labels, digests, get, np.arange(len(names)))


def _read(get: Callable[[int], Any], names: Sequence[str], progress: Progress) -> NDArray[np.uint8]:
    """Hashes ``[stimulus, byte]`` of all stimuli, which must have the form of the first."""
    digests = np.zeros((len(names), SHA256_BYTES), np.uint8)
    form = None
    for number, name in enumerate(names):
        item = _asked(get, number, name)
        form = form or form_of(item)
        require_form(item, form, name)
        digests[number] = np.frombuffer(digest_of(item), np.uint8)
        progress(number + 1, len(names))
    return digests


def _asked(get: Callable[[int], Any], number: int, name: str) -> Any:
    """The stimulus that the program gives for a number.

    Raises
    ------
    UserError : it is no stimulus, or the program cannot read it: the scan's own files would seem to
        be at fault
    """
    try:
        return item_of(get(number), name)
    except OSError as error:
        raise UserError(
            f"a stimulus can be read whenever it is asked for; {name} failed with "
            f"{type(error).__name__} ({first_line(error)}): repair what gives it, and scan again"
        ) from error


def _pair(item: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        size = f" of {len(item)}" if isinstance(item, tuple | list | Mapping) else ""
        raise UserError(
            f"a Dataset gives (input, label); {name} is a {type(item).__name__}{size}: wrap it in "
            "one that gives these two"
        )
    return item[0], item[1]


def label_of(label: Any, categories: Sequence[str], name: str) -> int:
    """Index of a label, which is one already or the name of a category.

    Raises
    ------
    UserError : it is no category
    """
    try:
        index = categories.index(label) if isinstance(label, str) else operator.index(label)
    except (TypeError, ValueError):
        index = -1
    if not 0 <= index < len(categories):
        raise UserError(
            f"a label is the number of a category, or its name; that of {name} is {label!r}, and "
            f"categories are {shortened(categories)}: correct it, or name all `categories`"
        )
    return index
