"""The second pass: shows a network every stimulus and records how chosen units respond to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..contrasts.choice import Choice
from ..contrasts.language.criterion import DEFAULT, Criterion, remarks
from ..decoding.ahead import default_workers
from ..layer import Layer
from ..preprocessing import Preprocessing
from ..querying.result import Result
from ..responses.recording import Recording
from ..scanning.interrupt import asked_to_stop
from ..scanning.loop import Passes
from ..scanning.memory import recycled
from ..scanning.progress import Listener
from ..scanning.scan import left_out, refuse_commits, refuse_on_error, reporting, stimulus_table
from ..scanning.setup import Setup, set_up
from ..stimuli.catalogue import Catalogue, Groups
from ..store.behind import Behind
from ..store.kinds import RECORDING
from ..store.places import whereabouts
from ..store.recording_draft import RecordingDraft, recording_of
from ..store.resuming import begun_with, resuming
from ..store.writing import final_place, refuse_existing
from ..values import listed
from .chosen import Masks, Wanted
from .earlier_scan import (
    as_scanned,
    dims_of_scan,
    others_than_scanned,
    refuse_other_network,
    scanned_stimuli,
)
from .recorder import LayerRecorder, Recorder


def record(
    model: str | nn.Module,
    stimuli: str | Path,
    output: str | Path,
    *,
    store: str | Path | Result | None = None,
    select: str | Sequence[str] | None = None,
    criterion: Criterion = DEFAULT,
    top: int | None = None,
    by: str = "t",
    random: int | None = None,
    masks: Masks | None = None,
    layers: str | Sequence[str] | None = None,
    project: int | None = None,
    groups: Groups | None = None,
    root: str | Path | None = None,
    weights: str | None = None,
    seed: int = 0,
    units: str | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    folds: int | None = None,
    batch_size: int | None = None,
    memory_budget: int | str | None = None,
    device: str | None = None,
    decode_workers: int | None = None,
    on_error: str = "stop",
    on_nondeterminism: str = "note",
    commit_every: float = 60,
    overwrite: bool = False,
    restart: bool = False,
    go_back: bool = False,
    listener: Listener | None = None,
) -> Recording:
    """Show a network a stimulus set and record how chosen units respond to every stimulus.

    Units are chosen by a ``store`` that a scan has left (``select``, ``top``), drawn at random
    (``random``), or given (``masks``); what several choose is recorded once. Without any of these
    it is every unit of ``layers``. With a ``store`` the network, its preprocessing, precision,
    batch size, units, folds, stimuli and categories are those of its scan; another network is
    refused, and so are stimuli some of which are gone or have changed. Other stimuli are shown
    where ``groups`` choose them, or from a set that has none of the scan's; a note of it is kept.

    A recording that was stopped goes on when it is called again as before, and ends with the same
    bits.

    Parameters
    ----------
    model, stimuli, groups, root, seed, memory_budget, device, decode_workers, on_error,
        on_nondeterminism, commit_every, overwrite, restart, go_back, listener : see
        :func:`fusiform.scan`
    output : the recording to create, by custom ``NAME.responses.zarr``
    store : the result of a scan of the same network
    select : contrasts whose units the ``criterion`` selects on all stimuli of the store, ``"*"``
        for every category
    criterion : when a unit counts as selective
    top : so many of each layer and contrast, those with the most of the measure ``by``: of the
        selected, or without ``select``, of all living units, for every category
    random : so many units of every layer, drawn from ``seed``
    masks : layer -> the units to record, in the shape of the layer
    layers : names or globs; by default those of the store, or ``blocks``
    project : record layers with more chosen units than this as a random projection to so many
        dimensions, drawn from ``seed``, in place of single units
    weights, units, precision, compile, preprocessing, folds, batch_size : by default those of the
        store, or as in :func:`fusiform.scan`; others than the store's are refused

    Returns
    -------
    the finished :class:`fusiform.Recording <fusiform.engine.responses.recording.Recording>`

    Raises
    ------
    UserError : the request cannot be carried out as it was made. What was done is kept
    KeyboardInterrupt : as :func:`fusiform.scan` does

    Examples
    --------
    >>> recording = fusiform.record(  # doctest: +SKIP
    ...     "resnet50", "stimuli/", "r50.responses.zarr", store="r50.zarr", select="faces", top=50)
    """
    listener = listener or Listener()
    refuse_existing(output, overwrite, unfinished=True, kind=RECORDING)
    refuse_on_error(on_error, decode_workers)
    refuse_commits(commit_every)
    source = None if store is None else Result.of(store)
    chosen, asked = (None if given is None else listed(given) for given in (select, layers))
    wanted = Wanted(source, chosen, criterion, top, by, random, masks, asked, project, seed)
    way = as_scanned(
        source,
        weights=weights,
        seed=seed,
        units=units,
        precision=precision,
        compile=compile,
        preprocessing=preprocessing,
        folds=folds,
        batch_size=batch_size,
        module=isinstance(model, nn.Module),
    )
    if way["batch_size"] is None and not restart:
        begun = begun_with(output).get("batch_size")
        way["batch_size"] = begun if isinstance(begun, int) and begun > 0 else None
    own = None
    if source and groups is None:
        own = scanned_stimuli(source, stimuli, root, reporting(listener))
    if source and chosen:
        contrasts = None if chosen == ["*"] else chosen
        for remark in remarks(criterion, source.categories, contrasts):
            listener.note(remark)
    known = dims_of_scan(source)
    way["dims"] = {name: known[name] for name in wanted.patterns if name in known}
    selected = wanted.selected()
    choices: list[Choice] = []

    def held_of(catalogue: Catalogue, layers: Sequence[Layer]) -> dict[str, int]:
        choices.append(wanted.in_layers(selected, layers))
        return wanted.held(choices[-1], len(catalogue))

    setup = set_up(
        model,
        stimuli,
        groups=groups,
        root=root,
        layers=wanted.patterns,
        null=0,
        null_units=1,
        memory_budget=memory_budget,
        device=device,
        listener=listener,
        on_nondeterminism=on_nondeterminism,
        left_out=lambda catalogue: left_out(catalogue, stimuli, on_error, listener),
        held_of=held_of,
        catalogue=own,
        **way,
    )
    if source:
        unknown = refuse_other_network(source, setup)
        for said in filter(None, (unknown, others_than_scanned(source, setup.catalogue))):
            listener.note(said)
            setup = replace(setup, notes=(*setup.notes, said))
    setup, choice = _in_order(setup), choices[-1]
    _say(choice, project, source, setup, listener)
    catalogue, plan = setup.catalogue, setup.plan
    skip = on_error == "skip"
    with (
        resuming(
            output,
            overwrite,
            restart,
            listener.note,
            plan.order,
            recording_of(choice.units, choice.chosen),
            go_back=go_back,
            layers=setup.layers,
            categories=catalogue.categories,
            counts=plan.counts(len(catalogue.categories)),
            stimuli=stimulus_table(catalogue, plan),
            provenance={
                **whereabouts(stimuli),
                "batch_size": plan.batch_size,
                **setup.network,
                **({"units": setup.units, "dims": setup.dims} if setup.units != "all" else {}),
                **wanted.provenance(choice),
            },
        ) as draft,
        asked_to_stop() as stop,
        recycled(),
    ):
        draft.add_notes(setup.notes)
        work = _Recording(draft, plan, listener, stop, commit_every)
        work.show(setup, choice, decode_workers or default_workers(), skip)
    return Recording.open(final_place(output))


class _Recording(Passes):
    """What a recording does for its draft: all of it, or what an earlier run has left."""

    stage = "recording"
    _draft: RecordingDraft

    def show(self, setup: Setup, choice: Choice, workers: int, skip: bool) -> None:
        """Show the network all stimuli, and write rows as files of them are full."""
        draft = self._draft

        def recorder_of(layers: Sequence[Layer], later: Behind) -> Recorder:
            return Recorder(
                [
                    LayerRecorder(
                        layer,
                        choice.units[layer.name],
                        draft.recordees(layer.name).columns,
                        draft.schema.seed,
                        len(setup.catalogue),
                        draft.rows_of_a_file(layer),
                        setup.device,
                        lambda *given: later(draft.write_rows, *given),
                    )
                    for layer in layers
                ],
                setup.units,
                lambda *given: later(draft.write_means, *given),
                setup.axes,
            )

        self._show(setup, recorder_of, workers, skip)


def _in_order(setup: Setup) -> Setup:
    """The same, with its stimuli in the order of showing; those that are not shown come last."""
    plan = setup.plan
    rest = np.setdiff1d(np.arange(len(setup.catalogue)), plan.order)
    order = np.concatenate([plan.order, rest])
    plan = replace(plan, order=np.arange(len(plan.order)), fold_of=plan.fold_of[order])
    return replace(setup, catalogue=setup.catalogue.chosen(order), plan=plan)


def _say(
    choice: Choice, project: int | None, source: Result | None, setup: Setup, listener: Listener
) -> None:
    chosen = {name: len(own) for name, own in choice.units.items()}
    listener.note(
        f"recording {sum(chosen.values()):,} units of {len(chosen)} layers "
        f"({', '.join(choice.names)})"
    )
    large = [name for name, number in chosen.items() if number > (project or number)]
    if large:
        listener.note(f"projected to {project:,} dimensions: {', '.join(large)}")
    if source is None:
        return
    kind = source.provenance.get("device_type")
    if kind != setup.device.type:
        listener.note(f"the scan was on {kind}, this is on {setup.device.type}: last bits differ")
    if setup.backbone.compiled and len(setup.layers) < len(source.layers):
        listener.note("fewer layers are compiled than in the scan: last bits may differ")
