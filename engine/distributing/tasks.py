"""Tasks of a worker: run a shard of stimuli, merge a file, compute contrasts.

Functions here run in the worker's process. Each opens the draft, writes to it, and records the
result. A repeated task writes the same bytes again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, wraps
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Concatenate, NamedTuple, ParamSpec, cast

import torch

from ...kernels.moments import Moments
from ..contrasts.select import materialise
from ..decoding.ahead import ImageSource, decode_ahead
from ..errors import UserError
from ..layer import Layer, is_function
from ..moments.accumulators import Live
from ..moments.plan import Plan
from ..networks.backbones import load_backbone
from ..networks.behaviour import network_of
from ..networks.out_of_memory import explained
from ..networks.placement import device_for, input_dtype, moments_device, place
from ..networks.units.functions import source_sha256
from ..networks.units.reduction import Reductions
from ..scanning.budget import pending_writes
from ..scanning.forward import showing
from ..scanning.memory import peak_memory, recycled
from ..scanning.rounding import machine
from ..spec import Network
from ..stimuli.catalogue import Catalogue
from ..store.identity import IDENTITY, NETWORK, difference
from ..store.location import Location, is_group
from ..store.reader import Unreadable
from ..store.writing.array_writer import background_writer
from ..store.writing.commits import Seal
from ..store.writing.store_draft import StoreDraft
from .shard_results import ShardResults, joined

# Stages of a scan: prefixes of task names.
SHOW, MERGE, CONTRAST = "show", "merge", "contrast"
# Attributes that a worker's network must share with the scan's.
_OF_A_WORKER = {*NETWORK, "device_type"} - {"units"}
# Batch size of the passes that probe it.
_PROBED = 2
Record = dict[str, Any]
_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True)
class Job:
    """Settings shared by all tasks of a scan.

    ``token`` names the run, ``place`` and ``identity`` the draft.
    ``threads`` and ``decode_workers`` are per worker, None for its default. ``reductions`` make
    units of layers.
    """

    token: str
    place: Location
    identity: Mapping[str, Any]
    network: Network
    device: str
    threads: int | None
    decode_workers: int | None
    skip: bool
    reductions: Reductions


class Outcome(NamedTuple):
    """Result of a task: a record, or the lines of a user's mistake in ``refused``.

    ``damaged`` means that a part of the draft cannot be read.
    """

    refused: tuple[str, ...] = ()
    record: Mapping[str, Any] = {}
    peak_bytes: int = 0
    damaged: bool = False


class Context(NamedTuple):
    """Context of a task: its job, the draft, and its name in the records."""

    job: Job
    draft: StoreDraft
    name: str


class _LoadedNetwork:
    """A worker's network, built once for all shards of a job."""

    def __init__(self, job: Job, draft: StoreDraft) -> None:
        self.token = job.token
        self.device = _device(job.device)
        self.left = ExitStack()
        self.left.enter_context(recycled())
        self.backbone = load_backbone(job.network)
        place(self.backbone.model, self.device)
        model, crop = self.backbone.model, self.backbone.preprocessing.crop
        with explained(model, (_PROBED, 3, crop, crop), input_dtype(model), self.device):
            _, found = network_of(self.backbone, self.device, [one.name for one in draft.layers])
        if is_function(draft.reader.units):
            found["units_sha256"] = source_sha256(draft.reader.units)
        if differing := difference(draft.provenance, found, IDENTITY.keys() - _OF_A_WORKER):
            raise UserError(
                f"all workers must run the same network; one has different {differing}: give all "
                "of them the same files"
            )


_loaded: _LoadedNetwork | None = None
# A worker with several dask threads still has one network.
_one_at_a_time = threading.Lock()


