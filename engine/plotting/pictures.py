"""Thumbnails of recorded stimuli.

An untrusted recording may name any folder: a file is shown only if it is an image and has the
SHA-256 of the recorded stimulus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from posixpath import dirname

from PIL import Image, ImageOps

from ..errors import UserError
from ..responses.recording import Recording
from ..stimuli.catalogue import Catalogue, catalogue_of
from ..stimuli.images import UnfitStimulus, open_image


def thumbnails(
    recording: Recording, rows: Sequence[int], source: Path | str | None, side: int
) -> list[Image.Image | None]:
    """Stimuli in rows of a recording as square pictures; None if a file is missing or changed.

    Parameters
    ----------
    source : folder or manifest of the stimuli; by default the recording's ``stimuli_place``
    side : pixels of a side

    Raises
    ------
    UserError : there are no stimuli at that place, or the recording names none
    """
    place = source or recording.stimuli_place
    if not place:
        raise UserError(f"{recording.path} does not say where its stimuli are")
    paths, hashes = map(recording.stimulus_column, ("stimulus_path", "stimulus_sha256"))
    folders = {dirname(str(paths[row])) for row in rows}
    catalogue = catalogue_of(place, [{folder: [folder] for folder in folders}])
    numbers = {name: number for number, name in enumerate(catalogue.shown_names)}
    return [
        _thumbnail(catalogue, numbers.get(str(paths[row])), str(hashes[row]), side) for row in rows
    ]


def _thumbnail(
    catalogue: Catalogue, number: int | None, sha256: str, side: int
) -> Image.Image | None:
    if number is None:
        return None
    try:
        content = catalogue.read(number)
        if catalogue.pictures is not None and catalogue.listed is not None:
            known = catalogue.listed[number].tobytes().hex()  # SHA-256 of the file before packing
        else:
            known = hashlib.sha256(content).hexdigest()
        if known != sha256:
            return None
        image = ImageOps.fit(open_image(catalogue.path(number), content), (side, side))
    except UnfitStimulus:
        return None
    return image.convert("RGB")
