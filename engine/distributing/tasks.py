"""What a worker does: a shard of the stimuli, a group whose parts are to be merged, a contrast.

Functions here run in the worker's process. Each opens the draft anew, writes, and records what it
did; done a second time it writes the same bytes again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Concatenate, NamedTuple, ParamSpec, cast

import numpy as np
import torch

from ...kernels.moments import Moments, merge
from ..contrasts.select import materialise
from ..decoding.ahead import ImageSource, decode_ahead
from ..errors import UserError
from ..layer import Layer
from ..moments.accumulators import Live
from ..moments.plan import Block, Plan
from ..networks.backbones import load_backbone
from ..networks.behaviour import network_of
from ..networks.layers import input_dtype
from ..networks.out_of_memory import explained
from ..networks.placement import device_for, place
from ..networks.units import Axes
from ..scanning.forward import showing
from ..scanning.memory import peak_memory, recycled
from ..scanning.rounding import machine
from ..scanning.work import nonfinite
from ..spec import Network
from ..stimuli.catalogue import Catalogue
from ..store.behind import write_behind
from ..store.draft import Draft
from ..store.identity import IDENTITY, NETWORK, difference
from ..store.places import Place, is_group
from ..store.records import Seal
from ..store.root import Unreadable

# The stages of a scan, which the names of tasks begin with.
SHOW, MERGE, CONTRAST = "show", "merge", "contrast"
# What a worker's network has to have in common with that of the scan.
_OF_A_WORKER = {*NETWORK, "device_type"} - {"units"}
# Images of the passes by which it is told.
_PROBED = 2
Record = dict[str, Any]
_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True)
class Job:
    """What all tasks of a scan have in common.

    ``token`` names the run, ``place`` and ``identity`` the draft.
    ``threads`` and ``decode_workers`` are those of a worker, None for what it has; ``axes`` are
    those that means of a layer are over.
    """

    token: str
    place: Place
    identity: Mapping[str, Any]
    network: Network
    device: str
    threads: int | None
    decode_workers: int | None
    skip: bool
    axes: Axes


class Outcome(NamedTuple):
    """A worker's answer: the mistake that the user made, or how the task went.

    ``damaged`` says that what was refused is a part of the draft.
    """

    refused: tuple[str, ...] = ()
    record: Mapping[str, Any] = {}
    peak_bytes: int = 0
    damaged: bool = False


class Here(NamedTuple):
    """What a task has where it is done: its job, the draft, and its name in the records."""

    job: Job
    draft: Draft
    name: str


class _Seat:
    """A worker's network, built once for all shards of a job; ``threads`` that it runs on."""

    def __init__(self, job: Job, draft: Draft) -> None:
        self.token = job.token
        self.device = _device(job.device)
        self.left = ExitStack()
        self.left.enter_context(recycled())
        self.backbone = load_backbone(job.network)
        place(self.backbone.model, self.device)
        model, crop = self.backbone.model, self.backbone.preprocessing.crop
        with explained(model, (_PROBED, 3, crop, crop), input_dtype(model), self.device):
            _, found = network_of(self.backbone, self.device, [one.name for one in draft.layers])
        if differing := difference(draft.provenance, found, IDENTITY.keys() - _OF_A_WORKER):
            raise UserError(
                f"all workers show the same network; one has other {differing}: give all of them "
                "the same files"
            )


_seat: _Seat | None = None
# A worker of several dask threads has one network all the same.
_one_at_a_time = threading.Lock()


