"""Captions of the figures of results: what they show, and where their intervals come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..comparing.brains.compare import BrainComparison
from ..comparing.brains.controls import DRAWS
from ..comparing.differences import Comparison
from ..comparing.localizers import LocalizerComparison
from ..errors import shortened
from ..lesions.result import QUANTITIES, LesionEffects
from ..plotting.axes import FEW
from ..store.location import name_of

_EXPLORATORY = "Exploratory: not corrected for the number of checkpoints, layers and categories."
_REFERENCES = {
    "untrained": "that of the untrained network (95 % interval of the difference above 0)",
    "chance": "the share that 5 % of the network's own shuffles reach",
}
_LESIONS = {
    "matched": "other units of the layer with the same distribution of mean responses",
    "random": "others at random",
    "least": "those that prefer neither side of the contrast",
}
_PARAMETER = re.compile(r"; `\w+` [^;]*$")
_FEW = f"Means of fewer than {FEW} units are in the numbers only."


class Caption(NamedTuple):
    """The title and the caption of a figure."""

    title: str
    text: str


def training(found: Comparison, stores: Sequence[str], said: Sequence[str]) -> dict[str, Caption]:
    """Captions of measures by position, and of onsets if there are any."""
    models = dict.fromkeys(str(one["model"]) for one in found.provenance)
    shown = f"{len(stores)} checkpoints of {' and '.join(models)}: {shortened(stores, 12)}."
    references = dict.fromkeys(one.reference for one in found.onsets)
    filled = [f"Filled markers: from here on the share lies above {_REFERENCES[name]}."
              for name in [*references][:1]]  # fmt: skip
    captions = {
        "training": Caption(
            f"Selectivity by {found.axis} in a layer",
            _joined(
                shown,
                f"Bands: 95 % intervals over {found.resamples:,} draws of whole feature maps, of "
                "each checkpoint by itself. Means whose interval has no width are in the numbers "
                "only: their units are of one feature map.",
                *filled,
                _EXPLORATORY,
                *_sentences(said),
            ),
        )
    }
    if references:
        above = ", or ".join(_REFERENCES[name] for name in references)
        captions["onsets"] = Caption(
            "When selectivity begins",
            f"Share above {above}. For good: at every later {found.axis} too, of which the last "
            f"has none. Grey: never. {_EXPLORATORY}",
        )
    return captions


def localizers(
    found: LocalizerComparison, stores: Sequence[str], said: Sequence[str]
) -> dict[str, Caption]:
    """Captions of the overlap, and of the units of one localizer measured by the other."""
    matched = [own if own == its else f"{own} = {its}" for own, its in found.matched]
    drawn = f"95 % intervals over {found.resamples:,} draws of whole feature maps"
    return {
        "localizers": Caption(
            "Units that two localizers select",
            _joined(
                f"{stores[0]} and {stores[1]}, one network, each on all its stimuli; categories: "
                f"{shortened(matched, 24)}{_without(found)}. Bands: {drawn}. Grey: as many units "
                "at random within the feature maps that each localizer selects in, or anywhere in "
                "layers without several units in a map (95 % of draws).",
                *_sentences(said),
            ),
        ),
        "crossed": Caption(
            "Units of one localizer, measured by the other",
            f"Units that one localizer selects on all its stimuli, on the stimuli of the other. "
            f"Bands: {drawn}. Grey: within one localizer, units that a fold selects, on its other "
            f"folds. Dotted: all living units, on the other's stimuli. {_FEW}",
        ),
    }


def _without(found: LocalizerComparison) -> str:
    alone = [name for names in found.unmatched for name in names]
    return f" (not in both: {shortened(alone, 24)})" if alone else ""


def regions(found: BrainComparison, store: str, said: Sequence[str]) -> dict[str, Caption]:
    """The caption of correlations with regions; ``said`` says how units were chosen, and more."""
    chosen, *notes = said
    ceilings = {
        "given": "Pale band: the noise ceiling that the table gives.",
        "subjects": "Pale band: noise ceiling, from the differences between subjects.",
    }
    controlled = any(row.random_units is not None for row in found.correlations)
    text = _joined(
        f"{store} and the regions of {name_of(found.regions)}: {found.correlation.capitalize()} "
        f"correlation of {found.compared}; {chosen}.",
        "" if found.held_out or not chosen.startswith("selective") else
        "Units are measured on the stimuli that selected them.",
        f"Filled: p at most 0.05 in {found.orders:,} permutations, corrected over layers, not over "
        "regions and populations.",
        f"Grey band: as many random units of the layer (95 % of {DRAWS} draws)." * controlled,
        ceilings.get(found.ceilings, ""),
        "A population responds most to its own target by construction: choose \"without\" to leave "
        "the target out.",
        *_sentences(notes),
    )  # fmt: skip
    return {"regions": Caption("Correlation with a brain region", text)}


def lesions(found: LesionEffects, store: str) -> dict[str, Caption]:
    """The caption of the changes that a lesion and its controls make."""
    controls = [f"{name}, {_LESIONS[name]}" for name in found.lesions if name in _LESIONS]
    numbers = [row.units for row in found.silenced if row.lesion == found.lesions[0]]
    mean = " (a mean over folds)" if sum(numbers) % 1 else ""
    meanings = [f"{name}, {QUANTITIES[name]}" for name in found.quantities if name in QUANTITIES]
    said = f" ({'; '.join(meanings)})" if meanings else ""
    text = _joined(
        f"{store}: the units selective for {found.contrast} ({found.criterion}) in "
        f"{shortened(found.layers, 12)} are silenced, {sum(numbers):,.10g} in all{mean}.",
        f"Controls are as many units of the same layers: {'; '.join(controls)}." if controls else
        "",
        f"Readout: {found.readout}, of {found.stimuli:,} stimuli{said}; units were selected on "
        f"{found.selected_on}.",
        f"{found.contrast_row}: the change of the target's stimuli less that of the baseline's."
        if found.contrast_row else "",
        f"Bars: 95 % intervals over {found.resamples:,} draws of stimuli"
        f"{f'; controls are means over {found.draws} draws of units' if controls else ''}. "
        "They speak of other stimuli, not of other networks.",
    )  # fmt: skip
    return {"lesions": Caption(f"Lesions of units selective for {found.contrast}", text)}


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _sentences(notes: Sequence[str]) -> list[str]:
    """Notes as sentences, without parameters that a reader of the page cannot give."""
    texts = [_PARAMETER.sub("", note).rstrip(".") for note in notes]
    return [f"{text[:1].upper()}{text[1:]}." for text in texts]
