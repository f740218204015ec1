"""Set up a scan: the network, its layers, the plan of showing, and their fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...kernels import jit
from ..decoding.ahead import ImageSource, default_workers
from ..decoding.jpegs import jpegs_of
from ..errors import UserError
from ..layer import Layer, describe_units, is_function
from ..moments.plan import Plan, make_plan, shuffled_labels
from ..networks.backbones import Backbone, load_backbone
from ..networks.behaviour import network_of
from ..networks.compiled import refuse_without_compiler
from ..networks.dims import given_dims, nameless, trial_images
from ..networks.functions import called, source_sha256
from ..networks.hooks import capture
from ..networks.layers import TRIAL_STIMULI, choose, trial, untouched
from ..networks.placement import as_input, device_for, multiplied, place, refuse_precision
from ..networks.units import Reductions, reduced
from ..spec import Design, Request
from ..stimuli.catalogue import Catalogue
from ..texts import in_bytes
from ..values import listed
from ..waiting import waiting_bytes
from .budget import BATCH_SIZES, Fit, Footprint, fit, free_memory, growth, used_memory
from .progress import Listener
from .stimulus_set import StimulusSet

# Stores up to this size may be larger than the activations without a note.
_SMALL = 100 * 2**20
# Bytes held of each recorded layer; layers without any are left out.
HeldOf = Callable[[Catalogue, Sequence[Layer]], Mapping[str, int]]


@dataclass(frozen=True)
class Setup:
    """A request made concrete on this machine.

    ``layers`` are reduced to the design's units, as ``reductions`` say; ``dims`` are those of their
    outputs before. The scan fits into ``budget`` bytes as ``fitting`` says. ``attributes`` identify
    the network in the root of a store, which also keeps the ``notes``.
    """

    request: Request
    catalogue: Catalogue
    plan: Plan
    backbone: Backbone
    device: torch.device
    layers: tuple[Layer, ...]
    footprint: Footprint
    fitting: Fit
    budget: int | None
    attributes: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reductions: Reductions = field(default_factory=dict)

    @property
    def design(self) -> Design:
        """The design of the request; its batch size may differ from the plan's."""
        return self.request.design

    @property
    def units_attributes(self) -> dict[str, Any]:
        """Attributes of a root on its units; none for all elements."""
        units = self.design.units
        if units == "all":
            return {}
        first = {name: how.first for name, how in self.reductions.items() if how.first}
        return {
            "units": units,
            "dims": self.dims,
            **({"prefix_tokens": first} if first else {}),
            **({"units_sha256": source_sha256(units)} if is_function(units) else {}),
        }

    @property
    def activation_bytes(self) -> int:
        """Bytes of the responses of all units to all stimuli, in float32."""
        return 4 * len(self.plan.order) * sum(layer.units for layer in self.layers)

    def remarks_on_size(self, store_bytes: int) -> list[str]:
        """A remark if the store outgrows the activations, with ways out by what they give up."""
        if store_bytes <= max(self.activation_bytes, _SMALL):
            return []
        design, images = self.design, len(self.plan.order) / len(self.catalogue.categories)
        ways = [
            *(['`units="channel"`'] if design.units == "all" else []),
            "fewer `layers`",
            *(["`folds=1`"] if design.folds > 1 else []),
            *(['`store_dtype="float32"`'] if design.store_dtype == "float64" else []),
        ]
        return [
            f"the store may take {in_bytes(store_bytes)}, the activations themselves "
            f"{in_bytes(self.activation_bytes)} in float32: with {images:.3g} images per category, "
            f"moments are no saving; smaller with {', '.join(ways)} or `groups` of categories"
        ]

    @property
    def images(self) -> ImageSource:
        """The images, as they are decoded for this scan.

        With a null nothing is skipped while stimuli are shown: labels were shuffled among them.
        """
        return ImageSource(
            self.catalogue,
            self.backbone.preprocessing,
            self.request.resources.decode_workers or default_workers(),
            skip=self.request.stimuli.on_error == "skip" and not self.design.null,
            device=self.device,
        )

    @cached_property
    def shuffled_labels(self) -> NDArray[np.int32]:
        """Labels ``[shuffle, stimulus]`` of the null."""
        seed = self.request.network.seed
        return shuffled_labels(self.catalogue.labels, self.plan.fold_of, self.design.null, seed)


