"""The second pass: show a network every stimulus and record how chosen units respond to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from ..contrasts.choice import Choice
from ..contrasts.language.presets import remarks
from ..errors import UserError
from ..layer import Layer
from ..networks.lending import lent
from ..networks.placement import moments_device
from ..networks.units.reduction import attributes_of
from ..querying.store import Store
from ..responses.recording import Recording
from ..scanning.bar import listening
from ..scanning.interrupt import asked_to_stop
from ..scanning.loop import Passes
from ..scanning.memory import recycled
from ..scanning.progress import Listener
from ..scanning.setup import Setup, check_machine, set_up
from ..scanning.stimulus_set import read_stimuli, stimulus_table
from ..spec import Design, Network, Request, Resources, Stimuli
from ..stimuli.catalogue import Catalogue
from ..store.files.memory import Memory
from ..store.location import stimuli_attributes
from ..store.schema import RECORDING
from ..store.writing.array_writer import BackgroundWriter
from ..store.writing.creating import RecordingBlueprint
from ..store.writing.publishing import final_location, refuse_existing
from ..store.writing.recording_draft import RecordingDraft
from ..store.writing.resuming import Existing, as_begun, resuming
from .chosen import ChosenUnits
from .earlier_scan import (
    as_scanned,
    asked_again,
    compared,
    network_again,
    stimuli_again,
)
from .recorder import LayerRecorder, Recorder
from .unit_request import UnitRequest


def record(
    network: Network | str | nn.Module | None = None,
    stimuli: Any = None,
    output: str | Path | None = None,
    *,
    store: str | Path | Store | None = None,
    units: UnitRequest = UnitRequest(),
    design: Design = Design(),
    resources: Resources = Resources(),
    overwrite: bool = False,
    restart: bool = False,
    go_back: bool = False,
    progress: bool | Listener = True,
) -> Recording:
    """Show a network a stimulus set and record how chosen units respond to every stimulus.

    Units are chosen by the store of a scan (``select``, ``top``), drawn at random (``random``), or
    given (``masks``); without any of these every unit of the design's layers is recorded. With a
    ``store``, what is not given is that of its scan: the network, the stimuli, and fields of the
    network and the design that are left at their defaults. Another network is refused, and so is a
    set in which some stimuli of the scan are missing or have changed. Other stimuli are shown if
    ``groups`` choose them, or from a set that has none of the scan's; a note of it is kept.

    A recording that was stopped continues when it is called again as before, and ends with the same
    bits.

    Parameters
    ----------
    network : Network, str or torch.nn.Module, optional
        As in :func:`fusiform.scan`; by default that of the ``store``. A network of your own, a
        module or a function, is given again.
    stimuli : Stimuli, str, path, mapping or Dataset, optional
        As in :func:`fusiform.scan`; by default those of the ``store``.
    output : str or path, optional
        The recording to create, by convention ``NAME.responses.zarr``; by default it is in memory.
    store : Store, str or path, optional
        Store of a scan of the same network.
    units : UnitRequest, optional
        Which units are recorded; by default all.
    design : Design, optional
        Layers, units, folds and batch size; a recording has no null.
    resources : Resources, optional
        As in :func:`fusiform.scan`.
    overwrite : bool, default False
        Replace an earlier recording at ``output``.
    restart : bool, default False
        Start again, discarding what an unfinished recording has done.
    go_back : bool, default False
        As in :func:`fusiform.scan`.
    progress : bool or Listener, default True
        As in :func:`fusiform.scan`.

    Returns
    -------
    Recording
        The finished recording.

    Raises
    ------
    UserError
        The recording cannot be carried out as requested. What was done is kept.
    KeyboardInterrupt
        As :func:`fusiform.scan` does.

    See Also
    --------
    open_recording : Open a recording that exists.

    Examples
    --------
    >>> units = fusiform.UnitRequest(random=10)
    >>> recording = fusiform.record(store="r18.zarr", units=units)
    >>> dict(recording.to_xarray().sizes)
    {'stimulus': 24, 'unit': 20, 'choice': 1}
    """
    source = None if store is None else Store.of(store)
    if source is not None:
        network = network_again(source) if network is None else network
        stimuli = stimuli_again(source) if stimuli is None else stimuli
    if network is None or stimuli is None:
        raise UserError(
            "a recording shows a network a stimulus set; got no "
            f"{'network' if network is None else 'stimuli'}: name it, or a scan with `store`"
        )
    request = Request(Network.of(network), Stimuli.of(stimuli), design, resources)
    existing = Existing(overwrite, restart, go_back)
    if request.stimuli.is_stream:
        raise UserError(
            "a recording has a row for every stimulus, and a stream does not say how many come: "
            "give a map-style Dataset"
        )
    if output is None:
        output = Memory()
        request = replace(request, resources=replace(resources, commit_every=inf))
    refuse_existing(output, overwrite, unfinished=True, kind=RECORDING)
    if not restart and not isinstance(output, Memory):
        request = as_begun(request, output)
    with listening(progress) as listener, lent(request.network.model):
        planned = _planned(request, units, source, listener)
        _write(planned, output, existing, listener)
    return Recording.open(final_location(output))


class _Planned(NamedTuple):
    """A recording set up: its units, as they were chosen and as they are in the network."""

    setup: Setup
    chosen: ChosenUnits
    choice: Choice


def _planned(
    request: Request,
    units: UnitRequest,
    source: Store | None,
    listener: Listener,
) -> _Planned:
    """Find the units, and set up the pass that records them."""
    seed, design = request.network.seed, replace(request.design, null=0, null_units=1)
    if source is None:
        chosen = ChosenUnits(units, None, design.layers, seed)
    else:
        # Units are refused before anything of the source is.
        ChosenUnits(units, source, (), seed)
        network, design = as_scanned(source, request.network, design)
        design = replace(design, null=0, null_units=1)
        request = replace(request, network=network)
        chosen = ChosenUnits(units, source, design.layers, seed)
    request = replace(request, design=design)
    own = None
    if source:
        request, own = asked_again(source, request, listener)
    if source and units.select is not None:
        contrasts = None if units.select == ("*",) else units.select
        for remark in remarks(units.criterion, source.categories, contrasts):
            listener.note(remark)
    selected = chosen.selected()
    choices: list[Choice] = []

    def held_of(catalogue: Catalogue, layers: Sequence[Layer]) -> dict[str, int]:
        choices.append(chosen.in_layers(selected, layers))
        return chosen.held(choices[-1], len(catalogue))

    check_machine(request)
    shown = read_stimuli(request.stimuli, listener, own)
    setup = set_up(request, shown, listener, held_of=held_of)
    if source:
        setup = compared(source, setup, listener)
    planned = _Planned(_in_order(setup), chosen, choices[-1])
    _announce(planned, source, listener)
    return planned


def _write(planned: _Planned, output: str | Path, existing: Existing, listener: Listener) -> None:
    """Show the stimuli and write the recording."""
    setup, chosen, choice = planned
    catalogue, plan = setup.catalogue, setup.plan
    blueprint = RecordingBlueprint(
        layers=setup.layers,
        categories=catalogue.categories,
        counts=plan.counts(len(catalogue.categories)),
        stimuli=stimulus_table(catalogue, plan),
        provenance={
            **stimuli_attributes(setup.request.stimuli),
            "batch_size": plan.batch_size,
            **setup.attributes,
            **attributes_of(setup.design.units, setup.dims, setup.reductions),
            **chosen.provenance(choice),
        },
        units=choice.units,
        chosen=choice.chosen,
    )
    with (
        resuming(output, blueprint, plan.order, existing, listener.note) as draft,
        asked_to_stop() as stop,
        recycled(),
    ):
        draft.add_notes(setup.notes)
        _RecordingPass(draft, setup, listener, stop).show(choice)


class _RecordingPass(Passes):
    """Fills the draft of a recording, or continues what an earlier run has left."""

    stage = "recording"
    draft: RecordingDraft

    def show(self, choice: Choice) -> None:
        """Show the network all stimuli, and write rows as files of them fill up."""
        draft, setup = self.draft, self.setup

        def recorder_of(layers: Sequence[Layer], later: BackgroundWriter) -> Recorder:
            return Recorder(
                [
                    LayerRecorder(
                        layer,
                        choice.units[layer.name],
                        draft.reader.recorded(layer.name).columns,
                        draft.reader.schema.seed,
                        len(setup.catalogue),
                        draft.rows_per_file(layer),
                        moments_device(setup.device),
                        lambda *given: later(draft.write_rows, *given),
                    )
                    for layer in layers
                ],
                lambda *given: later(draft.write_means, *given),
                setup.reductions,
            )

        self._show(recorder_of)


def _in_order(setup: Setup) -> Setup:
    """The setup with its stimuli in the order of showing; those that are not shown come last."""
    plan = setup.plan
    rest = np.setdiff1d(np.arange(len(setup.catalogue)), plan.order)
    order = np.concatenate([plan.order, rest])
    plan = replace(plan, order=np.arange(len(plan.order)), fold_of=plan.fold_of[order])
    return replace(setup, catalogue=setup.catalogue.chosen(order), plan=plan)


def _announce(planned: _Planned, source: Store | None, listener: Listener) -> None:
    """Tell the listener which units are recorded, and where bits differ from the scan's."""
    setup, chosen, choice = planned
    units, project = {name: len(own) for name, own in choice.units.items()}, chosen.request.project
    listener.note(
        f"recording {sum(units.values()):,} units of {len(units)} layers "
        f"({', '.join(choice.names)})"
    )
    large = [name for name, number in units.items() if number > (project or number)]
    if large:
        listener.note(f"projected to {project:,} dimensions: {', '.join(large)}")
    if source is None:
        return
    kind = source.provenance.get("device_type")
    if kind != setup.device.type:
        listener.note(f"the scan was on {kind}, this is on {setup.device.type}: last bits differ")
    if setup.backbone.compiled and len(setup.layers) < len(source.layers):
        listener.note("fewer layers are compiled than in the scan: last bits may differ")
