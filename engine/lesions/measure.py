"""Measure a lesion: what silencing selective units, or controls, changes in a network's output."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..contrasts.controls import contrast_of
from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.lesion_request import LesionRequest
from ..decoding.ahead import Decoded, normalise
from ..errors import UserError
from ..layer import Layer
from ..limits import refuse_numbers
from ..networks.hooks import lesion, refuse_functions
from ..networks.inputs import Inputs, called
from ..networks.layers import untouched
from ..networks.lending import lent
from ..networks.placement import input_dtype, multiplied
from ..querying.store import Store
from ..recording.earlier_scan import (
    as_scanned,
    asked_again,
    compared,
    network_again,
    stimuli_again,
)
from ..scanning.bar import listening
from ..scanning.interrupt import Stop, asked_to_stop
from ..scanning.loop import note_invisible
from ..scanning.memory import peak_memory
from ..scanning.progress import Listener, Progress
from ..scanning.setup import Setup, check_machine, set_up
from ..scanning.stimulus_set import read_stimuli
from ..spec import Design, Network, Request, Resources, Stimuli
from ..stimuli.catalogue import Catalogue
from .effects import Contrasted, Outcomes, effects_of
from .masks import Lesions, each_draw, lesions_for
from .readouts import Readout, readout_of
from .result import CLASSES, LesionEffects
from .shortcut import Shortcut


def measure_lesions(
    store: str | Path | Store,
    request: LesionRequest,
    network: Network | str | nn.Module | None = None,
    stimuli: Any = None,
    *,
    readout: str | None = None,
    resamples: int = 1000,
    batch_size: int | None = None,
    resources: Resources = Resources(),
    progress: bool | Listener = True,
) -> LesionEffects:
    """Silence a network's selective units, and as many others, and measure what changes.

    Every stimulus is shown to the intact network and to the network with each lesion, batch by
    batch; no activation is kept. Units are selected on one fold of the scan and silenced for the
    stimuli of the others; a stimulus that sees the units of several folds has their average. If
    the scan had none of the stimuli, those units are silenced that all of its own select.
    ``docs/reference/definitions.md`` has the formulas.

    Parameters
    ----------
    store : Store, str or path
        The store of a scan.
    request : LesionRequest
        Which units are silenced, and their controls.
    network : Network, str or torch.nn.Module, optional
        As in :func:`fusiform.scan`; by default that of the ``store``. A network of your own, a
        module or a function, is given again.
    stimuli : Stimuli, str, path, mapping or Dataset, optional
        As in :func:`fusiform.scan`; by default those of the ``store``.
    readout : str, optional
        ``package.module:function``, which is called with the network's output for a batch and the
        list of its stimuli's categories, and returns numbers ``[stimulus]`` or ``[stimulus,
        quantity]``; or ``classes``, the default of a network that ends in class scores: the
        probability of the class that the intact network chooses, whether it is still chosen, and
        the total variation distance from the intact network's probabilities.
    resamples : int, default 1000
        Draws of stimuli, for intervals.
    batch_size : int, optional
        Stimuli per forward pass; by default as in the scan.
    resources : Resources, optional
        Device, memory, threads.
    progress : bool or Listener, default True
        As in :func:`fusiform.scan`.

    Returns
    -------
    LesionEffects
        Changes by every lesion, and their differences from those by controls.

    Raises
    ------
    UserError
        There are no selective units, or too few others; the network is another than the scan's; it
        has no class scores and there is no ``readout``; the readout fails.
    KeyboardInterrupt
        At SIGINT or SIGTERM, after a batch; nothing is kept.

    See Also
    --------
    lesion : Silence units of a module for measurements of your own.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> request = fusiform.LesionRequest("faces", "layer4.1", top, controls="random", draws=1)
    >>> effects = fusiform.measure_lesions("r18.zarr", request, resamples=20)
    >>> effects.lesions, effects.quantities
    (('selective', 'random'), ('probability', 'same_choice', 'total_variation'))
    >>> difference = effects.differences[0]
    >>> difference.quantity, difference.control, difference.category
    ('probability', 'random', 'bodies')
    """
    refuse_numbers(resamples=resamples)
    if resamples < 1:
        raise UserError(f"resamples is a number of random draws, at least 1; got {resamples}")
    source = Store.of(store)
    refuse_functions(source.units)
    contrast = contrast_of(request, source)
    network = network_again(source) if network is None else network
    seen = Stimuli.of(stimuli_again(source) if stimuli is None else stimuli)
    if seen.is_stream:
        raise UserError(
            "a lesion is measured on every stimulus, and a stream does not say how many come: give "
            "a map-style Dataset"
        )
    layers = [layer.name for layer in source.layers_named(request.layers)]
    with listening(progress) as listener, lent(Network.of(network).model):
        design = Design(layers, batch_size=batch_size)
        asked = Request(Network.of(network), seen, design, resources)
        lesions, setup = _set_up(source, asked, request, listener)
        outcomes, found = _shown(setup, lesions, source.units, readout, listener)
    categories = setup.catalogue.categories
    row = _contrasted(request.contrast, categories)
    quantities = found.quantities
    effects, differences = effects_of(
        outcomes, quantities, categories, row, resamples, request.seed
    )
    return LesionEffects(
        store=str(source.path),
        provenance=source.provenance,
        contrast=contrast.text,
        contrast_row=row.name if row else "",
        criterion=str(request.criterion),
        layers=tuple(layers),
        readout=readout or CLASSES,
        quantities=quantities,
        categories=tuple(categories),
        selected_on=lesions.selected_on,
        stimuli=outcomes.measured,
        draws=request.draws,
        resamples=resamples,
        seed=request.seed,
        silenced=lesions.silenced,
        effects=effects,
        differences=differences,
    )


def _set_up(
    source: Store, asked: Request, request: LesionRequest, listener: Listener
) -> tuple[Lesions, Setup]:
    """The lesions, and the scan's network and stimuli as in the scan, but for the batch size.

    Stimuli are shown fold by fold, so that batches are of one fold.
    """
    size = asked.design.batch_size
    network, design = as_scanned(source, asked.network, replace(asked.design, batch_size=None))
    size = size or source.design.batch_size
    design = replace(design, folds=1, null=0, null_units=1, batch_size=size)
    asked, own = asked_again(source, replace(asked, network=network, design=design), listener)
    check_machine(asked)
    shown = read_stimuli(asked.stimuli, listener, own)
    lesions = lesions_for(source, shown.catalogue, request, listener)

    def nothing_held(_: Catalogue, layers: Sequence[Layer]) -> dict[str, int]:
        return {layer.name: 0 for layer in layers}

    setup = set_up(asked, shown, listener, held_of=nothing_held)
    setup = compared(source, setup, listener, but=("batch_size",))
    order = setup.plan.order
    order = order[np.argsort(lesions.fold_of[order], kind="stable")]
    return lesions, replace(setup, plan=replace(setup.plan, order=order, blocks=()))


def _shown(
    setup: Setup, lesions: Lesions, units: str, readout: str | None, listener: Listener
) -> tuple[Outcomes, Readout]:
    """Show the stimuli to the intact network and with every lesion.

    Raises
    ------
    UserError : the readout fails, or there is none for this network
    """
    model, catalogue = setup.backbone.model, setup.catalogue
    measuring: _Measuring | None = None
    done, total, started = 0, len(setup.plan.order), time.perf_counter()

    def invisible(stimulus: int) -> None:
        note_invisible(catalogue.path(stimulus), listener)

    with (
        asked_to_stop() as stop,
        untouched(model),
        multiplied(setup.backbone.precision, setup.device),
        torch.no_grad(),
    ):
        for decoded in setup.batches(0, stop.look, invisible):
            inputs = _inputs(decoded, setup)
            if measuring is None:
                read = readout_of(readout, model, inputs[:1])
                shortcut = Shortcut(model, lesions.layers, inputs[:1])
                measuring = _Measuring(setup, shortcut, lesions, units, read)
            measuring.add(decoded, inputs, stop)
            for row, why in decoded.failed.items():
                listener.note(f"skipped: {catalogue.path(decoded.batch.stimuli[row])} {why}")
            done += len(decoded.batch.stimuli)
            seconds = time.perf_counter() - started
            listener.progress(Progress("lesion", done, total, seconds, peak_memory()))
    if measuring is None or measuring.outcomes is None:
        raise UserError("a lesion is measured on stimuli; none could be shown: name others")
    return measuring.outcomes, measuring.readout


class _Measuring:
    """Measures batch by batch; ``outcomes`` begin with the first."""

    outcomes: Outcomes | None = None

    def __init__(
        self, setup: Setup, shortcut: Shortcut, lesions: Lesions, units: str, readout: Readout
    ) -> None:
        self._model, self._catalogue = setup.backbone.model, setup.catalogue
        self._shortcut, self._lesions, self._units = shortcut, lesions, units
        self.readout = readout

    def add(self, decoded: Decoded, inputs: torch.Tensor | Inputs, stop: Stop) -> None:
        """Show a batch, once for every lesion of every fold that selected units for it.

        Intact outputs are of the same rows: networks round differently in other batches.
        """
        stimuli = decoded.batch.stimuli
        for fold, masks in zip(self._lesions.folds, self._lesions.masks, strict=True):
            rows = self._lesions.rows(fold, stimuli)
            rows = rows[~np.isin(rows, [*decoded.failed])]
            if not len(rows):
                continue
            own, part = stimuli[rows], inputs[rows]
            with self._shortcut.intact(part) as intact:
                of = [self._catalogue.categories[label] for label in self._catalogue.labels[own]]
                before, share = self.readout.values(intact, intact, of), self._lesions.share(own)
                outcomes = self._outcomes_of(before.shape[1])
                outcomes.add_intact(own, share * before)
                for name, draw, one in each_draw(masks):
                    with lesion(self._model, one, units=self._units):
                        lesioned = called(self._model, part)
                    after = self.readout.values(intact, lesioned, of)
                    outcomes.add(name, draw, own, share * (after - before))
                    stop.look()

    def _outcomes_of(self, quantities: int) -> Outcomes:
        if self.outcomes is None:
            labels, number = self._catalogue.labels, len(self._catalogue.categories)
            self.outcomes = Outcomes(labels, number, self._lesions.draws, quantities)
        return self.outcomes


def _inputs(decoded: Decoded, setup: Setup) -> torch.Tensor | Inputs:
    """A batch as the network takes it, on its device."""
    dtype = input_dtype(setup.backbone.model)
    if isinstance(decoded.pixels, Inputs):
        return decoded.pixels.to(setup.device, dtype)
    return normalise(decoded.pixels, setup.backbone.preprocessing, setup.device, dtype)


def _contrasted(contrast: str, categories: Sequence[str]) -> Contrasted | None:
    """The contrast as a row beside the categories of the stimuli; None if they lack some of its."""
    try:
        (one,) = parse_contrasts(contrast, categories)
    except UserError:
        return None
    name = f"{one.text} - others" if one.named is None else one.text
    weights = zip((*one.target, *one.baseline), map(float, one.weights), strict=True)
    return Contrasted(name, dict(weights))
