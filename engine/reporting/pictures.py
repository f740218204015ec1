"""Thumbnails of stimuli as ``data:`` URLs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from PIL.Image import Image

from ..errors import UserError
from ..plotting.pictures import thumbnails
from ..responses.recording import Recording
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
        try:
            images = thumbnails(recording, [one.row for one in own], source, _SIDE)
        except UserError as error:
            note(f"stimuli are named and not shown: {error}; `stimuli` says where they are")
            continue
        missing = 0
        for one, image in zip(own, images, strict=True):
            picture = None if image is None else _data_url(image)
            if picture is None or len(picture) > left:
                missing += 1
                continue
            found[one] = picture
            left -= len(picture)
        if missing:
            place = source or recording.stimuli_place
            note(
                f"{missing:,} of {len(own):,} stimuli of {recording.path} are named and not shown: "
                f"they are missing or changed in {place}, or would make the page too large"
            )
    return [found.get(one) for one in stimuli]


def _data_url(image: Image) -> str:
    jpeg = BytesIO()
    image.save(jpeg, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(jpeg.getvalue()).decode()}"
