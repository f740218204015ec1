"""Check a stimulus set: unusable stimuli, duplicates, and low-level confounds."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..spec import Stimuli
from ..stimulus_groups import remarks
from ..values import in_json
from .catalogue import Catalogue, read_catalogue
from .images import BACKGROUND, KINDS, UnfitStimulus, open_image, read_header, strips, suffix_of
from .lowlevel import Difference, difference, luma, mean_and_contrast, spectral_slope

# In the order of the table's columns.
MEASURES = ("luma", "contrast", "slope", "side", "colour")
_AT_ONCE = 16


@dataclass(frozen=True)
class Refused:
    """A stimulus that cannot be shown.

    Attributes
    ----------
    name : str
        Its path.
    category : str
        Its category.
    reason : str
        Why it cannot be shown.
    """

    name: str
    category: str
    reason: str


@dataclass(frozen=True)
class Misnamed:
    """A stimulus whose suffix does not match its content; it is shown anyway.

    Attributes
    ----------
    name : str
        Its path.
    kind : str
        Format of its content.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class Duplicate:
    """Copies of a picture.

    Attributes
    ----------
    names : tuple of str
        Their paths.
    categories : tuple of str
        Their categories.
    same : str
        What is equal: the ``content`` of the files, or the ``pixels``.
    across : bool
        Whether they are in several categories, between which a contrast is then weaker.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    same: Literal["content", "pixels"]

    @property
    def across(self) -> bool:
        """Whether they are in several categories, between which a contrast is then weaker."""
        return len(self.categories) > 1


@dataclass(frozen=True)
class CategoryRow:
    """Pictures of a category that can be shown.

    Measures are ``luma`` and ``contrast`` (:func:`.lowlevel.mean_and_contrast`), ``slope``
    (:func:`.lowlevel.spectral_slope`), ``side`` (root of the number of pixels) and ``colour`` (1;
    grey 0).

    Attributes
    ----------
    category : str
        The category.
    stimuli : int
        Number of its pictures.
    sizes : int
        Number of different sizes.
    smallest : tuple of int
        Smallest width and height, in pixels.
    largest : tuple of int
        Largest width and height, in pixels.
    modes : dict of str to int
        Numbers of grey and colour pictures, without and with alpha; a picture is grey if its
        channels are equal.
    means : dict of str to float
        Means by measure.
    sds : dict of str to float
        Standard deviations (n - 1) by measure; NaN for one picture.
    """

    category: str
    stimuli: int
    sizes: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    modes: dict[str, int]
    means: dict[str, float]
    sds: dict[str, float]


@dataclass(frozen=True)
class StimuliReport:
    """Result of :func:`fusiform.check_stimuli`, in the order of the catalogue.

    Attributes
    ----------
    stimuli : int
        Number of stimuli.
    refused : tuple of Refused
        Stimuli that cannot be shown.
    invisible : tuple of str
        Names of stimuli that are transparent or mid-grey throughout.
    misnamed : tuple of Misnamed
        Stimuli whose suffix does not match their content.
    duplicates : tuple of Duplicate
        Copies of a picture.
    categories : tuple of CategoryRow
        Size, brightness, contrast and spectrum of each category.
    differences : tuple of Difference
        Differences between categories in these measures.
    notes : tuple of str
        Messages to the user about the set.
    sound : bool
        Whether all stimuli can be shown and none is in two categories.
    """

    stimuli: int
    refused: tuple[Refused, ...]
    invisible: tuple[str, ...]
    misnamed: tuple[Misnamed, ...]
    duplicates: tuple[Duplicate, ...]
    categories: tuple[CategoryRow, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether all stimuli can be shown and none is in two categories."""
        return not self.refused and not any(same.across for same in self.duplicates)

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None, see :func:`..spec.in_json`."""
        record: dict[str, Any] = in_json(asdict(self))
        for listed, found in (("duplicates", self.duplicates), ("differences", self.differences)):
            flag = "across" if listed == "duplicates" else "large"
            for entry, one in zip(record[listed], found, strict=True):
                entry[flag] = getattr(one, flag)
        return {"sound": self.sound, **record}


class _Seen(NamedTuple):
    """One stimulus; ``reason`` says why it cannot be shown, if so."""

    reason: str = ""
    content: bytes = b""
    pixels: bytes = b""
    kind: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    invisible: bool = False
    measures: tuple[float, ...] = ()


def check_stimuli(
    stimuli: Stimuli | Path | str, progress: Callable[[int, int], None] = lambda *_: None
) -> StimuliReport:
    """Decode every stimulus of a set and report problems.

    Each thread has one picture in memory at a time.

    Parameters
    ----------
    stimuli : Stimuli, str or path
        The stimuli, or the path of their source alone.
    progress : callable, optional
        Called with the number of stimuli checked, and of all.

    Returns
    -------
    StimuliReport
        Stimuli that cannot be shown, duplicates, and differences between categories in size,
        brightness, contrast and spectrum.

    Raises
    ------
    UserError
        The set cannot be read; problems of single stimuli are in the report.

    Examples
    --------
    >>> report = fusiform.check_stimuli("stimuli")
    >>> report.stimuli, report.refused, report.duplicates, report.sound
    (24, (), (), True)
    """
    stimuli = Stimuli.of(stimuli)
    catalogue = read_catalogue(stimuli.source, stimuli.groups, stimuli.root)
    seen: list[_Seen] = []
    starts = range(0, len(catalogue), _AT_ONCE)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for part in pool.map(lambda start: _examine_some(catalogue, start), starts):
            seen += part
            progress(len(seen), len(catalogue))
    notes = (*catalogue.notes, *remarks(stimuli.groups, catalogue.categories))
    return replace(_report(catalogue, seen), notes=notes)


def _examine_some(catalogue: Catalogue, start: int) -> list[_Seen]:
    stop = min(start + _AT_ONCE, len(catalogue))
    return [_examine(catalogue, stimulus) for stimulus in range(start, stop)]


def _examine(catalogue: Catalogue, stimulus: int) -> _Seen:
    path = catalogue.path(stimulus)
    try:
        content = catalogue.read(stimulus)
        header = read_header(path, content)
        image = open_image(path, content)
    except UnfitStimulus as unfit:
        return _Seen(reason=unfit.reason)
    grey, area = luma(image), image.width * image.height
    pixels, coloured = _pixels(image)
    return _Seen(
        content=hashlib.sha256(content).digest(),
        pixels=pixels,
        kind=header.kind,
        mode=("colour" if coloured else "grey") + (" with alpha" if header.alpha else ""),
        size=image.size,
        invisible=set(np.ravel(image.getextrema()).tolist()) == {BACKGROUND[0]},
        measures=(*mean_and_contrast(grey), spectral_slope(grey), math.sqrt(area), float(coloured)),
    )


def _pixels(image: Image.Image) -> tuple[bytes, bool]:
    """Hash of the RGB pixels, and whether the picture is in colour."""
    shown, coloured = hashlib.sha256(str(image.size).encode()), False
    for top, bottom in strips(image.size):
        strip = np.asarray(image.crop((0, top, image.width, bottom)).convert("RGB"))
        shown.update(strip.data)
        coloured = coloured or bool((strip != strip[..., :1]).any())
    return shown.digest(), coloured


def _report(catalogue: Catalogue, seen: Sequence[_Seen]) -> StimuliReport:
    names, labels = catalogue.shown_names, catalogue.labels
    values = np.array([one.measures or (math.nan,) * len(MEASURES) for one in seen])
    visible = np.array([bool(one.mode) for one in seen])
    stops = np.searchsorted(labels, np.arange(1, len(catalogue.categories)))
    shown = [members[visible[members]] for members in np.split(np.arange(len(seen)), stops)]
    return StimuliReport(
        stimuli=len(seen),
        refused=tuple(
            Refused(names[i], catalogue.categories[labels[i]], one.reason)
            for i, one in enumerate(seen)
            if one.reason
        ),
        invisible=tuple(names[i] for i, one in enumerate(seen) if one.invisible),
        misnamed=tuple(
            Misnamed(names[i], one.kind)
            for i, one in enumerate(seen)
            if not catalogue.pictures and _is_misnamed(names[i], one)
        ),
        duplicates=tuple(_duplicates(catalogue, seen)),
        categories=tuple(
            _row(category, [seen[i] for i in members.tolist()], values[members])
            for category, members in zip(catalogue.categories, shown, strict=True)
        ),
        differences=tuple(
            difference(measure, [values[members, m] for members in shown])
            for m, measure in enumerate(MEASURES)
        ),
        notes=catalogue.notes,
    )


def _is_misnamed(name: str, one: _Seen) -> bool:
    suffix = suffix_of(name)
    return bool(one.kind and suffix) and suffix not in KINDS[one.kind]


def _duplicates(catalogue: Catalogue, seen: Sequence[_Seen]) -> Iterator[Duplicate]:
    alike: dict[bytes, list[int]] = {}
    for i, one in enumerate(seen):
        if one.pixels:
            alike.setdefault(one.pixels, []).append(i)
    for members in alike.values():
        if len(members) > 1:
            yield Duplicate(
                tuple(catalogue.shown_names[i] for i in members),
                tuple(dict.fromkeys(catalogue.categories[catalogue.labels[i]] for i in members)),
                "content" if len({seen[i].content for i in members}) == 1 else "pixels",
            )


def _row(category: str, seen: Sequence[_Seen], values: NDArray[np.float64]) -> CategoryRow:
    sizes = sorted({one.size for one in seen}, key=lambda size: (size[0] * size[1], size))
    means, sds = {}, {}
    for measure, column in zip(MEASURES, values.T, strict=True):
        known = column[np.isfinite(column)]
        means[measure] = float(known.mean()) if len(known) else math.nan
        sds[measure] = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    modes = Counter(one.mode for one in seen)
    return CategoryRow(
        category=category,
        stimuli=len(seen),
        sizes=len(sizes),
        smallest=sizes[0] if sizes else (0, 0),
        largest=sizes[-1] if sizes else (0, 0),
        modes=dict(sorted(modes.items())),
        means=means,
        sds=sds,
    )
