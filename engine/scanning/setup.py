"""What a scan is of, before it begins: stimuli, network, layers, plan, and how it fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...kernels import jit
from ..decoding.jpegs import jpegs_of
from ..errors import UserError
from ..layer import UNITS, Layer
from ..limits import bytes_of
from ..moments.plan import Plan, make_plan
from ..networks.backbones import Backbone, backbone_of
from ..networks.behaviour import network_of
from ..networks.compiled import refuse_without_compiler
from ..networks.dims import Dims, given_dims, nameless
from ..networks.layers import TRIAL_STIMULI, choose, trial
from ..networks.placement import device_for, place
from ..networks.precision import multiplied, refuse_precision
from ..networks.probe import refuse_on_nondeterminism
from ..networks.units import NO_CLASS_TOKEN, Axes, averaged, has_class_token, reduced, refuse_units
from ..preprocessing import Preprocessing
from ..stimuli.catalogue import Catalogue, Groups, read_catalogue
from ..values import listed
from .budget import BATCH_SIZES, Fit, Footprint, fit, free_memory, growth, used_memory
from .progress import Listener


@dataclass(frozen=True)
class Setup:
    """What a scan is of: ``layers`` as they are recorded, reduced to ``units``.

    ``fitting`` says how it fits into memory, ``budget`` into how much; ``notes`` are kept in the
    store: what is to be known of the stimuli and the network. ``network`` is what the store's root
    says of it. ``dims`` are those of the layers' outputs, before they are reduced.
    """

    catalogue: Catalogue
    plan: Plan
    backbone: Backbone
    device: torch.device
    layers: tuple[Layer, ...]
    units: str
    footprint: Footprint
    fitting: Fit
    budget: int | None
    network: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def axes(self) -> Axes:
        """Of every layer, the axes of its output that a mean is over."""
        return {name: averaged(dims, self.units) for name, dims in self.dims.items()}


def set_up(
    model: str | nn.Module,
    stimuli: str | Path,
    *,
    groups: Groups | None,
    root: str | Path | None,
    weights: str,
    seed: int,
    layers: str | Sequence[str],
    units: str,
    precision: str | None,
    compile: bool,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
    folds: int,
    null: int,
    null_units: int,
    batch_size: int | None,
    memory_budget: int | str | None,
    device: str | None,
    listener: Listener,
    on_nondeterminism: str = "note",
    dims: Dims | None = None,
    processes: int = 1,
    left_out: Callable[[Catalogue], Sequence[int]] = lambda _: (),
    held_of: Callable[[Catalogue, Sequence[Layer]], Mapping[str, int]] | None = None,
    catalogue: Catalogue | None = None,
) -> Setup:
    """Find out what a scan is of; for the parameters see :func:`.scan.scan`.

    ``left_out`` says which stimuli of a catalogue are not shown; ``processes`` of the same kind
    share the memory. Of a recording, ``held_of`` says how many bytes are held of each layer of
    which anything is recorded; others are left out. A ``catalogue`` that is given stands for
    ``stimuli``.

    Raises
    ------
    UserError : the scan cannot be carried out as it was asked for
    """
    jit.refuse_lost_threads()
    budget = None if memory_budget is None else bytes_of(memory_budget)
    refuse_units(units)
    target = device_for(device, model)
    refuse_precision(precision, target)
    refuse_on_nondeterminism(on_nondeterminism)
    if compile:
        refuse_without_compiler(target)
    if isinstance(batch_size, Integral):
        batch_size = int(batch_size)  # of NumPy's some would overflow
    if catalogue is None:
        catalogue = read_catalogue(stimuli, groups, root)
    for note in catalogue.notes:
        listener.note(note)
    plan = make_plan(
        catalogue.labels,
        catalogue.categories,
        folds=folds,
        batch_size=BATCH_SIZES[0] if batch_size is None else batch_size,
        left_out=left_out(catalogue),
    )
    backbone = backbone_of(model, weights, seed, preprocessing, precision, compile)
    for note in backbone.notes:
        listener.note(note)
    if catalogue.pictures:
        catalogue.pictures.refuse_other(backbone.preprocessing, backbone.name)
    jpegs = jpegs_of(backbone.preprocessing, target)
    network, crop = place(backbone.model, target), backbone.preprocessing.crop
    patterns = listed(layers)
    with growth(target) as grown, multiplied(backbone.precision, target):
        found = trial(network, crop)
    chosen, notes = choose(found, patterns)
    chosen = given_dims(chosen, dims or {})
    whole = {layer.name: layer.dims for layer in chosen}
    unnamed = nameless(chosen)
    chosen, otherwise = reduced(chosen, units)
    if units == "cls" and not has_class_token(network):
        otherwise.append(NO_CLASS_TOKEN)
    for note in (*notes, *unnamed, *otherwise):
        listener.note(note)
    held = held_of(catalogue, chosen) if held_of else {}
    if held_of:
        chosen = tuple(layer for layer in chosen if layer.name in held)
    names = [layer.name for layer in chosen]
    unsteady, described = _probed(backbone, target, names, on_nondeterminism)
    for note in unsteady:
        listener.note(note)
    footprint = Footprint(
        used_memory(target) + (jpegs.device_bytes if jpegs else 0),
        grown[0] // TRIAL_STIMULI,
        crop,
        null=(null * len(plan.blocks), null_units),
        recorded=(lambda layer: held[layer.name]) if held_of else None,
    )

    def footprint_of(size: int) -> Footprint:
        return replace(footprint, cut=len(replace(plan, batch_size=size).shards) > 1)

    known = free_memory(target) if budget is None else budget
    if known is not None and target.type == "cpu":
        known //= processes
    if budget is not None and not footprint.program and target.type == "cpu":
        raise UserError(
            "a memory budget can be kept where the system says what a program has, on Linux: leave "
            "it out, and choose --batch-size"
        )
    fitting = fit(chosen, footprint_of, known, batch_size)
    said = f" in {backbone.precision}" if backbone.precision else ""
    said += ", compiled" if compile else ""
    meant = f" ({UNITS[units]})" if units != "all" else ""
    listener.note(
        f"{backbone.name} ({backbone.weights}){said}: {len(chosen)} layers, "
        f"{sum(layer.units for layer in chosen):,} units{meant}; "
        f"{len(plan.order)} stimuli, {len(catalogue.categories)} categories, {folds} folds"
    )
    listener.note(f"preprocessing: {backbone.preprocessing}")
    if folds == 1 and not held_of:
        listener.note("one fold: nothing will say how many of the selected units replicate")
    if budget is not None or len(fitting.parts) > 1 or fitting.batch_size != plan.batch_size:
        listener.note(_how(fitting, known))
    plan = replace(plan, batch_size=fitting.batch_size)
    return Setup(
        catalogue,
        plan,
        backbone,
        target,
        chosen,
        units,
        footprint_of(plan.batch_size),
        fitting,
        known,
        described,
        (*catalogue.notes, *backbone.notes, *unnamed, *unsteady),
        {layer.name: whole[layer.name] for layer in chosen},
    )


def _probed(
    backbone: Backbone, device: torch.device, layers: Sequence[str], on_nondeterminism: str
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Notes on a network whose responses depend on the batch or on the run, and what it is.

    Raises
    ------
    UserError : its answer does, and that is not to be
    """
    found, network = network_of(backbone, device, layers)
    if found and on_nondeterminism == "stop":
        raise UserError(
            f"{found.removeprefix('warning: ')}: mend it, or scan it as it is with "
            "--on-nondeterminism note"
        )
    return (found,) if found else (), network


def _how(fitting: Fit, budget: int | None) -> str:
    passes = len(fitting.parts)
    shown = "once" if passes == 1 else f"{passes} times, to some of the layers each"
    of = "" if budget is None else f" of {budget / 2**30:.2f}"
    return (
        f"memory: at most {fitting.peak / 2**30:.2f}{of} GiB, in batches of {fitting.batch_size}; "
        f"the stimuli are shown {shown}"
    )
