"""Scrambled controls: pictures with the low-level content of others, but without objects.

Phase scrambling keeps every channel's amplitude spectrum and randomises its phases. The phases are
those of white noise, which have the Hermitian symmetry that a real picture needs (Dakin). The same
phases are added to all channels, which keeps the phase differences between channels and thereby the
colours (Prins; both on visionlist, 1 June 2007,
http://visionscience.com/pipermail/visionlist/2007/002181.html; for time series: Prichard & Theiler,
Physical Review Letters 73, 951, 1994). As in every such control, a picture that does not wrap
around at its borders gets horizontal and vertical streaks, which are part of its spectrum. Block
scrambling cuts a picture into a grid of tiles and shuffles them: it keeps the pixels but adds edges
along the grid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..beside import fill_folder, resolve_output
from ..errors import UserError
from ..limits import refuse_seed
from .entries import entries_of, image_files
from .folders import gone_folders
from .images import FETCH, LOST, UnfitStimulus, open_image

Method = Literal["phase", "blocks"]


def phase_scramble(image: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """Randomise the phases of ``image``, the same for all channels; keep its amplitude spectrum.

    The result is neither rounded nor clipped (see :func:`phase_scramble_8bit`). Each channel keeps
    its mean.

    Parameters
    ----------
    image : [h, w] or [h, w, channel], real
    rng : source of the phases

    Returns
    -------
    the scrambled picture, in the shape of ``image``; values may exceed the range of ``image``
    """
    height, width = image.shape[:2]
    spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
    turn = spectrum / np.abs(spectrum)
    # The mean has only a sign as its phase, and must keep it. Other frequencies that are their own
    # mirror image may change sign.
    turn[0, 0] = 1.0
    planes = np.fft.rfft2(image.astype(np.float64), axes=(0, 1))
    turned = planes * turn.reshape(turn.shape + (1,) * (image.ndim - 2))
    return np.asarray(np.fft.irfft2(turned, s=(height, width), axes=(0, 1)), dtype=np.float64)


def phase_scramble_8bit(
    image: NDArray[np.uint8], rng: np.random.Generator, attempts: int = 5
) -> tuple[NDArray[np.uint8], float]:
    """Phase-scramble ``image`` and convert the result to 8 bits.

    Random phases make the histogram nearly Gaussian, so the tails of a high-contrast picture exceed
    the range 0 to 255. Values are rounded and clipped, never rescaled: rescaling would change the
    contrast of every picture by another factor. Draws phases up to ``attempts`` times, until
    nothing is clipped, and keeps the picture with the fewest clipped values. Around a mid-grey
    mean, almost nothing is clipped up to a standard deviation of 45, and some 4 % of values at 65.

    Returns
    -------
    the picture, in the shape of ``image``, and the share of its values that were clipped, 0 to 1
    """
    best, least = image, 2.0
    for _ in range(attempts):
        exact = np.rint(phase_scramble(image, rng))
        clipped = float(np.mean((exact < 0) | (exact > 255)))
        if clipped < least:
            best, least = np.clip(exact, 0, 255).astype(np.uint8), clipped
        if least == 0:
            break
    return best, least


def block_scramble(
    image: NDArray[np.uint8], rng: np.random.Generator, blocks: int = 16
) -> NDArray[np.uint8]:
    """Cut ``image`` into ``blocks`` by ``blocks`` tiles and shuffle them; keeps every pixel.

    If ``blocks`` divides both sides, any tile may go anywhere. Otherwise tile edges are at the
    rounded multiples of side / blocks, so that tiles differ by at most one pixel, and tiles of the
    same shape are shuffled among each other.

    Parameters
    ----------
    image : [h, w] or [h, w, channel]
    blocks : tiles along each side

    Raises
    ------
    UserError : ``blocks`` is below 2 or above the shorter side of ``image``
    """
    height, width = image.shape[:2]
    if not 2 <= blocks <= min(height, width):
        raise UserError(
            f"blocks must be between 2 and the shorter side of every image; got {blocks} for "
            f"{width} x {height} pixels: choose another number"
        )
    shapes: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for rows in _edges(height, blocks):
        for columns in _edges(width, blocks):
            shape = rows.stop - rows.start, columns.stop - columns.start
            shapes.setdefault(shape, []).append((rows, columns))
    scrambled = np.empty_like(image)
    for tiles in shapes.values():
        for target, source in zip(tiles, rng.permutation(len(tiles)), strict=True):
            scrambled[target] = image[tiles[source]]
    return scrambled


def _edges(length: int, blocks: int) -> list[slice]:
    edges = [(i * length + blocks // 2) // blocks for i in range(blocks + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def scramble_stimuli(
    source: Path | str,
    output: Path | str,
    *,
    method: Method,
    seed: int = 0,
    blocks: int = 16,
    note: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write a scrambled control of every image in ``source`` and in its folders.

    An image directly in ``source`` becomes ``output/<stem>.png``; one in a folder of ``source``
    becomes ``output/scrambled_<folder>/<stem>.png``. Images of a folder that share a stem become
    ``<stem>.<suffix>.png``. Grey images stay grey, all others become RGB. Each picture depends on
    ``seed`` and its own path within ``source`` only, not on other images or their order.

    Parameters
    ----------
    source : str or path
        The folder of images.
    output : str or path
        A new or empty folder.
    method : str
        ``phase`` (random phases, the same amplitude spectrum) or ``blocks`` (shuffled tiles).
    seed : int, default 0
        0 or more.
    blocks : int, default 16
        Tiles along each side, for ``blocks`` only.
    note : callable, optional
        Called with a line about pictures with more than 1 % clipped values. With random phases,
        high contrast (such as black text on white) does not fit into 8 bits, and loses part of its
        spectrum.

    Returns
    -------
    list of pathlib.Path
        The written files: those of ``source`` itself, then folder by folder.

    Raises
    ------
    UserError
        ``method`` is unknown, ``seed`` is negative, ``source`` has no images or is ``output``,
        ``output`` is not empty, or an image cannot be read or is too small for ``blocks``; nothing
        is left behind.

    Examples
    --------
    >>> files = fusiform.scramble_stimuli("stimuli/faces", "scrambled", method="blocks", blocks=8)
    >>> len(files), files[0].as_posix()
    (4, 'scrambled/faces-1.png')
    """
    source, output = Path(source), Path(output)
    if method not in get_args(Method):
        raise UserError(f"method must be one of {', '.join(get_args(Method))}; got {method!r}")
    refuse_seed(seed)
    pairs = _planned(source)
    if resolve_output(output) == resolve_output(source):
        raise UserError(f"scrambled images need another folder; {output} is the source")
    occupied = UserError(
        "scrambling never overwrites, so the output must be a new or empty folder; "
        f"{output} is neither: name another"
    )
    with fill_folder(output, occupied) as new:
        targets = [(path, new / name) for path, name in pairs]
        _scramble_all(source, targets, method, seed, blocks, note)
    return [output / name for _, name in pairs]


