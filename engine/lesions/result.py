"""The result of a lesion: what changed in each category, and by how much more than a control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..results import Result, long_form
from ..table import Table, of_rows

# The readout of networks that end in class scores, and its quantities.
CLASSES = "classes"
QUANTITIES = {
    "probability": "of the class that the intact network chooses",
    "same_choice": "share of stimuli for which the chosen class stays the same",
    "total_variation": "distance of the class probabilities from the intact network's",
}
# Columns of the long form.
COLUMNS: dict[str, type] = {
    "store": str, "criterion": str, "contrast": str, "readout": str, "selected_on": str,
    "lesion": str, "control": str, "layer": str, "category": str, "quantity": str, "value": float,
    "low": float, "high": float,
}  # fmt: skip


@dataclass(frozen=True)
class Silenced:
    """The units that a lesion silences in a layer.

    All numbers are means over draws, and over the folds that select.

    Attributes
    ----------
    lesion : str
        ``selective``, or the name of a control.
    layer : str
        Name of the layer.
    units : float
        Number of units that are silenced.
    living : float
        Number of living units.
    response : float
        Mean of their mean responses to the stimuli that selected units.
    """

    lesion: str
    layer: str
    units: float
    living: float
    response: float


@dataclass(frozen=True)
class Effect:
    """A quantity of the readout in one category, with and without a lesion.

    Attributes
    ----------
    quantity : str
        The quantity.
    lesion : str
        ``selective``, or the name of a control.
    category : str
        A category; or the contrast of the lesion: then values are the contrast's weights times
        those of the categories.
    stimuli : int
        Number of stimuli.
    intact, lesioned : float
        Means over stimuli and draws.
    change : float
        ``lesioned`` less ``intact``.
    low, high : float
        95 % interval of the change over resampled stimuli.
    draw_low, draw_high : float or None
        Smallest and largest change of a draw; None without several.
    """

    quantity: str
    lesion: str
    category: str
    stimuli: int
    intact: float
    lesioned: float
    change: float
    low: float
    high: float
    draw_low: float | None
    draw_high: float | None


@dataclass(frozen=True)
class LesionDifference:
    """The change by the selective units less that by a control, in one category.

    Where ``category`` is the contrast of the lesion, it is their interaction: whether the lesion of
    selective units changes the target's categories more than others, beyond what the control does.

    Attributes
    ----------
    quantity : str
        The quantity.
    control : str
        Name of the control.
    category : str
        A category, or the contrast of the lesion.
    difference : float
        The difference of the two changes.
    low, high : float
        Its 95 % interval over resampled stimuli.
    """

    quantity: str
    control: str
    category: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class LesionEffects(Result):
    """Result of :func:`fusiform.measure_lesions`.

    Attributes
    ----------
    store : str
        Path of the scan that selected units.
    provenance : mapping
        Attributes of its root.
    contrast : str
        The contrast whose selective units were silenced.
    contrast_row : str
        Name of the contrast among the categories of rows; empty if the stimuli lack some of its
        categories.
    criterion : str
        The criterion in words.
    layers : tuple of str
        Layers in which units were silenced.
    readout : str
        ``classes`` or the name of a function.
    quantities : tuple of str
        Values of the readout.
    categories : tuple of str
        Categories of the stimuli.
    selected_on : str
        Which stimuli selected the units: ``other folds`` than those that were measured, ``other
        stimuli``, or ``the same stimuli``.
    stimuli : int
        Number of stimuli.
    draws : int
        Draws of each control that is random.
    resamples : int
        Draws of stimuli, for intervals.
    seed : int
        Seed of the draws.
    silenced : tuple of Silenced
        Numbers of units, and their mean response, by lesion and layer.
    effects : tuple of Effect
        Each quantity with and without each lesion, by category.
    differences : tuple of LesionDifference
        Changes by the selective units less those by each control.
    lesions : tuple of str
        Names of the lesions: the selective units, and the controls.
    """

    store: str
    provenance: Mapping[str, Any]
    contrast: str
    contrast_row: str
    criterion: str
    layers: tuple[str, ...]
    readout: str
    quantities: tuple[str, ...]
    categories: tuple[str, ...]
    selected_on: str
    stimuli: int
    draws: int
    resamples: int
    seed: int
    silenced: tuple[Silenced, ...]
    effects: tuple[Effect, ...]
    differences: tuple[LesionDifference, ...]

    _drawn_by = "fusiform.plot.lesions(effects)"

    @property
    def lesions(self) -> tuple[str, ...]:
        """Names of the lesions: the selective units, and the controls."""
        return tuple(dict.fromkeys(row.lesion for row in self.silenced))

    def tables(self) -> Iterator[Table]:
        """All values in long form, in columns ``COLUMNS``; the first table has no rows.

        A ``QUANTITY_change_of_draws`` has the same value as ``QUANTITY_change``, and for ``low``
        and ``high`` the smallest and largest of a draw.
        """
        yield Table({}).arranged(COLUMNS)
        names = ("store", "criterion", "contrast", "readout", "selected_on")
        common = {name: getattr(self, name) for name in names}
        parts = [long_form(of_rows(self.silenced))]
        for quantity in self.quantities:
            own = [row for row in self.effects if row.quantity == quantity]
            table = of_rows(own).without("quantity", "stimuli", "draw_low", "draw_high")
            parts.append(long_form(table, {"change": ""}, f"{quantity}_"))
            drawn = [row for row in own if row.draw_low is not None]
            if drawn:
                table = Table({name: [getattr(row, name) for row in drawn]
                               for name in ("lesion", "category", "draw_low", "draw_high")}
                              | {"change_of_draws": [row.change for row in drawn]})  # fmt: skip
                parts.append(long_form(table, {"change_of_draws": "draw_"}, f"{quantity}_"))
            table = of_rows([row for row in self.differences if row.quantity == quantity])
            if len(table):
                table = table.without("quantity")
                parts.append(long_form(table, {"difference": ""}, f"{quantity}_"))
        for part in parts:
            for name, text in common.items():
                part = part.labelled(name, text)
            yield part.arranged(COLUMNS)