class _Trial(NamedTuple):
    """Layers found by a trial pass; ``grown`` is how many bytes it took."""

    layers: tuple[Layer, ...]
    dims: dict[str, tuple[str, ...]]
    reductions: Reductions
    unnamed: tuple[str, ...]
    notes: tuple[str, ...]
    grown: int


def check_machine(request: Request) -> None:
    """Raise, before stimuli are read, if this machine cannot run the network as requested.

    Raises
    ------
    UserError : no such device, no tf32 or no compiler on it
    """
    jit.refuse_lost_threads()
    device = device_for(request.resources.device, request.network.model)
    refuse_precision(request.network.precision, device)
    if request.network.compile:
        refuse_without_compiler(device)


def set_up(
    request: Request,
    stimuli: StimulusSet,
    listener: Listener,
    *,
    processes: int = 1,
    held_of: HeldOf | None = None,
    backbone: Backbone | None = None,
) -> Setup:
    """Load the network, try it, choose its layers and fit the scan into memory.

    Parameters
    ----------
    processes : processes of the same kind that share the memory
    held_of : in a recording, the bytes held of each layer
    backbone : the network, if it is loaded already

    Raises
    ------
    UserError : the scan cannot be carried out as requested
    """
    design, catalogue = request.design, stimuli.catalogue
    plan = make_plan(
        catalogue.labels,
        catalogue.categories,
        folds=design.folds,
        batch_size=design.batch_size or BATCH_SIZES[0],
        left_out=stimuli.left_out,
    )
    backbone = backbone or load_backbone(request.network)
    listener.notes(backbone.notes)
    if catalogue.pictures:
        catalogue.pictures.refuse_other(backbone.preprocessing, backbone.name)
    device = device_for(request.resources.device, request.network.model)
    jpegs = jpegs_of(backbone.preprocessing, device)
    jpeg_bytes = jpegs.device_bytes if jpegs else 0
    tried = _tried(backbone, device, design)
    listener.notes(tried.notes)
    held = held_of(catalogue, tried.layers) if held_of else {}
    layers = tuple(one for one in tried.layers if not held_of or one.name in held)
    unsteady, attributes = _probed(backbone, device, layers, request)
    listener.notes(unsteady)
    footprint = Footprint(
        used_memory(device) + jpeg_bytes,
        tried.grown // TRIAL_STIMULI,
        backbone.preprocessing.crop,
        null=(design.null * len(plan.blocks), design.null_units),
        recorded=(lambda layer: held[layer.name]) if held_of else None,
        # A GPU's budget is its own memory; moments wait on the host.
        waiting=waiting_bytes(layers, len(plan.blocks)) if device.type == "cpu" else {},
    )
    footprint, fitting, budget = _fitted(request, plan, layers, footprint, device, processes)
    setup = Setup(
        request,
        catalogue,
        replace(plan, batch_size=fitting.batch_size),
        backbone,
        device,
        layers,
        footprint,
        fitting,
        budget,
        attributes,
        (*catalogue.notes, *backbone.notes, *tried.unnamed, *unsteady),
        {layer.name: tried.dims[layer.name] for layer in layers},
        {layer.name: tried.reductions[layer.name] for layer in layers},
    )
    _announce(setup, plan.batch_size, listener)
    return setup


def _tried(backbone: Backbone, device: torch.device, design: Design) -> _Trial:
    """Show the network noise, and choose the design's layers from what it runs."""
    network, crop = place(backbone.model, device), backbone.preprocessing.crop
    patterns = listed(design.layers)
    with growth(device) as grown, multiplied(backbone.precision, device):
        found = trial(network, crop, patterns, design.units)
        chosen, notes = choose(found, patterns)
        chosen = given_dims(chosen, design.dims or {})
        layers, reductions, otherwise = reduced(chosen, design.units, found.transformer)
        if is_function(design.units):
            layers = _made(design.units, network, crop, layers)
    unnamed = nameless(chosen)
    dims = {layer.name: layer.dims for layer in chosen}
    notes = [*notes, *unnamed, *otherwise]
    return _Trial(layers, dims, reductions, unnamed, tuple(notes), grown[0])


