"""Thumbnails of stimuli as ``data:`` URLs.

An untrusted store may name any folder: a file is shown only if it is an image and has the SHA-256
of the recorded stimulus.
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

# Side in pixels, larger than on the page for high-density screens, and JPEG quality.
_SIDE, _QUALITY = 112, 70
# Total size of a page's pictures, in characters.
MOST = 4_000_000


def pictures_of(
    stimuli: Sequence[Stimulus],
    recordings: Sequence[Recording],
    source: Path | str | None,
    note: Callable[[str], None],
) -> list[str | None]:
    """A ``data:`` URL for every stimulus; None if its file cannot be shown.

    Parameters
    ----------
    source : folder or manifest of the stimuli; by default the ``stimuli_place`` of each recording
    note : called with a message about stimuli that cannot be shown
    """
    found: dict[Stimulus, str] = {}
    left = MOST
    for number, recording in enumerate(recordings):
        own = [one for one in stimuli if one.recording == number]
        place = source or recording.stimuli_place
        folders = {dirname(one.path) for one in own}
        try:
            if not place:
                raise UserError(f"{recording.path} does not say where its stimuli are")
            catalogue = catalogue_of(place, [{folder: [folder] for folder in folders}])
        except UserError as error:
            note(f"stimuli are named and not shown: {error}; `stimuli` says where they are")
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
                f"they are missing or changed in {place}, or would make the page too large"
            )
    return [found.get(one) for one in stimuli]


def _picture(catalogue: Catalogue, row: int | None, sha256: str) -> str | None:
    if row is None:
        return None
    try:
        content = catalogue.read(row)
        if catalogue.pictures is not None and catalogue.listed is not None:
            known = catalogue.listed[row].tobytes().hex()  # SHA-256 of the file before packing
        else:
            known = hashlib.sha256(content).hexdigest()
        if known != sha256:
            return None
        image = ImageOps.fit(open_image(catalogue.path(row), content), (_SIDE, _SIDE))
    except UnfitStimulus:
        return None
    jpeg = BytesIO()
    image.convert("RGB").save(jpeg, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(jpeg.getvalue()).decode()}"
