"""The most selective recorded units, and the stimuli that drive them most and least."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..analyses.analyse import Analysis
from ..contrasts.language.contrast import parse_contrast
from ..errors import UserError, shortened
from ..responses.driving import Driven, Image, contrasts_of, measured_folds, strongest
from ..responses.recording import Recording
from ..store.identity import IDENTITY, NETWORK, difference
from ..store.store_reader import StoreReader

# Units per layer and contrast, and stimuli per unit.
_UNITS, _IMAGES = 2, 6
# Two passes over one network may differ in anything but the network.
_MAY_DIFFER = IDENTITY.keys() - set(NETWORK)


class Stimulus(NamedTuple):
    """A stimulus on the page: its row in a recording, its path and category."""

    recording: int
    row: int
    path: str
    category: str


def store_of(recording: Recording, stores: Sequence[StoreReader]) -> int:
    """Index of the store that a recording was made from, or of one of the same network.

    Raises
    ------
    UserError : there is none
    """
    source = recording.provenance.get("source")
    made_from = source.get("fingerprint") if isinstance(source, dict) else None
    for place, store in enumerate(stores):
        if made_from is not None and store.provenance.get("fingerprint") == made_from:
            return place
    for place, store in enumerate(stores):
        if not difference(recording.provenance, store.provenance, _MAY_DIFFER):
            return place
    raise UserError(
        f"a recording is shown beside the store of its network; {recording.path} is of "
        f"{recording.provenance['model']} ({recording.provenance['weights']}), unlike "
        f"{shortened(store.path for store in stores)}: name its store too"
    )


def best_units(recording: Recording, store: Analysis) -> list[Driven]:
    """The units with the largest AUC for every layer and contrast of both recording and store.

    See :func:`..responses.driving.strongest`. Only contrasts that the recorded units were chosen by
    are used, unless the page shows none of them. Weighted sums have no AUC and are left out.
    """
    known = [name for name in store.contrasts if _has_sides(recording, name)]
    chosen = contrasts_of(recording) or []
    contrasts = [name for name in known if name in chosen] or known
    layers = [name for name in store.layers if _has_units(recording, name)]
    if not layers or not contrasts:
        return []
    return strongest(recording, contrasts, layers, _UNITS, _IMAGES)


def _has_sides(recording: Recording, contrast: str) -> bool:
    try:
        return not parse_contrast(contrast, recording.categories).weighted
    except UserError:  # of categories that were not recorded
        return False


def _has_units(recording: Recording, layer: str) -> bool:
    """Whether a layer was recorded unit by unit, not projected."""
    if layer not in {one.name for one in recording.layers}:
        return False
    try:
        recording.require_units(layer)
    except UserError:
        return False
    return True


def shown_stimuli(found: Iterable[tuple[int, Driven]]) -> list[Stimulus]:
    """The distinct stimuli shown for units of numbered recordings."""
    return list(dict.fromkeys(
        Stimulus(number, image.row, image.path, image.category)
        for number, unit in found
        for image in (*unit.most, *unit.least)
    ))  # fmt: skip


def rows_of(
    number: int, recording: Recording, units: Iterable[Driven], stimuli: Sequence[Stimulus]
) -> list[dict[str, Any]]:
    """Units of a numbered recording as rows for the page; stimuli are indices into its list."""
    selected = contrasts_of(recording) is not None
    places = {(one.recording, one.row): place for place, one in enumerate(stimuli)}

    def listed(images: Sequence[Image]) -> list[dict[str, Any]]:
        return [{"stimulus": places[number, one.row], "response": one.response} for one in images]

    return [
        {
            "layer": unit.layer,
            "contrast": unit.contrast,
            "place": recording.layer(unit.layer).where(unit.place, ", "),
            "auc": unit.auc,
            "held_out": bool(measured_folds(recording)),
            "selected": selected,
            "lowest": unit.lowest,
            "most": listed(unit.most),
            "least": listed(unit.least),
        }
        for unit in units
    ]


def described(stimulus: Stimulus, picture: str | None) -> Mapping[str, Any]:
    """A stimulus as JSON for the page."""
    return {"name": stimulus.path, "category": stimulus.category, "image": picture}
