"""The scan: shows a network every stimulus once and leaves a store of moments and contrasts.

The only file that knows plan, stimuli, capture, live moments and store together.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...kernels.moments import Moments
from ..asking.result import Result
from ..asking.select import materialise
from ..errors import UserError
from ..spec import SHOWN, STORE_DTYPES, Layer, Preprocessing
from ..stimuli.catalogue import Catalogue, Groups, read_catalogue
from ..store.resuming import resuming
from ..store.writing import Draft, final_place, refuse_existing, write_behind
from .backbones import Backbone, backbone_of, provenance_of
from .capture import capture
from .decode import Decoded, decode_ahead, default_workers, normalise
from .device import device_for, place
from .faults import explained
from .interrupt import Stop, asked_to_stop
from .layers import choose, input_dtype, trial
from .live import Live
from .memory import peak_memory, recycled
from .plan import Block, Plan, make_plan, shuffled_labels
from .shuffle import ShuffledMoments, refuse_null

# What is to happen when a stimulus cannot be shown.
ON_ERROR = ("stop", "skip")


@dataclass(frozen=True)
class Progress:
    """How far a scan is: what it is doing, ``done`` of ``total`` steps, seconds since it began to.

    ``peak_bytes`` is the largest resident memory of this program so far, ``before`` how many of the
    steps an earlier run had done.
    """

    stage: str
    done: int
    total: int
    seconds: float
    peak_bytes: int
    before: int = 0


@dataclass(frozen=True)
class Listener:
    """Where a scan reports to: ``note(line)`` for what a user should know, ``progress(event)``."""

    note: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None


def scan(
    model: str | nn.Module,
    stimuli: str | Path,
    output: str | Path,
    *,
    groups: Groups | None = None,
    root: str | Path | None = None,
    weights: str = "default",
    seed: int = 0,
    layers: str | Sequence[str] = "blocks",
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    folds: int = 2,
    null: int = 0,
    null_units: int = 1000,
    batch_size: int = 32,
    device: str | None = None,
    decode_workers: int | None = None,
    store_dtype: str = "float64",
    on_error: str = "stop",
    commit_every: float = 60,
    overwrite: bool = False,
    restart: bool = False,
    listener: Listener | None = None,
) -> Result:
    """Show a network a localizer set and say which of its units are category-selective.

    Activations are streamed into online moments per layer, category and fold, and are never held
    longer than one batch. Then t, q, CSI and the selective mask of every category are written
    beside the moments (criterion ``each``: Welch t against every other category, Benjamini-Hochberg
    q at most 0.05 in the layer).

    A scan that was stopped, by whatever it was, goes on when it is called again as before, and
    ends with the same bits.

    Parameters
    ----------
    model : a name (see :func:`.backbones.load_backbone`) or a torch module that takes ``[batch, 3,
        y, x]``; a module is put, and stays, in evaluation mode, on ``device``, its weights with
        channels last in memory
    stimuli : a folder with a folder per category, or a CSV manifest (columns path, category)
    output : the store to create, by custom ``NAME.zarr``; a folder, or the URL of an object store
    groups : category -> the folders it joins; where given, only those are used
    root : the folder that all stimuli lie in, where some lie outside of ``stimuli``
    weights, seed : for a model given by name, see :func:`.backbones.load_backbone`; ``seed`` also
        draws the null
    layers : ``blocks``, ``all``, ``leaf``, dotted names or globs; one or several
    preprocessing : replaces the model's own, whole or by single values (``{"crop": 288}``)
    folds : parts of the set for cross-validation, 1 for none: then nothing says how many of the
        selected units replicate, and their CSI and d' are those that selected them, too high
    null : how many times labels are shuffled for a permutation null; its moments are exact
    null_units : units of every layer that the null is made of, drawn before they are seen
    batch_size : stimuli per forward pass; a multiple of 8 keeps the network's rounding even
    device : ``cpu``, ``cuda``, ``cuda:1``; by default a GPU if there is one, or where a module is
    decode_workers : threads that decode images; by default as many as cores, at most 8
    store_dtype : what means and sums of squares are kept in. ``float32`` halves them; they are then
        rounded to 6e-8 of themselves, and so is what is merged of them
    on_error : what happens when a stimulus is no image, cannot be read, or has changed since the
        scan began: ``stop``; or ``skip``, which leaves it out of the counts and says so in the
        stimulus table. With a null, one that fails after labels were shuffled stops the scan
    commit_every : seconds after which what was done is committed: no more is lost when the scan is
        stopped from outside
    overwrite : replace an earlier store at ``output``
    restart : begin anew, whatever an unfinished scan has left
    listener : hears notes and progress

    Returns
    -------
    the finished :class:`fusiform.Result <fusiform.engine.asking.result.Result>`

    Raises
    ------
    UserError : the request cannot be carried out as it was made. What was done is kept, or where
        nothing was committed yet, nothing is left behind
    KeyboardInterrupt : at SIGINT or SIGTERM, after the batch is done and committed (in the main
        thread; elsewhere signals do not arrive); at a second SIGINT at once

    Examples
    --------
    >>> store = fusiform.scan("resnet18", "stimuli/", "r18.zarr", weights="none")  # doctest: +SKIP
    >>> store.dataset("layer4.1").t.sel(category="faces").max().compute()  # doctest: +SKIP
    """
    listener = listener or Listener()
    refuse_existing(output, overwrite, unfinished=True)
    _refuse_unknown(store_dtype, on_error, commit_every, decode_workers)
    refuse_null(null, null_units)
    target = device_for(device, model)
    catalogue = read_catalogue(stimuli, groups, root)
    for note in catalogue.notes:
        listener.note(note)
    plan = make_plan(
        catalogue.labels,
        catalogue.categories,
        folds=folds,
        batch_size=batch_size,
        left_out=_left_out(catalogue, stimuli, on_error, listener),
    )
    backbone = backbone_of(model, weights, seed, preprocessing)
    network = place(backbone.model, target)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    chosen, notes = choose(trial(network, backbone.preprocessing.crop), patterns)
    for note in notes:
        listener.note(note)
    listener.note(
        f"{backbone.name} ({backbone.weights}): {len(chosen)} layers, "
        f"{sum(layer.units for layer in chosen):,} units; "
        f"{len(plan.order)} stimuli, {len(catalogue.categories)} categories, {folds} folds"
    )
    listener.note(f"preprocessing: {backbone.preprocessing}")
    if folds == 1:
        listener.note("one fold: nothing will say how many of the selected units replicate")
    shuffled = None
    if null:
        labels = shuffled_labels(catalogue.labels, plan.fold_of, null, seed)
        shuffled = ShuffledMoments(chosen, labels, plan.fold_of, null_units, seed)
        listener.note(_price(shuffled, plan, null, null_units))
    drawn = {"shuffles": null, "units": null_units, "seed": seed} if null else None
    with resuming(
        output,
        overwrite,
        restart,
        listener.note,
        plan.order,
        layers=chosen,
        categories=catalogue.categories,
        counts=plan.counts(len(catalogue.categories)),
        stimuli=_stimulus_table(catalogue, plan),
        provenance={
            "stimuli": str(stimuli),
            "batch_size": batch_size,
            "store_dtype": store_dtype,
            **provenance_of(backbone, target),
            **({"null": drawn} if drawn else {}),
        },
    ) as draft:
        _warn_of_little_space(draft, output, listener)
        with asked_to_stop() as stop:
            work = _Work(draft, plan, listener, stop, commit_every)
            with recycled():
                work.show(
                    backbone,
                    catalogue,
                    target,
                    shuffled,
                    decode_workers or default_workers(),
                    skip=on_error == "skip",
                )
            work.contrast()
    return Result.open(final_place(output))


class _Work:
    """What a scan does for its draft, committed from time to time: all of it, or what is left."""

    def __init__(
        self, draft: Draft, plan: Plan, listener: Listener, stop: Stop, commit_every: float
    ) -> None:
        self._draft = draft
        self._plan = plan
        self._listener = listener
        self._stop = stop
        self._every = commit_every
        self._committed = time.perf_counter()
        if draft.was_committed:
            self._go_on()

    def _go_on(self) -> None:
        commit, plan = self._draft.commit, self._plan
        shown = min(commit.batches * plan.batch_size, len(plan.order))
        finished = [block for block in plan.blocks if block.stop <= shown]
        try:
            self._draft.require_moments([(block.category, block.fold) for block in finished])
        except UserError as error:
            raise UserError(
                f"what an unfinished scan had done is damaged ({error}): give it up with --restart"
            ) from None
        self._listener.note(
            f"going on with an unfinished scan: {shown:,} of {len(plan.order):,} stimuli were "
            f"shown, {len(finished):,} of {len(plan.blocks):,} groups are finished, contrasts of "
            f"{commit.contrasts} of {len(self._draft.layers)} layers are written"
        )
        if commit.machine and commit.machine != _machine():
            self._listener.note(
                f"it was begun with {_said(commit.machine)}, and goes on with {_said(_machine())}: "
                "the last bits may differ from those of one run"
            )

    @property
    def _is_due(self) -> bool:
        return time.perf_counter() - self._committed >= self._every

    # Stimuli

    def show(
        self,
        backbone: Backbone,
        catalogue: Catalogue,
        device: torch.device,
        shuffled: ShuffledMoments | None,
        workers: int,
        skip: bool,
    ) -> None:
        """The loop: decode, show, fold in, and write every block's moments when it is complete."""
        draft, plan, commit = self._draft, self._plan, self._draft.commit
        if draft.is_complete or (commit.batches == plan.n_batches and not commit.live):
            return
        dtype = input_dtype(backbone.model)
        warned: set[str] = set()

        def write(layer: Layer, block: Block, moments: Moments) -> None:
            if layer.name not in warned and not np.isfinite(moments.m2).all():
                warned.add(layer.name)
                self._listener.note(_nonfinite(layer, moments, draft.categories[block.category]))
            later(draft.write_moments, layer, block.category, block.fold, moments)

        def keep() -> None:
            """Commit what is shown; the network goes on while it reaches the disk."""
            later.wait()
            records, contents = live.save()
            draft.save_live(contents)
            later(
                draft.write_commit,
                batches=batches,
                skipped=skipped,
                live=records,
                machine=_machine(),
            )
            self._committed = time.perf_counter()

        live = Live(draft.layers, device, write, shuffled)
        live.go_on(commit.live, draft.live)
        draft.live = {}
        batches, skipped, whole = commit.batches, dict(commit.skipped), True
        images = decode_ahead(
            catalogue, plan, backbone.preprocessing, workers,
            first=batches, skip=skip and not shuffled, look=self._stop.look,
        )  # fmt: skip
        started, before = time.perf_counter(), min(batches * plan.batch_size, len(plan.order))
        side = backbone.preprocessing.crop
        with (
            write_behind() as later,
            explained(backbone.model, (plan.batch_size, 3, side, side), dtype, device),
            capture(backbone.model, live.layers, live.fold_in) as show,
        ):
            try:
                for decoded in images:
                    failed = self._failed(decoded, skipped, catalogue)
                    live.begin(decoded.batch.without(decoded.failed))
                    pixels = _filled(decoded.pixels, plan)
                    whole = False
                    batch = normalise(pixels, backbone.preprocessing, device, dtype)
                    show(batch)
                    batches, skipped, whole = batches + 1, skipped | failed, True
                    self._report("scan", batches * plan.batch_size, before, started)
                    if self._is_due:
                        keep()
                    self._stop.look()
            except BaseException as error:
                # Not in the middle of a batch; and not where it is to leave at once.
                if (
                    whole
                    and batches > draft.commit.batches
                    and type(error) is not KeyboardInterrupt
                ):
                    with suppress(Exception):
                        keep()
                        later.wait()
                raise
            if shuffled:
                for layer in draft.layers:
                    null = shuffled.read_out(layer.name)
                    later(
                        draft.write_shuffled_moments,
                        layer,
                        shuffled.units[layer.name],
                        null.mean,
                        null.m2,
                    )
            later.wait()
            draft.save_live({})
            later(draft.write_commit, batches=batches, skipped=skipped, live={}, machine=_machine())

    def _failed(
        self, decoded: Decoded, skipped: Mapping[int, str], catalogue: Catalogue
    ) -> dict[int, str]:
        """The stimuli of a batch that are skipped, and why.

        Raises
        ------
        UserError : too few of their category and fold would be left
        """
        failed = {int(decoded.batch.stimuli[row]): why for row, why in decoded.failed.items()}
        for stimulus, why in failed.items():
            self._listener.note(f"skipped: {why}")
            category, fold = catalogue.labels[stimulus], self._plan.fold_of[stimulus]
            gone = [
                other
                for other in {**skipped, **failed}
                if (catalogue.labels[other], self._plan.fold_of[other]) == (category, fold)
            ]
            name = catalogue.categories[category]
            if self._plan.counts(len(catalogue.categories))[category, fold] - len(gone) < 2:
                raise UserError(
                    f"a t statistic needs 2 images per category and fold; {name} has fewer that "
                    f"can be shown ({why}): restore them, or add others and --restart"
                )
        return failed

    # Contrasts

    def contrast(self) -> None:
        """Write the contrasts beside the moments, layer by layer."""
        draft = self._draft
        if draft.is_complete:
            return
        first, layers = draft.commit.contrasts, draft.layers
        started, written = time.perf_counter(), first
        before = sum(layer.units for layer in layers[:first])

        def report(_: Layer) -> None:
            nonlocal written
            written += 1
            self._report("contrasts", sum(one.units for one in layers[:written]), before, started)
            if self._is_due or self._stop.signal is not None:
                draft.save_live({})
                draft.write_commit(contrasts=written)
                self._committed = time.perf_counter()
            self._stop.look()

        materialise(draft, report, first)

    def _report(self, stage: str, done: int, before: int, started: float) -> None:
        total = (
            len(self._plan.order)
            if stage == "scan"
            else sum(layer.units for layer in self._draft.layers)
        )
        seconds = time.perf_counter() - started
        self._listener.progress(
            Progress(stage, min(done, total), total, seconds, peak_memory(), before)
        )