def _scramble_all(
    source: Path,
    pairs: Sequence[tuple[Path, Path]],
    method: Method,
    seed: int,
    blocks: int,
    note: Callable[[str], None],
) -> None:
    for path, target in pairs:
        image = np.asarray(open_image(path))
        own = sha256(path.relative_to(source).as_posix().encode()).digest()
        rng = np.random.default_rng([seed, *own])
        if method == "phase":
            scrambled, clipped = phase_scramble_8bit(image, rng)
            if clipped > 0.01:
                note(
                    f"{path}: {100 * clipped:.0f} % of its values were clipped; reduce its contrast"
                )
        else:
            scrambled = block_scramble(image, rng, blocks)
        if not target.parent.is_dir():  # exist_ok=True would hide some errors
            target.parent.mkdir(parents=True)
        Image.fromarray(scrambled).save(target)


def _planned(source: Path) -> list[tuple[Path, str]]:
    """Every image of ``source`` and its name in the output."""
    if not source.is_dir():
        raise UserError(f"images to scramble must be in a folder; {source} is not one")
    top = entries_of(source)
    for name in gone_folders(source, top):
        raise UnfitStimulus(source / name, LOST, FETCH)
    folders = [source / name for name in sorted(top.folders)]
    targets = [(source, "")] + [(p, f"scrambled_{p.name}/") for p in folders]
    pairs: list[tuple[Path, str]] = []
    for folder, target in targets:
        files = image_files(folder)
        pairs += zip(files, (target + name for name in _target_names(files)), strict=True)
    if not pairs:
        raise UserError(f"{source} and its folders hold no images: name another")
    return pairs


def _target_names(files: Sequence[Path]) -> list[str]:
    """A PNG name for each file: its stem, or its whole name if stems clash."""
    names = [file.stem for file in files]
    # A whole name can clash with another stem in turn (a.png, a.jpg and a.jpg.png), hence the loop.
    # It ends, as whole names differ.
    while clashes := {name for name, count in Counter(names).items() if count > 1}:
        pairs = zip(files, names, strict=True)
        names = [file.name if name in clashes else name for file, name in pairs]
    return [f"{name}.png" for name in names]
