"""Small pictures of stimuli, as addresses that hold the picture itself.

A store may come from a stranger and name any folder: what lies there is shown only if it has the
SHA-256 of the stimulus that was recorded, and is an image.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from posixpath import dirname

from PIL import ImageOps

from ..errors import UserError
from ..responses.recording import Recording
from ..stimuli.catalogue import Catalogue, catalogue_of
from ..stimuli.images import UnfitStimulus, open_image
from .best import Stimulus

# Sides in pixels: twice what the page shows, for screens with two pixels to one.
_SIDE, _QUALITY = 112, 70
# All pictures of a page together, in characters.
MOST = 4_000_000


def pictures_of(
    stimuli: Sequence[Stimulus],
    recordings: Sequence[Recording],
    source: Path | str | None,
    note: Callable[[str], None],
) -> list[str | None]:
    """A picture of every stimulus as a ``data:`` address; None where there is none to be had.

    Parameters
    ----------
    source : where the stimuli lie; by default the ``stimuli_place`` of each recording
    note : hears what cannot be shown, and why
    """
    found: dict[Stimulus, str] = {}
    left = MOST
    for number, recording in enumerate(recordings):
        own = [one for one in stimuli if one.recording == number]
        place = source or recording.stimuli_place
        folders = {dirname(one.path) for one in own}
        try:
            if not place:
                raise UserError(f"{recording.path} does not say where its stimuli lie")
            catalogue = catalogue_of(place, {folder: folder for folder in folders})
        except UserError as error:
            note(f"stimuli are named and not shown: {error}; --stimuli says where they are")
            continue
        rows = {name: row for row, name in enumerate(catalogue.shown_names)}
        hashes = recording.stimulus_column("stimulus_sha256")
        missing = 0
        for one in own:
            picture = _picture(catalogue, rows.get(one.path), str(hashes[one.row]))
            if picture is None or len(picture) > left:
                missing += 1
                continue
            found[one] = picture
            left -= len(picture)
        if missing:
            note(
                f"{missing:,} of {len(own):,} stimuli of {recording.path} are named and not shown: "
                f"they are not in {place} as they were, or would make the page too large"
            )
    return [found.get(one) for one in stimuli]


def _picture(catalogue: Catalogue, row: int | None, sha256: str) -> str | None:
    if row is None:
        return None
    try:
        content = catalogue.read(row)
        if catalogue.pictures is not None and catalogue.listed is not None:
            known = catalogue.listed[row].tobytes().hex()  # of the file that was packed
        else:
            known = hashlib.sha256(content).hexdigest()
        if known != sha256:
            return None
        image = ImageOps.fit(open_image(catalogue.path(row), content), (_SIDE, _SIDE))
    except UnfitStimulus:
        return None
    held = BytesIO()
    image.convert("RGB").save(held, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(held.getvalue()).decode()}"