def _task(
    work: Callable[Concatenate[Context, _Arguments], Record],
) -> Callable[Concatenate[Job, str, _Arguments], Outcome]:
    """Run ``work`` on the draft, one at a time, and save its record under the task's name.

    A user's mistake is returned, not raised.
    """

    @wraps(work)
    def answering(
        job: Job, name: str, *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> Outcome:
        try:
            with _one_at_a_time:
                draft = _joined(job)
                # A worker may have finished the task and died before it could report it.
                if (record := draft.tasks.read(name)) is not None:
                    return Outcome(record=record)
                torch.set_num_threads(_threads(job))
                record = work(Context(job, draft, name), *arguments, **named)
                _joined(job)  # raises if another scan has replaced the draft meanwhile
                draft.tasks.write(name, **record)
                return Outcome(record=record, peak_bytes=peak_memory())
        except UserError as mistake:
            return Outcome(mistake.lines, damaged=isinstance(mistake, Unreadable))

    return cast("Callable[Concatenate[Job, str, _Arguments], Outcome]", answering)


@_task
def show(
    context: Context,
    plan: Plan,
    catalogue: Catalogue,
    numbers: tuple[int, int],
    layers: Sequence[str],
    skipped: Mapping[int, str],
) -> Record:
    """Run the network on a shard and return its record.

    Files of whole groups are written to the draft. Parts of others are kept for merging.

    Parameters
    ----------
    plan, catalogue : of the shard alone
    numbers : the first batch, and the one after the last
    layers : layers recorded in this pass
    skipped : stimuli to leave out, and why
    """
    job, draft, name = context
    network = _load(job, draft)
    own = [layer for layer in draft.layers if layer.name in layers]
    dtype = input_dtype(network.backbone.model)
    results = ShardResults(draft, name, plan, own, dtype, partial(_joined, job))
    failed, invisible = dict(skipped), list[int]()
    with background_writer(pending_writes(own, network.device)) as later:
        live = Live(
            own, moments_device(network.device), lambda *finished: later(results.take, *finished),
            None, reductions=job.reductions,
        )  # fmt: skip
        workers = job.decode_workers or min(8, _threads(job))
        source = ImageSource(
            catalogue, network.backbone.preprocessing, workers, skip=job.skip, device=network.device
        )
        images = decode_ahead(source, plan, invisible=invisible.append)
        with showing(network.backbone, draft.layers, plan, network.device, live) as show_batch:
            for decoded in images:
                failed |= {int(decoded.batch.stimuli[r]): why for r, why in decoded.failed.items()}
                show_batch(decoded.but_for(failed))
        last = plan.blocks[-1]
        if last.stop > len(plan.order):
            for bundle in live.bundles:
                if part := bundle.moments.part():
                    later(results.take, bundle.layers, [last], part)
        later(results.keep)
    return {
        "batches": numbers,
        "layers": [layer.name for layer in own],
        "written": results.written,
        "kept": results.kept,
        "skipped": failed,
        "invisible": invisible,
        "machine": machine(),
        "warnings": results.warnings,
    }


@_task
def merge_files(
    context: Context,
    place: Sequence[int],
    parts: Mapping[str, Sequence[tuple[str, Seal]]],
) -> Record:
    """Merge the shards' parts of a file in plan order, as one process does.

    Parameters
    ----------
    place : of the file in the grid of files of moments
    parts : layer -> the shards' tasks that kept a part of this file, and its seal
    """
    draft = context.draft
    for layer in draft.layers:
        if own := parts.get(layer.name):
            first = own[0][1][0]
            found = (_kept(draft, task, layer, seal) for task, seal in own)
            draft.write_groups([layer], first, *joined(found))
    return {"machine": machine(), "written": {name: [place] for name in parts}}


@_task
def contrast(context: Context, first: int, stop: int) -> Record:
    """Compute the contrasts of consecutive layers."""
    materialise(context.draft, first=first, stop=stop)
    return {"machine": machine(), "contrasts": (first, stop)}


def _kept(draft: StoreDraft, task: str, layer: Layer, seal: Seal) -> tuple[int, Moments]:
    """The first group of a part that a task kept, and its moments.

    Raises
    ------
    UserError : they are damaged; the task will be repeated
    """
    found = draft.tasks.kept(task, layer, seal)
    if found is None:
        draft.tasks.forget(task)
        raise UserError(
            f"moments are checked when they are read; those of {task} in {draft.path} "
            "are damaged: run the same command to repeat that part"
        )
    return seal[0], found


def leave(token: str) -> None:
    """Release a worker's network and memory, unless a task is running."""
    global _loaded
    if _one_at_a_time.acquire(blocking=False):
        if _loaded and _loaded.token == token:
            _loaded.left.close()
            _loaded = None
        _one_at_a_time.release()


def _joined(job: Job) -> StoreDraft:
    """The draft of the job.

    Raises
    ------
    UserError : the draft is missing or belongs to another scan now, or versions differ
    """
    if not is_group(job.place):
        raise UserError(
            f"all workers write to the scan's store; one cannot find {job.place}: choose an output "
            "that all of them reach by the same path"
        )
    draft = StoreDraft.join(job.place)
    if any(draft.provenance[name] != value for name, value in job.identity.items()):
        raise UserError(f"another scan has replaced {job.place} meanwhile: scan again")
    for name, needed in draft.provenance["versions"].items():
        if (own := _version(name)) != needed:
            raise UserError(
                f"workers need the scan's versions, as others may round differently; one has "
                f"{name} {own}, the scan {needed}: install the same"
            )
    return draft


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _load(job: Job, draft: StoreDraft) -> _LoadedNetwork:
    global _loaded
    if _loaded is None or _loaded.token != job.token:
        if _loaded:
            _loaded.left.close()
        _loaded = None  # frees the old network before the next is built
        _loaded = _LoadedNetwork(job, draft)
    return _loaded


def _threads(job: Job) -> int:
    from distributed import get_worker

    return job.threads or get_worker().state.nthreads


def _device(name: str) -> torch.device:
    """Device of a worker: its own GPU if the machine has several, in order of workers' names.

    If ``CUDA_VISIBLE_DEVICES`` shows each worker its own, every worker sees only one.
    """
    from distributed import get_worker

    number = str(get_worker().name)
    if name == "cuda" and number.isdecimal() and torch.cuda.device_count() > 1:
        return device_for(f"cuda:{int(number) % torch.cuda.device_count()}")
    return device_for(name)