def _made(units: str, network: nn.Module, crop: int, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers as a function of the user makes ``units`` of them, found by two passes over noise.

    A vector for each stimulus has the dimension ``unit``, anything else ``axis_N``.

    Raises
    ------
    UserError : the function fails, or gives another number of units for another number of stimuli
    """
    by_name = {layer.name: layer for layer in layers}
    found: dict[str, Layer] = {}

    def note(layer: str, activation: torch.Tensor) -> None:
        made = called(units, activation)
        shape, dtype = tuple(made.shape[1:]), str(made.dtype).removeprefix("torch.")
        dims = ("unit",) if len(shape) == 1 else tuple(f"axis_{axis}" for axis in range(len(shape)))
        new = replace(by_name[layer], dims=dims, shape=shape, dtype=dtype)
        if (first := found.setdefault(layer, new)) != new:
            raise UserError(
                f"a function of units gives as many for any number of stimuli; {units} makes "
                f"{list(first.shape)} of {layer} for {TRIAL_STIMULI}, and {list(shape)} for "
                f"{len(activation)}: fix it"
            )

    images = as_input(trial_images(crop), network)
    with untouched(network), capture(network, list(by_name), note) as show:
        show(images)
        show(images[:2])
    return tuple(found[layer.name] for layer in layers)


def _probed(
    backbone: Backbone, device: torch.device, layers: Sequence[Layer], request: Request
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Notes on responses that depend on the batch or the run, and the network's attributes.

    Raises
    ------
    UserError : they do, and the request says to stop then
    """
    found, attributes = network_of(backbone, device, [layer.name for layer in layers])
    if found and request.network.on_nondeterminism == "stop":
        raise UserError(
            f"{found.removeprefix('warning: ')}: repair it, or scan it as it is with "
            '`on_nondeterminism="note"`'
        )
    return (found,) if found else (), attributes


def _fitted(
    request: Request,
    plan: Plan,
    layers: Sequence[Layer],
    footprint: Footprint,
    device: torch.device,
    processes: int,
) -> tuple[Footprint, Fit, int | None]:
    """Batch size and passes that fit into the memory budget, or into what is free."""

    def footprint_of(size: int) -> Footprint:
        return replace(footprint, cut=len(replace(plan, batch_size=size).shards) > 1)

    budget = request.resources.memory_bytes
    known = free_memory(device) if budget is None else budget
    if known is not None and device.type == "cpu":
        known //= processes
    if budget is not None and not footprint.program and device.type == "cpu":
        raise UserError(
            "memory budgets require Linux, where the memory of a program is known: leave out "
            "`memory_budget`, and choose a `batch_size`"
        )
    fitting = fit(layers, footprint_of, known, request.design.batch_size)
    return footprint_of(fitting.batch_size), fitting, known


def _announce(setup: Setup, default_size: int, listener: Listener) -> None:
    """Tell the listener what is scanned, and how."""
    backbone, design, fitting = setup.backbone, setup.design, setup.fitting
    said = f" in {backbone.precision}" if backbone.precision else ""
    said += ", compiled" if backbone.compiled else ""
    meant = f" ({describe_units(design.units)})" if design.units != "all" else ""
    listener.note(
        f"{backbone.name} ({backbone.weights}){said}: {len(setup.layers)} layers, "
        f"{sum(layer.units for layer in setup.layers):,} units{meant}; "
        f"{len(setup.plan.order)} stimuli, {len(setup.catalogue.categories)} categories, "
        f"{design.folds} folds"
    )
    listener.note(f"preprocessing: {backbone.preprocessing}")
    if design.folds == 1 and not setup.footprint.recorded:
        listener.note("one fold: nothing will say how many of the selected units replicate")
    budgeted = setup.request.resources.memory_budget is not None
    if budgeted or len(fitting.parts) > 1 or fitting.batch_size != default_size:
        passes = len(fitting.parts)
        shown = "once" if passes == 1 else f"{passes} times, to some of the layers each"
        of = "" if setup.budget is None else f" of {setup.budget / 2**30:.2f}"
        listener.note(
            f"memory: at most {fitting.peak / 2**30:.2f}{of} GiB, in batches of "
            f"{fitting.batch_size}; the stimuli are shown {shown}"
        )