def _refuse_unknown(
    store_dtype: str, on_error: str, commit_every: float, decode_workers: int | None
) -> None:
    if store_dtype not in STORE_DTYPES:
        raise UserError(
            f"moments are kept in {' or '.join(STORE_DTYPES)}; got a store dtype of {store_dtype!r}"
        )
    if on_error not in ON_ERROR:
        raise UserError(
            f"at a stimulus that cannot be shown a scan is to {' or '.join(ON_ERROR)}; "
            f"got {on_error!r}"
        )
    if not commit_every >= 0:
        raise UserError(f"commits are some seconds apart, or 0; got {commit_every}")
    if decode_workers is not None and decode_workers < 1:
        raise UserError(f"decoding needs at least 1 thread; got {decode_workers} decode workers")


def _left_out(
    catalogue: Catalogue, stimuli: str | Path, on_error: str, listener: Listener
) -> list[int]:
    """The stimuli that cannot be shown, if they are to be skipped.

    Raises
    ------
    UserError : there are some, and they are not
    """
    bad = [index for index, content in enumerate(catalogue.contents) if content.problem]
    if not bad:
        return []
    first = f"{catalogue.path(bad[0])} {catalogue.contents[bad[0]].problem}"
    if on_error == "stop":
        raise UserError(
            f"stimuli are images that can be read; {len(bad)} of {len(catalogue)} are not ({first}"
            f"{', ...' if len(bad) > 1 else ''}): 'fusiform stimuli check {stimuli}' lists all, "
            "--on-error skip leaves them out"
        )
    for index in bad:
        listener.note(f"skipped: {catalogue.path(index)} {catalogue.contents[index].problem}")
    return bad


