"""A scan of a stream: batches that come once, in an order that nobody knows.

The plan of other scans shows one group after the other and holds the moments of one. Here those of
every category and fold are in memory until the stream ends: 20 bytes for each unit and group. The
store is written then, so that a scan that is stopped leaves nothing to resume.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..contrasts.select import materialise
from ..decoding.ahead import Decoded
from ..decoding.items import batch_of, digest_of, form_of, item_of, require_form, rows_of
from ..decoding.objects import catalogue, categories_of, label_of
from ..decoding.pictures import invisible_rows
from ..errors import UserError
from ..layer import Layer
from ..moments.accumulate import LayerMoments
from ..moments.finished import Finished
from ..moments.plan import Batch, Block, Plan, Run
from ..networks.backbones import load_backbone
from ..networks.lending import lent
from ..networks.placement import input_dtype, moments_device
from ..networks.units.reduction import reduce
from ..spec import Request, Stimuli
from ..store.location import Location
from ..store.writing.creating import StoreBlueprint
from ..store.writing.publishing import drafting, final_location
from .coordinates import read_coordinates
from .forward import showing
from .interrupt import asked_to_stop
from .loop import note_invisible
from .memory import peak_memory, recycled
from .progress import Listener, Progress
from .run import provenance_of
from .setup import Setup, check_machine, set_up
from .stimulus_set import StimulusSet, stimulus_table
from .work import nonfinite

# How often progress is reported, in seconds.
_SAY_EVERY = 0.5


@dataclass
class _Seen:
    """The stimuli that have come: labels, folds and hashes, in the order of coming."""

    folds: int
    labels: list[int] = field(default_factory=list)
    folds_of: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, label: int, item: Any) -> int:
        """Count a stimulus; those of a category go to the folds in turn. Returns its fold."""
        number = self.counts.get(label, 0)
        self.counts[label] = number + 1
        self.labels.append(label)
        self.folds_of.append(number % self.folds)
        self.digests.append(digest_of(item))
        return self.folds_of[-1]


class _Batches:
    """The batches of a stream, as single stimuli and labels; the first tells their form and size.

    ``form`` is that of a stimulus, ``size`` the number in a batch at most.
    """

    def __init__(self, stimuli: Stimuli) -> None:
        self.categories = categories_of(stimuli)
        self._batches = iter(stimuli.source)
        first = next(self._batches, None)
        if first is None:
            raise UserError("a stream has batches of (inputs, labels); this one has none")
        self._number, self.form, self.size = 0, "", 0
        self.first = self._single(first)
        self.form, self.size = form_of(self.first[0][0]), len(self.first[0])

    def __iter__(self) -> Iterator[tuple[list[Any], list[int]]]:
        yield self.first
        for batch in self._batches:
            yield self._single(batch)

    def _single(self, batch: Any) -> tuple[list[Any], list[int]]:
        """Stimuli and labels of a batch.

        Raises
        ------
        UserError : it is not what a batch has to be, or unlike the first
        """
        name, self._number = f"batch {self._number}", self._number + 1
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UserError(
                f"a stream gives batches of (inputs, labels); {name} is a "
                f"{type(batch).__name__}: give these two, as a torch DataLoader does"
            )
        items = [item_of(one, name) for one in rows_of(batch[0], name)]
        labels = batch[1]
        if not hasattr(labels, "__len__") or getattr(labels, "ndim", 1) == 0:
            raise UserError(
                f"a stream gives batches of (inputs, labels); the labels of {name} are a single "
                f"{type(labels).__name__}: give batches, as a torch DataLoader does"
            )
        if len(labels) != len(items) or not items:
            raise UserError(
                f"a batch has a label for every input; {name} has {len(items)} inputs and labels "
                f"{len(labels)}: give as many of both"
            )
        if self.size and len(items) > self.size:
            raise UserError(
                f"no batch is larger than the first, of {self.size}; {name} has {len(items)}: "
                "networks round differently by the size of a batch, so give equal ones"
            )
        for item in items:
            require_form(item, self.form or form_of(items[0]), name)
        return items, [label_of(label, self.categories, name) for label in labels]


class _EveryGroup:
    """Takes the activations of all groups at once."""

    def __init__(self, setup: Setup) -> None:
        self.layers = {layer.name: layer for layer in setup.layers}
        self._setup = setup
        self._runs: tuple[Run, ...] = ()
        self._moments: dict[tuple[str, Block], LayerMoments] = {}

    def begin(self, batch: Batch) -> None:
        """Begin a batch. Its activations follow, layer by layer."""
        self._runs = batch.runs

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """Add a layer's activation ``[stimulus, ...]`` of the current batch."""
        activation = reduce(activation, self._setup.reductions[layer])
        device = moments_device(self._setup.device)
        for run in self._runs:
            key = layer, run.block
            if key not in self._moments:
                self._moments[key] = LayerMoments(self.layers[layer], device, lambda *_: None)
            self._moments[key].fold_in(activation, [run])

    def taken(self, layer: Layer, block: Block) -> Finished:
        """The moments of a group, which is then forgotten."""
        finished = self._moments.pop((layer.name, block)).part()
        assert finished  # every group has stimuli
        return finished

    def save(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Nothing: a stream cannot be shown again from where it stopped."""
        return {}, {}

    def resume(self, headers: Mapping[str, Any], contents: Mapping[str, NDArray[Any]]) -> None:
        """Begin: there is nothing to resume."""

    def finish(self) -> None:
        """All stimuli were shown; the groups are asked for one by one."""


def run_stream(
    request: Request, output: str | Path, overwrite: bool, listener: Listener
) -> Location:
    """Carry out the scan of a stream, and return where its store is.

    Raises
    ------
    UserError : see :func:`fusiform.scan`; the moments of all groups do not fit into memory; a
        group has fewer than two stimuli in the end
    """
    for name, given in (("null", request.design.null), ("batch_size", request.design.batch_size)):
        if given:
            raise UserError(
                f"a stream comes in an order and batches of its own; got `{name}`: leave it out, "
                "or give a map-style Dataset"
            )
    check_machine(request)
    with lent(request.network.model), asked_to_stop() as stop:
        batches = _Batches(request.stimuli)
        listener.note(
            "a stream is shown once: the moments of all "
            f"{len(batches.categories) * request.design.folds} groups are in memory, and a scan "
            "that is stopped begins anew"
        )
        setup = _set_up(request, batches, listener)
        seen, groups = _Seen(setup.design.folds), _EveryGroup(setup)
        started = said = time.perf_counter()
        how = setup.plan, setup.device, groups, setup.sample
        with recycled(), showing(setup.backbone, setup.layers, *how) as show:
            for items, labels in batches:
                decoded = _decoded(setup, items, labels, seen)
                _note_invisible(decoded, listener)
                show(decoded)
                if (now := time.perf_counter()) - said >= _SAY_EVERY:
                    said, done = now, len(seen.labels)
                    listener.progress(Progress("scan", done, 0, now - started, peak_memory()))
                stop.look()
        _write(setup, seen, groups, output, overwrite, listener)
    return final_location(output)


def _set_up(request: Request, batches: _Batches, listener: Listener) -> Setup:
    """The network set up on the first batch.

    Raises
    ------
    UserError : the moments of all groups do not fit into memory
    """
    items, labels = batches.first
    design, folds = replace(request.design, batch_size=batches.size), request.design.folds
    groups = [Block(c, fold, 0, 0) for c in range(len(batches.categories)) for fold in range(folds)]
    nobody = np.empty(0, np.int64)
    plan = Plan(nobody, nobody.astype(np.int32), tuple(groups), batches.size, folds)
    first = catalogue(
        batches.categories,
        ["batch 0"] * len(items),
        np.array(labels, np.int32),
        np.stack([np.frombuffer(digest_of(item), np.uint8) for item in items]),
        items.__getitem__,
        np.arange(len(items)),
    )
    setup = set_up(
        replace(request, design=design),
        StimulusSet(first),
        listener,
        held_of=lambda _, layers: {one.name: len(groups) * one.state_bytes for one in layers},
        backbone=load_backbone(request.network),
        plan=plan,
    )
    if len(setup.fitting.parts) > 1:
        held = sum(len(groups) * layer.state_bytes for layer in setup.layers)
        raise UserError(
            f"a stream is shown once, with the moments of all {len(groups)} groups in memory; they "
            f"take {held / 2**30:.2f} GiB, more than is left: record fewer `layers` or "
            '`units="channel"`, or give a map-style Dataset'
        )
    return setup


def _decoded(setup: Setup, items: Sequence[Any], labels: Sequence[int], seen: _Seen) -> Decoded:
    """A batch in the order of groups, so that those of a group are consecutive."""
    folds = [seen.add(label, item) for label, item in zip(labels, items, strict=True)]
    groups = np.array(labels) * setup.design.folds + folds
    order = np.argsort(groups, kind="stable")
    starts = [0, *(np.flatnonzero(np.diff(groups[order])) + 1).tolist(), len(order)]
    runs = tuple(
        Run(Block(labels[order[start]], folds[order[start]], 0, 0), start, stop, last=False)
        for start, stop in pairwise(starts)
    )
    first = len(seen.labels) - len(items)
    names = [f"stimulus {first + row}" for row in order]
    preprocessing = None if setup.sample else setup.backbone.preprocessing
    pixels = batch_of([items[row] for row in order], names, preprocessing)
    return Decoded(Batch(first + order, runs), pixels, {})


def _note_invisible(decoded: Decoded, listener: Listener) -> None:
    """Name the pictures of a batch in which nothing is visible."""
    if isinstance(decoded.pixels, np.ndarray):
        for row in invisible_rows(decoded.pixels):
            note_invisible(Path(f"stimulus {decoded.batch.stimuli[row]}"), listener)


def _write(
    setup: Setup,
    seen: _Seen,
    groups: _EveryGroup,
    output: str | Path,
    overwrite: bool,
    listener: Listener,
) -> None:
    """Write the store of a stream that has ended.

    Raises
    ------
    UserError : a group has fewer than two stimuli
    """
    categories, folds = setup.catalogue.categories, setup.design.folds
    for label, category in enumerate(categories):
        if (number := seen.counts.get(label, 0)) < 2 * folds:
            raise UserError(
                f"a t statistic needs 2 images per category and fold ({2 * folds} with "
                f"`folds={folds}`); the stream had {number} of {category}: add some, or leave the "
                "category out"
            )
    labels, digests = (
        np.array(seen.labels, np.int32),
        np.frombuffer(b"".join(seen.digests), np.uint8),
    )
    order = np.argsort(labels, kind="stable")
    names = [f"{categories[labels[number]]}/{number}" for number in order.tolist()]
    fold_of = np.array(seen.folds_of, np.int32)[order]
    shown = catalogue(
        categories, names, labels[order], digests.reshape(len(labels), -1)[order], _gone, order
    )
    plan = replace(setup.plan, fold_of=fold_of)
    counts = np.zeros((len(categories), folds), np.int64)
    np.add.at(counts, (labels[order], fold_of), 1)
    coordinates = read_coordinates(setup.design.coordinates, setup.layers)
    blueprint = StoreBlueprint(
        layers=setup.layers,
        categories=categories,
        counts=counts,
        stimuli=stimulus_table(shown, plan),
        provenance=provenance_of(setup, coordinates),
        coordinates=coordinates,
    )
    with drafting(output, overwrite, blueprint) as draft:
        draft.add_notes(chain(setup.notes, [_NOTE]))
        for layer in setup.layers:
            warned = False
            for number, block in enumerate(setup.plan.blocks):
                finished = groups.taken(layer, block)
                for _, _, units in finished.nonfinite([layer]):
                    if not warned:
                        dtype, warned = input_dtype(setup.backbone.model), True
                        listener.note(nonfinite(layer, units, categories[block.category], dtype))
                draft.write_groups([layer], number, *finished.moments())
        materialise(draft)


def _gone(number: int) -> Any:
    raise IndexError(f"stimulus {number} of a stream came once")


_NOTE = "stimuli came in a stream: batches mixed the categories"
