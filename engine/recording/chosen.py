"""The units of a recording: a request resolved in a store and a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contrasts.choice import Choice, choose_units, draw_units, joined
from ..errors import UserError, nearest
from ..layer import Layer
from ..querying.store import Store
from ..store.attributes import n_columns
from ..store.chunking import response_shape
from ..store.recording_reader import recorded_attribute
from ..urls import Url
from ..values import as_record
from .recorder import held_bytes
from .unit_request import Masks, UnitRequest

# What chose units -> the units of every layer.
Selected = list[tuple[str, dict[str, NDArray[np.int64]]]]


@dataclass(frozen=True)
class ChosenUnits:
    """A request for units, resolved in a store and a network.

    ``layers`` are patterns of the network's layers, or names of the source's. ``seed`` draws units.

    Raises
    ------
    UserError : units are chosen by their selectivity without a source
    """

    request: UnitRequest
    source: Store | None
    layers: Sequence[str]
    seed: int

    def __post_init__(self) -> None:
        for name, given in (("select", self.request.select), ("top", self.request.top)):
            if given is not None and self.source is None:
                raise UserError(
                    f"units are chosen by their selectivity in the store of a scan; got `{name}` "
                    "without one: name a `store`, or choose units with `random`"
                )

    def selected(self) -> Selected:
        """Units chosen by their selectivity, by contrast and layer.

        Raises
        ------
        UserError : see :func:`..contrasts.choice.choose_units`
        """
        asked = self.request
        if self.source is None or (asked.select is None and asked.top is None):
            return []
        every = asked.select is None or list(asked.select) == ["*"]
        criterion = None if asked.select is None else asked.criterion
        contrasts = None if every else asked.select
        return choose_units(self.source, contrasts, criterion, asked.top, asked.by, self.layers)

    def in_layers(
        self,
        selected: Sequence[tuple[str, Mapping[str, NDArray[np.int64]]]],
        layers: Sequence[Layer],
    ) -> Choice:
        """All units to record in a network's ``layers``, together with those ``selected``.

        Raises
        ------
        UserError : there are none; a mask fits no layer
        """
        parts = [*selected]
        if self.request.random is not None:
            parts.append(("random", draw_units(layers, self.request.random, self.seed)))
        if self.request.masks is not None:
            parts.append(("mask", _masked(self.request.masks, layers)))
        if not parts:
            parts.append(("all", {one.name: np.arange(one.units) for one in layers}))
        choice = joined(parts).within([one.name for one in layers])
        if not choice.units:
            raise UserError(
                f"a recording holds at least one unit; {', '.join(choice.names)} chose none in "
                "these layers: choose others, or another criterion"
            )
        return choice

    def held(self, choice: Choice, stimuli: int) -> dict[str, int]:
        """Bytes held of every layer while this number of stimuli is recorded."""
        found = {}
        for name, own in choice.units.items():
            columns = n_columns(len(own), self.request.project)
            rows = response_shape(stimuli, columns)[0]
            found[name] = held_bytes(rows, len(own), columns)
        return found

    def provenance(self, choice: Choice) -> dict[str, Any]:
        """Attributes of a recording: its units, and how they were chosen."""
        asked = self.request
        select = asked.select and list(asked.select)
        given = {"select": select, "top": asked.top, "random": asked.random}
        chosen_by: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        if self.request.select is not None:
            chosen_by["criterion"] = as_record(self.request.criterion)
        if self.request.top is not None:
            chosen_by["by"] = self.request.by
        if self.request.random is not None:
            chosen_by["seed"] = self.seed
        found = {
            "recorded": recorded_attribute(choice.units),
            "choices": list(choice.names),
            "chosen_by": chosen_by,
        }
        if self.request.project is not None:
            found["projection"] = {"dim": self.request.project, "seed": self.seed}
        if self.source:
            fingerprint = self.source.provenance.get("fingerprint")
            path = self.source.path
            store = str(path if isinstance(path, Url) else Path(path).absolute())
            found["source"] = {"store": store, "fingerprint": fingerprint}
        return found


def _masked(masks: Masks, layers: Sequence[Layer]) -> dict[str, NDArray[np.int64]]:
    by_name = {layer.name: layer for layer in layers}
    found = {}
    for name, mask in masks.items():
        if name not in by_name:
            raise UserError(
                f"masks are for recorded layers; {name!r} is none of them: {nearest(name, by_name)}"
            )
        shape = by_name[name].shape
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape not in (shape, (by_name[name].units,)):
            raise UserError(
                f"a mask is boolean, in the shape of its layer; that of {name} is {mask.dtype} "
                f"{list(mask.shape)}, and the layer has shape {list(shape)}"
            )
        found[name] = np.flatnonzero(mask).astype(np.int64)
    return found