def _stimulus_table(catalogue: Catalogue, plan: Plan) -> dict[str, Sequence[Any]]:
    return {
        "stimulus_path": catalogue.shown_names,
        "stimulus_category": catalogue.labels.tolist(),
        "stimulus_fold": plan.fold_of.tolist(),
        "stimulus_sha256": [content.sha256 for content in catalogue.contents],
        "stimulus_status": [content.problem or SHOWN for content in catalogue.contents],
    }


def _price(shuffled: ShuffledMoments, plan: Plan, shuffles: int, units: int) -> str:
    seconds = shuffled.seconds_per_batch(plan.batch_size) * plan.n_batches
    memory = f"{shuffled.state_bytes / 2**20:,.0f} MiB"
    return (
        f"null: {shuffles:,} shuffles of the labels, on {units:,} units of every layer (all of a "
        f"smaller one): {memory} of memory, about {seconds:,.0f} s in the pass"
    )


def _filled(pixels: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
    """The last, short batch, filled up with its last image, whose extra rows belong to no run.

    Networks round differently at another batch size: a unit that is constant would seem to vary.
    """
    missing = plan.batch_size - len(pixels)
    if not missing or plan.n_batches == 1:
        return pixels
    return np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])


def _nonfinite(layer: Layer, moments: Moments, category: str) -> str:
    units = int(np.count_nonzero(~np.isfinite(moments.m2)))
    cause = (
        ": float16 holds nothing above 65,504, most likely why: scan in bfloat16 or float32"
        if layer.dtype == "float16"
        else ""
    )
    return (
        f"warning: {units:,} of {layer.units:,} units of {layer.name} gave NaN or infinity for "
        f"{category}{cause}"
    )


def _machine() -> dict[str, Any]:
    """What else than the plan and the versions the last bits can depend on."""
    return {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _said(machine: Mapping[str, Any]) -> str:
    return f"{machine['threads']} threads and {machine['instructions']} instructions"


def _warn_of_little_space(draft: Draft, output: str | Path, listener: Listener) -> None:
    """Say so if the disk may be too small; it is full when it is, and nothing is lost then."""
    if not isinstance(draft.path, Path):
        return
    needed, free = draft.most_bytes, shutil.disk_usage(draft.path).free
    if needed > free:
        listener.note(
            f"warning: {output} may take up to {needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} "
            "GiB are free there: when the disk is full the scan stops, and can go on"
        )
