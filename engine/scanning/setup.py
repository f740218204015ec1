"""Set up a scan: the network, its layers, the plan of showing, and their fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...kernels import jit
from ..decoding.ahead import Decoded, ImageSource, decode_ahead, default_workers
from ..decoding.jpegs import jpegs_of
from ..decoding.objects import ObjectCatalogue
from ..errors import UserError
from ..layer import Layer, describe_units, is_function
from ..moments.plan import Plan, make_plan, shuffled_labels
from ..networks.backbones import Backbone, load_backbone
from ..networks.behaviour import network_of
from ..networks.compiled import refuse_without_compiler
from ..networks.dims import given_dims, nameless
from ..networks.inputs import Inputs
from ..networks.layers import TRIAL_STIMULI, choose, trial
from ..networks.placement import (
    device_for,
    has_float64,
    input_dtype,
    moments_device,
    multiplied,
    place,
    refuse_precision,
)
from ..networks.units.made import made
from ..networks.units.reduction import Reductions, reduced
from ..registry import AS_GIVEN
from ..spec import Design, Request
from ..stimuli.catalogue import Catalogue
from ..texts import in_bytes, number
from ..values import listed
from ..waiting import waiting_bytes
from .budget import BATCH_SIZES, Fit, Footprint, fit, free_memory, growth, used_memory
from .forward import ON_HOST
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
    the network in the root of a store, which also keeps the ``notes``. ``sample`` are some stimuli,
    where they are no pictures and shown as they are.
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
    sample: Inputs | None = None

    @property
    def design(self) -> Design:
        """The design of the request; its batch size may differ from the plan's."""
        return self.request.design

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
            f"{in_bytes(self.activation_bytes)} in float32: with {number(images, 3)} images per "
            f"category, moments are no saving; smaller with {', '.join(ways)} or `groups` of "
            "categories"
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

    def batches(
        self, first: int, look: Callable[[], None], invisible: Callable[[int], None]
    ) -> Iterator[Decoded]:
        """Batches from number ``first`` on; see :func:`..decoding.ahead.decode_ahead`."""
        if isinstance(self.catalogue, ObjectCatalogue):
            preprocessing = None if self.sample else self.backbone.preprocessing
            return self.catalogue.batches(self.plan, preprocessing, first, invisible)
        return decode_ahead(self.images, self.plan, first=first, look=look, invisible=invisible)

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
    plan: Plan | None = None,
) -> Setup:
    """Load the network, try it, choose its layers and fit the scan into memory.

    Parameters
    ----------
    processes : processes of the same kind that share the memory
    held_of : in a recording, the bytes held of each layer
    backbone : the network, if it is loaded already
    plan : of stimuli whose order cannot be planned

    Raises
    ------
    UserError : the scan cannot be carried out as requested
    """
    design, catalogue = request.design, stimuli.catalogue
    plan = plan or make_plan(
        catalogue.labels,
        catalogue.categories,
        folds=design.folds,
        batch_size=design.batch_size or BATCH_SIZES[0],
        left_out=stimuli.left_out,
    )
    if backbone is None:
        listener.begin("building the network")
        backbone = load_backbone(request.network)
    listener.begin("trying the network")
    if catalogue.pictures:
        catalogue.pictures.refuse_other(backbone.preprocessing, backbone.name)
    device = device_for(request.resources.device, request.network.model)
    jpegs = jpegs_of(backbone.preprocessing, device)
    jpeg_bytes = jpegs.device_bytes if jpegs else 0
    place(backbone.model, device)
    sample = None
    if isinstance(catalogue, ObjectCatalogue):
        own, given = backbone.preprocessing, request.network.preprocessing
        sample = catalogue.sample(TRIAL_STIMULI, own, preprocessed=given is not None)
        sample = sample and sample.to(device, input_dtype(backbone.model))
    seen = (sample.side or sample) if sample else backbone.preprocessing.crop
    told = backbone.notes if sample else tuple(filter(None, (*backbone.notes, backbone.assumed)))
    listener.notes(told)
    tried = _tried(backbone, device, design, seen)
    listener.notes(tried.notes)
    held = held_of(catalogue, tried.layers) if held_of else {}
    layers = tuple(one for one in tried.layers if not held_of or one.name in held)
    is_host = moments_device(device).type == "cpu"
    unsteady, attributes = _probed(backbone, device, layers, request, seen)
    if sample:
        attributes["preprocessing"] = AS_GIVEN
    listener.notes(unsteady)
    footprint = Footprint(
        used_memory(device) + jpeg_bytes,
        tried.grown // TRIAL_STIMULI,
        # The side of an image with as many values.
        ceil((sample.bytes_each / 12) ** 0.5) if sample else backbone.preprocessing.crop,
        null=(design.null * len(plan.blocks), design.null_units),
        recorded=(lambda layer: held[layer.name]) if held_of else None,
        # A GPU's budget is its own memory; moments wait on the host.
        waiting=waiting_bytes(layers, len(plan.blocks)) if is_host else {},
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
        (*catalogue.notes, *told, *tried.unnamed, *unsteady),
        {layer.name: tried.dims[layer.name] for layer in layers},
        {layer.name: tried.reductions[layer.name] for layer in layers},
        sample,
    )
    _announce(setup, plan.batch_size, listener)
    return setup


def _tried(backbone: Backbone, device: torch.device, design: Design, seen: int | Inputs) -> _Trial:
    """Show the network noise or a sample, and choose the design's layers from what it runs."""
    network, patterns = backbone.model, listed(design.layers)
    with growth(device) as grown, multiplied(backbone.precision, device):
        found = trial(network, seen, patterns, design.units)
        chosen, notes = choose(found, patterns)
        chosen = given_dims(chosen, design.dims or {})
        layers, reductions, otherwise = reduced(chosen, design.units, found.transformer)
        if is_function(design.units):
            layers = made(design.units, network, seen, layers)
    unnamed = nameless(chosen)
    dims = {layer.name: layer.dims for layer in chosen}
    sizes = (layer.units * getattr(torch, layer.dtype).itemsize for layer in chosen)
    copies = 0 if has_float64(device) else ON_HOST * TRIAL_STIMULI * max(sizes)
    notes = [*notes, *unnamed, *otherwise]
    return _Trial(layers, dims, reductions, unnamed, tuple(notes), grown[0] + copies)


def _probed(
    backbone: Backbone,
    device: torch.device,
    layers: Sequence[Layer],
    request: Request,
    seen: int | Inputs,
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Notes on responses that depend on the batch or the run, and the network's attributes.

    Raises
    ------
    UserError : they do, and the request says to stop then
    """
    names = [layer.name for layer in layers]
    found, attributes = network_of(backbone, device, names, seen)
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
    is_host = moments_device(device).type == "cpu"
    if known is not None and is_host:
        known //= processes
    if budget is not None and not footprint.program and is_host:
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
    folds = f", {design.folds} folds" if design.folds > 1 else ""
    meant = f" ({describe_units(design.units)})" if design.units != "all" else ""
    listener.note(
        f"{backbone.name} ({backbone.weights}){said}: {len(setup.layers)} layers, "
        f"{sum(layer.units for layer in setup.layers):,} units{meant}; "
        f"{len(setup.plan.order) or 'a stream of'} stimuli, "
        f"{len(setup.catalogue.categories)} categories{folds}"
    )
    listener.note(f"preprocessing: {'none' if setup.sample else backbone.preprocessing}")
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
