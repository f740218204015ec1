"""Which units a recording is to hold: what was asked for, and what comes of it in a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contrasts.choice import Choice, choose_units, draw_units, joined
from ..contrasts.language.criterion import Criterion
from ..errors import UserError, nearest
from ..layer import Layer
from ..limits import refuse_numbers, refuse_seed
from ..querying.result import Result
from ..store.recording import columns_of, cut_of_rows, recorded_as
from ..values import as_record
from .recorder import held_bytes

Masks = Mapping[str, NDArray[np.bool_]]
# What has chosen units, and of every layer which.
Selected = list[tuple[str, dict[str, NDArray[np.int64]]]]
# Patterns that mean groups of a network's layers.
_GROUPS = {"blocks", "all", "leaf"}


@dataclass(frozen=True)
class Wanted:
    """The units that are asked for; see :func:`.record.record`.

    Raises
    ------
    UserError : they are chosen by their selectivity, and there is no ``source``; a projection to
        nothing
    """

    source: Result | None
    select: Sequence[str] | None
    criterion: Criterion
    top: int | None
    by: str
    random: int | None
    masks: Masks | None
    layers: Sequence[str] | None
    project: int | None
    seed: int

    def __post_init__(self) -> None:
        for name, given in (("select", self.select), ("top", self.top)):
            if given is not None and self.source is None:
                raise UserError(
                    f"units are chosen by their selectivity from a scan's store; got --{name} "
                    "without one: name it by --from, or choose --random units"
                )
        refuse_seed(self.seed)
        refuse_numbers(top=self.top, random=self.random, project=self.project)
        if self.project is not None and self.project < 1:
            raise UserError(f"a projection has at least 1 dimension; got {self.project}")

    @property
    def patterns(self) -> list[str]:
        """The layers, as patterns of the network, or names of the source's."""
        asked = None if self.layers is None else list(self.layers)
        if self.source is None:
            return asked or ["blocks"]
        if asked is None or _GROUPS & set(asked):
            return [layer.name for layer in self.source.layers]
        return [layer.name for layer in self.source.layers_named(asked)]

    def selected(self) -> Selected:
        """The units that are chosen by their selectivity, by contrast and layer.

        Raises
        ------
        UserError : see :func:`..contrasts.choice.choose_units`
        """
        if self.source is None or (self.select is None and self.top is None):
            return []
        every = self.select is None or list(self.select) == ["*"]
        criterion = None if self.select is None else self.criterion
        contrasts = None if every else self.select
        return choose_units(self.source, contrasts, criterion, self.top, self.by, self.patterns)

    def in_layers(
        self,
        selected: Sequence[tuple[str, Mapping[str, NDArray[np.int64]]]],
        layers: Sequence[Layer],
    ) -> Choice:
        """All units that are to be recorded of a network's ``layers``, with those ``selected``.

        Raises
        ------
        UserError : there are none; a mask is not of a layer
        """
        parts = [*selected]
        if self.random is not None:
            parts.append(("random", draw_units(layers, self.random, self.seed)))
        if self.masks is not None:
            parts.append(("mask", _masked(self.masks, layers)))
        if not parts:
            parts.append(("all", {one.name: np.arange(one.units) for one in layers}))
        choice = joined(parts).within([one.name for one in layers])
        if not choice.units:
            raise UserError(
                f"a recording is of one unit or more; {', '.join(choice.names)} chose none in "
                "these layers: choose others, or by another criterion"
            )
        return choice

    def held(self, choice: Choice, stimuli: int) -> dict[str, int]:
        """Bytes that are held of every layer while so many stimuli are recorded."""
        found = {}
        for name, own in choice.units.items():
            columns = columns_of(len(own), self.project)
            rows = cut_of_rows(stimuli, columns)[0]
            found[name] = held_bytes(rows, len(own), columns)
        return found

    def provenance(self, choice: Choice) -> dict[str, Any]:
        """What a recording says of its units, and of how they were chosen."""
        given = {"select": self.select and list(self.select), "top": self.top,
                 "random": self.random}  # fmt: skip
        chosen_by: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        if self.select is not None:
            chosen_by["criterion"] = as_record(self.criterion)
        if self.top is not None:
            chosen_by["by"] = self.by
        if self.random is not None:
            chosen_by["seed"] = self.seed
        found = {
            "recorded": recorded_as(choice.units),
            "choices": list(choice.names),
            "chosen_by": chosen_by,
        }
        if self.project is not None:
            found["projection"] = {"dim": self.project, "seed": self.seed}
        if self.source:
            fingerprint = self.source.provenance.get("fingerprint")
            path = self.source.path
            store = str(path.absolute() if isinstance(path, Path) else path)
            found["source"] = {"store": store, "fingerprint": fingerprint}
        return found


def _masked(masks: Masks, layers: Sequence[Layer]) -> dict[str, NDArray[np.int64]]:
    by_name = {layer.name: layer for layer in layers}
    found = {}
    for name, mask in masks.items():
        if name not in by_name:
            raise UserError(
                f"a mask is of a layer that is recorded; there is no {name!r} among them: "
                f"{nearest(name, by_name)}"
            )
        shape = by_name[name].shape
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape not in (shape, (by_name[name].units,)):
            raise UserError(
                f"a mask says of every unit of its layer whether it is recorded; that of {name} is "
                f"{mask.dtype} {list(mask.shape)}, and the layer has shape {list(shape)}"
            )
        found[name] = np.flatnonzero(mask).astype(np.int64)
    return found