def _task(
    work: Callable[Concatenate[Here, _Arguments], Record],
) -> Callable[Concatenate[Job, str, _Arguments], Outcome]:
    """Do ``work`` on the draft, one at a time, and record what it gives under the task's name.

    A user's mistake is an answer like others.
    """

    @wraps(work)
    def answering(
        job: Job, name: str, *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> Outcome:
        try:
            with _one_at_a_time:
                draft = _joined(job)
                # Who did it may have died before the scan heard of it.
                if (record := draft.records.read(name)) is not None:
                    return Outcome(record=record)
                torch.set_num_threads(_threads(job))
                record = work(Here(job, draft, name), *arguments, **named)
                _joined(job)  # not another's by now, begun while this was under way
                draft.records.write(name, **record)
                return Outcome(record=record, peak_bytes=peak_memory())
        except UserError as mistake:
            return Outcome(mistake.lines, damaged=isinstance(mistake, Unreadable))

    return cast("Callable[Concatenate[Job, str, _Arguments], Outcome]", answering)


@_task
def show(
    here: Here,
    plan: Plan,
    catalogue: Catalogue,
    numbers: tuple[int, int],
    layers: Sequence[str],
    skipped: Mapping[int, str],
) -> Record:
    """Show the network a shard; gives what its record holds.

    Moments of groups that lie inside are written; of others, what the shard has of them is kept.

    Parameters
    ----------
    plan, catalogue : of the shard alone
    numbers : of the first batch, and of the one after the last
    layers : that are recorded in this pass
    skipped : stimuli that are left out, and why
    """
    job, draft, name = here
    seat = _seated(job, draft)
    own = [layer for layer in draft.layers if layer.name in layers]
    finished: set[tuple[int, int]] = set()
    kept: dict[str, Seal] = {}
    warnings: dict[str, str] = {}

    def keep(layer: Layer, block: Block, moments: Moments) -> None:
        group = block.category, block.fold
        if layer is own[0]:
            _joined(job)  # not another's by now
        if layer.name not in warnings and not np.isfinite(moments.m2).all():
            category, own_dtype = draft.categories[block.category], input_dtype(seat.backbone.model)
            warnings[layer.name] = nonfinite(layer, moments, category, own_dtype)
        if block.start >= 0 and block.stop <= len(plan.order):
            draft.write_moments(layer, *group, moments)
            finished.add(group)
        else:
            key = part_of(layer, group)
            kept[key] = draft.records.keep(f"{name}/{key}", moments)

    failed, invisible = dict(skipped), list[int]()
    with write_behind() as later:
        live = Live(
            own, seat.device, lambda *finished: later(keep, *finished), None, draft.units,
            axes=job.axes,
        )  # fmt: skip
        source = ImageSource(
            catalogue,
            seat.backbone.preprocessing,
            job.decode_workers or min(8, _threads(job)),
            skip=job.skip,
            device=seat.device,
        )
        images = decode_ahead(source, plan, invisible=invisible.append)
        with showing(seat.backbone, draft.layers, plan, seat.device, live) as show_batch:
            for decoded in images:
                failed |= {int(decoded.batch.stimuli[r]): why for r, why in decoded.failed.items()}
                show_batch(decoded.but_for(failed))
        last = plan.blocks[-1]
        if last.stop > len(plan.order):
            for layer in own:
                if moments := live.layers[layer.name].part():
                    later(keep, layer, last, moments)
    return {
        "batches": numbers,
        "layers": [layer.name for layer in own],
        "finished": sorted(finished),
        "kept": kept,
        "skipped": failed,
        "invisible": invisible,
        "machine": machine(),
        "warnings": warnings,
    }


@_task
def merge_group(
    here: Here,
    group: tuple[int, int],
    parts: Mapping[str, Sequence[tuple[str, Seal]]],
) -> Record:
    """Merge what shards have of a group, in the plan's order, as one process does.

    ``parts`` are for every layer the names of the shards' tasks, and what they kept.
    """
    draft = here.draft
    for layer in draft.layers:
        merged: Moments | None = None
        for task, seal in parts[layer.name]:
            found = draft.records.kept(f"{task}/{part_of(layer, group)}", layer, seal)
            if found is None:
                draft.records.forget(task)
                raise UserError(
                    f"what workers leave is read again as it was written; the moments of {task} in "
                    f"{draft.path} are damaged: the same command does that part again"
                )
            part = Moments(found.count, *map(torch.from_numpy, found[1:]))
            merged = merge(merged, part) if merged else part
        assert merged is not None  # of two stimuli or more
        draft.write_moments(layer, *group, Moments(merged[0], *(m.numpy() for m in merged[1:])))
    return {"machine": machine()}


@_task
def contrast(here: Here, number: int) -> Record:
    """Write the contrasts of a layer beside its moments."""
    materialise(here.draft, first=number, stop=number + 1)
    return {"machine": machine()}


def leave(token: str) -> None:
    """Give back what a worker has kept for a job, unless it is still at work on it."""
    global _seat
    if _one_at_a_time.acquire(blocking=False):
        if _seat and _seat.token == token:
            _seat.left.close()
            _seat = None
        _one_at_a_time.release()


def part_of(layer: Layer, group: tuple[int, int]) -> str:
    """What a shard's part of a group is called."""
    return f"{layer.name}/{group[0]}.{group[1]}"


def _joined(job: Job) -> Draft:
    """The draft of the job.

    Raises
    ------
    UserError : it is not there, or is another's by now; other versions than those it was begun with
    """
    if not is_group(job.place):
        raise UserError(
            f"workers fill the scan's own store; {job.place} is not there for one of them: name an "
            "output that all of them reach by the same path"
        )
    draft = Draft.join(job.place)
    if any(draft.provenance[name] != value for name, value in job.identity.items()):
        raise UserError(f"{job.place} was being filled and is another scan's by now: scan again")
    for name, wanted in draft.provenance["versions"].items():
        if (own := _version(name)) != wanted:
            raise UserError(
                f"workers compute with the versions of the scan, others may round differently; one "
                f"has {name} {own}, the scan {wanted}: install the same"
            )
    return draft


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not at all"


def _seated(job: Job, draft: Draft) -> _Seat:
    global _seat
    if _seat is None or _seat.token != job.token:
        if _seat:
            _seat.left.close()
        _seat = None  # or two networks would be there while the next is built
        _seat = _Seat(job, draft)
    return _seat


def _threads(job: Job) -> int:
    from distributed import get_worker

    return job.threads or get_worker().state.nthreads


def _device(name: str) -> torch.device:
    """A GPU for every worker of a machine, as far as they go; workers are numbered by their names.

    Where ``CUDA_VISIBLE_DEVICES`` shows each its own, there is one for every worker to see.
    """
    from distributed import get_worker

    number = str(get_worker().name)
    if name == "cuda" and number.isdecimal() and torch.cuda.device_count() > 1:
        return device_for(f"cuda:{int(number) % torch.cuda.device_count()}")
    return device_for(name)
