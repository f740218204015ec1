"""The second pass: shows a network every stimulus and records how chosen units respond to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..asking.choice import Choice, choose_units, draw_units, joined
from ..asking.language.criterion import DEFAULT, Criterion
from ..asking.result import Result
from ..errors import UserError, nearest
from ..responses.recording import Recording
from ..spec import Layer, Preprocessing, as_record
from ..stimuli.catalogue import Catalogue, Groups
from ..store.behind import Behind
from ..store.kinds import RECORDING
from ..store.recording import columns_of, cut_of_rows, recorded_as
from ..store.recording_draft import RecordingDraft, recording_of
from ..store.resuming import begun_with, resuming
from ..store.writing import final_place, refuse_existing
from .backbones import provenance_of
from .decode import default_workers
from .interrupt import asked_to_stop
from .memory import recycled
from .passes import Passes
from .progress import Listener
from .recorder import LayerRecorder, Recorder, held_bytes
from .scan import left_out, refuse_commits, refuse_on_error, stimulus_table
from .setup import Setup, set_up
from .source import as_scanned, refuse_other_network

Masks = Mapping[str, NDArray[np.bool_]]


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
    commit_every: float = 60,
    overwrite: bool = False,
    restart: bool = False,
    listener: Listener | None = None,
) -> Recording:
    """Show a network a stimulus set and record how chosen units respond to every stimulus.

    Units are chosen by a ``store`` that a scan has left (``select``, ``top``), drawn at random
    (``random``), or given (``masks``); what several choose is recorded once. Without any of these
    it is every unit of ``layers``. With a ``store`` the network, its preprocessing, precision,
    batch size, units and folds are those of its scan, and another network is refused.

    A recording that was stopped goes on when it is called again as before, and ends with the same
    bits.

    Parameters
    ----------
    model, stimuli, groups, root, seed, memory_budget, device, decode_workers, on_error,
        commit_every, overwrite, restart, listener : see :func:`fusiform.scan`
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
    if project is not None and project < 1:
        raise UserError(f"a projection has at least 1 dimension; got {project}")
    source = _opened(store, select, top)
    patterns = _listed(layers) if layers is not None else None
    asked = _asked(source, patterns)
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
    selected: list[tuple[str, Mapping[str, NDArray[np.int64]]]] = []
    if source and (select is not None or top is not None):
        contrasts = None if select is None or select == "*" else _listed(select)
        pool = None if select is None else criterion
        selected += choose_units(source, contrasts, pool, top, by, asked)
    choice: Choice | None = None

    def held_of(catalogue: Catalogue, layers: Sequence[Layer]) -> dict[str, int]:
        nonlocal choice
        parts = [*selected]
        if random is not None:
            parts.append(("random", draw_units(layers, random, seed)))
        if masks is not None:
            parts.append(("mask", _masked(masks, layers)))
        if not parts:
            parts.append(("all", {one.name: np.arange(one.units) for one in layers}))
        choice = joined(parts).within([one.name for one in layers])
        if not choice.units:
            raise UserError(
                f"a recording is of one unit or more; {', '.join(choice.names)} chose none in "
                "these layers: choose others, or by another criterion"
            )
        held = {}
        for name, own in choice.units.items():
            columns = columns_of(len(own), project)
            rows = cut_of_rows(len(catalogue), columns)[0]
            held[name] = held_bytes(rows, len(own), columns)
        return held

    setup = set_up(
        model,
        stimuli,
        groups=groups,
        root=root,
        layers=asked,
        null=0,
        null_units=1,
        memory_budget=memory_budget,
        device=device,
        listener=listener,
        left_out=lambda catalogue: left_out(catalogue, stimuli, on_error, listener),
        held_of=held_of,
        **way,
    )
    assert choice is not None
    if source:
        refuse_other_network(source, setup, provenance_of(setup.backbone, setup.device))
    setup = _in_order(setup)
    _say(choice, project, source, setup, listener)
    catalogue, plan = setup.catalogue, setup.plan
    how = {"select": None if select is None else _listed(select), "top": top, "random": random}
    how = {name: value for name, value in how.items() if value is not None}
    provenance = {
        "stimuli": str(stimuli),
        "batch_size": plan.batch_size,
        **provenance_of(setup.backbone, setup.device),
        **({"units": setup.units} if setup.units != "all" else {}),
        "recorded": recorded_as(choice.units),
        "choices": list(choice.names),
        "chosen_by": {
            **how,
            **({"criterion": as_record(criterion)} if select is not None else {}),
            **({"by": by} if top is not None else {}),
            **({"seed": seed} if random is not None else {}),
        },
        **({"projection": {"dim": project, "seed": seed}} if project is not None else {}),
        **(
            {"source": {"store": str(source.path), "fingerprint": source.provenance["fingerprint"]}}
            if source
            else {}
        ),
    }
    skip = on_error == "skip"
    with (
        resuming(
            output,
            overwrite,
            restart,
            listener.note,
            plan.order,
            recording_of(choice.units, choice.chosen),
            layers=setup.layers,
            categories=catalogue.categories,
            counts=plan.counts(len(catalogue.categories)),
            stimuli=stimulus_table(catalogue, plan),
            provenance=provenance,
        ) as draft,
        asked_to_stop() as stop,
        recycled(),
    ):
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
            )

        self._show(setup, recorder_of, workers, skip)


def _opened(
    store: str | Path | Result | None, select: str | Sequence[str] | None, top: int | None
) -> Result | None:
    if store is not None:
        return store if isinstance(store, Result) else Result.open(store)
    for name, given in (("select", select), ("top", top)):
        if given is not None:
            raise UserError(
                f"units are chosen by their selectivity from a scan's store; got --{name} without "
                "one: name it by --from, or choose --random units"
            )
    return None


def _asked(source: Result | None, patterns: list[str] | None) -> list[str]:
    """The layers that are asked for, as patterns of the network, or names of the store's."""
    if source is None:
        return patterns or ["blocks"]
    groups = {"blocks", "all", "leaf"}
    if patterns is None or groups & set(patterns):
        return [layer.name for layer in source.layers]
    return [layer.name for layer in source.layers_named(patterns)]


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


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
    known = set(source.stimuli("stimulus_sha256"))
    contents = setup.catalogue.contents
    new = sum(contents.sha256(row) not in known for row in range(len(contents)))
    if new:
        listener.note(f"{new:,} of {len(setup.catalogue):,} stimuli are none of {source.path}")
