"""A scan from request to store: set up, draft, execute, publish."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..contrasts.selectivity import load_kernel
from ..daemons import daemons
from ..moments.accumulate import load_kernels
from ..networks.backbones import load_backbone
from ..networks.lending import lent
from ..networks.placement import moments_device
from ..networks.units.reduction import attributes_of
from ..spec import Request
from ..store.location import Location, stimuli_attributes
from ..store.writing.creating import StoreBlueprint
from ..store.writing.publishing import final_location
from ..store.writing.resuming import Existing, resuming
from ..store.writing.store_draft import StoreDraft, max_commit_bytes, max_store_bytes
from .coordinates import Coordinates, hashes_of, read_coordinates
from .interrupt import Stop, asked_to_stop
from .progress import Listener
from .setup import Setup, check_machine, set_up
from .stimulus_set import Reading, ReadObjects, stimulus_table
from .work import InProcess, null_of


class Executor(Protocol):
    """Fills the draft of a scan: in this process, or on workers."""

    processes: int

    def fill(self, draft: StoreDraft, setup: Setup, listener: Listener, stop: Stop) -> None:
        """Do what the setup describes: all of it, or what an earlier run has left."""


def run(
    request: Request,
    output: str | Path,
    existing: Existing,
    executor: Executor,
    listener: Listener,
    reading: Reading | ReadObjects,
) -> Location:
    """Carry out a scan, and return where its store is. The network is built during the ``reading``.

    Raises
    ------
    UserError : see :func:`fusiform.scan`
    """
    check_machine(request)
    with lent(request.network.model):
        setup = _set_up(request, executor, listener, reading)
        _write(setup, output, existing, executor, listener)
    return final_location(output)


def _set_up(
    request: Request, executor: Executor, listener: Listener, reading: Reading | ReadObjects
) -> Setup:
    reading.listed()  # or weights would be downloaded for stimuli that do not exist
    stimuli = reading.read(listener) if reading.is_over else None
    listener.begin("building the network")
    backbone = load_backbone(request.network)
    stimuli = stimuli or reading.read(listener)
    return set_up(request, stimuli, listener, processes=executor.processes, backbone=backbone)


def _write(
    setup: Setup,
    output: str | Path,
    existing: Existing,
    executor: Executor,
    listener: Listener,
) -> None:
    """Show the stimuli and write the store."""
    _price_null(setup, listener)
    catalogue, plan = setup.catalogue, setup.plan
    coordinates = read_coordinates(setup.design.coordinates, setup.layers)
    sizes = len(catalogue.categories), setup.design.folds, setup.design.store_dtype
    listener.notes(setup.remarks_on_size(max_store_bytes(setup.layers, *sizes)))
    blueprint = StoreBlueprint(
        layers=setup.layers,
        categories=catalogue.categories,
        counts=plan.counts(len(catalogue.categories)),
        stimuli=stimulus_table(catalogue, plan),
        provenance=provenance_of(setup, coordinates),
        coordinates=coordinates,
    )
    with (
        _kernels_loaded(setup, executor),
        resuming(output, blueprint, plan.order, existing, listener.note) as draft,
    ):
        draft.add_notes(setup.notes)
        _warn_of_little_space(draft, output, listener)
        with asked_to_stop() as stop:
            executor.fill(draft, setup, listener, stop)


@contextmanager
def _kernels_loaded(setup: Setup, executor: Executor) -> Iterator[None]:
    """Load the kernels in a thread, while the draft is created and the first batch is decoded.

    Nobody waits for it: a kernel that it did not load is loaded where it is called.
    """
    with daemons(1, "kernels") as submit:
        if moments_device(setup.device).type == "cpu" and isinstance(executor, InProcess):
            submit(load_kernels, setup.layers)
            submit(load_kernel)
        yield


def provenance_of(setup: Setup, coordinates: Coordinates) -> dict[str, object]:
    """Attributes of the store's root."""
    design = setup.design
    seed = setup.request.network.seed
    null = {"shuffles": design.null, "units": design.null_units, "seed": seed}
    return {
        **stimuli_attributes(setup.request.stimuli),
        "batch_size": setup.plan.batch_size,
        "store_dtype": design.store_dtype,
        **setup.attributes,
        **attributes_of(design.units, setup.dims, setup.reductions),
        **({"null": null} if design.null else {}),
        **({"coordinates": hashes_of(coordinates)} if coordinates else {}),
    }


def _price_null(setup: Setup, listener: Listener) -> None:
    """Tell the listener what the null costs."""
    if not (shuffled := null_of(setup, setup.layers)):
        return
    shuffles, units = setup.design.null, setup.design.null_units
    seconds = shuffled.seconds_per_batch(setup.plan.batch_size) * setup.plan.n_batches
    memory = f"{shuffled.state_bytes / 2**20:,.0f} MiB"
    listener.note(
        f"null: {shuffles:,} shuffles of the labels, on {units:,} units of every layer (all of a "
        f"smaller one): {memory} of memory, about {seconds:,.0f} s in the pass"
    )


def _warn_of_little_space(draft: StoreDraft, output: str | Path, listener: Listener) -> None:
    """Warn if the disk may be too small; when it is full the scan stops and nothing is lost."""
    if not isinstance(draft.path, Path):
        return
    sizes, dtype = (len(draft.categories), draft.reader.folds), draft.provenance["store_dtype"]
    needed = max_store_bytes(draft.layers, *sizes, dtype)
    needed += max_commit_bytes(draft.layers, sizes[0] * sizes[1])
    free = shutil.disk_usage(draft.path).free
    if needed > free:
        listener.note(
            f"warning: {output} may take up to {needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} "
            "GiB are free there: when the disk is full the scan stops, and can go on"
        )
