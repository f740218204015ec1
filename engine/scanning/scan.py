"""The scan: shows a network every stimulus once and leaves a store of moments and contrasts.

The only file that knows plan, stimuli, capture, accumulate and store together.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...kernels.moments import Moments
from ..asking.result import Result
from ..asking.select import materialise
from ..errors import UserError, nearest
from ..spec import SHOWN, STORE_DTYPES, Layer, Preprocessing, as_record
from ..stimuli.catalogue import Catalogue, Groups, read_catalogue
from ..store.writing import Draft, drafting, final_place, refuse_existing, write_behind
from .accumulate import LayerMoments
from .backbones import Backbone, load_backbone
from .capture import capture
from .decode import decode_ahead, default_workers, normalise
from .layers import choose, input_dtype, trial
from .memory import peak_memory, recycled
from .plan import Block, Plan, Run, make_plan, shuffled_labels
from .shuffle import ShuffledMoments, refuse_null
from .weights import hash_weights


@dataclass(frozen=True)
class Progress:
    """How far a scan is: what it is doing, ``done`` of ``total`` steps, seconds since it began to.

    ``peak_bytes`` is the largest resident memory of this program so far.
    """

    stage: str
    done: int
    total: int
    seconds: float
    peak_bytes: int


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
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Result:
    """Show a network a localizer set and say which of its units are category-selective.

    Activations are streamed into online moments per layer, category and fold, and are never held
    longer than one batch. Then t, q, CSI and the selective mask of every category are written
    beside the moments (criterion ``each``: Welch t against every other category, Benjamini-Hochberg
    q at most 0.05 in the layer).

    Parameters
    ----------
    model : a name (see :func:`.backbones.load_backbone`) or a torch module that takes ``[batch, 3,
        y, x]``; a module is put, and stays, in evaluation mode, on ``device``, its weights with
        channels last in memory
    stimuli : a folder with a folder per category, or a CSV manifest (columns path, category)
    output : the store to create, by custom ``NAME.zarr``; a folder, or the URL of an object store
    groups : category -> the folders it joins; where given, only those are used
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
    overwrite : replace an earlier store at ``output``
    listener : hears notes and progress

    Returns
    -------
    the finished :class:`fusiform.Result <fusiform.engine.asking.result.Result>`

    Raises
    ------
    UserError : the request cannot be carried out as it was made; nothing is left behind

    Examples
    --------
    >>> store = fusiform.scan("resnet18", "stimuli/", "r18.zarr", weights="none")  # doctest: +SKIP
    >>> store.dataset("layer4.1").t.sel(category="faces").max().compute()  # doctest: +SKIP
    """
    listener = listener or Listener()
    refuse_existing(output, overwrite)
    if store_dtype not in STORE_DTYPES:
        raise UserError(
            f"moments are kept in {' or '.join(STORE_DTYPES)}; got a store dtype of {store_dtype!r}"
        )
    if decode_workers is not None and decode_workers < 1:
        raise UserError(f"decoding needs at least 1 thread; got {decode_workers} decode workers")
    refuse_null(null, null_units)
    target = device_for(device, model)
    catalogue = read_catalogue(stimuli, groups)
    plan = make_plan(catalogue.labels, catalogue.categories, folds=folds, batch_size=batch_size)
    for note in catalogue.notes:
        listener.note(note)
    backbone = _backbone(model, weights, seed, preprocessing)
    network = place(backbone.model, target)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    chosen, notes = choose(trial(network, backbone.preprocessing.crop), patterns)
    for note in notes:
        listener.note(note)
    listener.note(
        f"{backbone.name} ({backbone.weights}): {len(chosen)} layers, "
        f"{sum(layer.units for layer in chosen):,} units; "
        f"{len(catalogue)} stimuli, {len(catalogue.categories)} categories, {folds} folds"
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
    with drafting(
        output,
        overwrite,
        layers=chosen,
        categories=catalogue.categories,
        counts=plan.counts(len(catalogue.categories)),
        stimuli=_stimulus_table(catalogue, plan),
        provenance={
            "stimuli": str(stimuli),
            "batch_size": batch_size,
            "store_dtype": store_dtype,
            **_described(backbone, target),
            **({"null": drawn} if drawn else {}),
        },
    ) as store:
        workers = decode_workers or default_workers()
        with recycled():
            _stream(store, backbone, catalogue, plan, target, workers, listener, shuffled)
        _materialise(store, listener)
    return Result.open(final_place(output))


def device_for(device: str | None, model: str | nn.Module = "") -> torch.device:
    """The device that a scan runs on: the one asked for, else a module's own, else a GPU if any.

    Raises
    ------
    UserError : there is no such device, or it knows no float64
    """
    if device is None and isinstance(model, nn.Module):
        return next((p.device for p in model.parameters()), torch.device("cpu"))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=target).item()
    except (RuntimeError, AssertionError, TypeError):
        raise UserError(
            f"a device has to be there and know float64 (mps does not); {name!r} is not one: "
            "use --device cpu"
        ) from None
    return target


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """``model`` on ``device``, its weights as they are fastest: channels last for convolutions."""
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    return model


def _stream(
    store: Draft,
    backbone: Backbone,
    catalogue: Catalogue,
    plan: Plan,
    device: torch.device,
    workers: int,
    listener: Listener,
    shuffled: ShuffledMoments | None,
) -> None:
    """The loop: decode, show, fold in, and write every block's moments when it is complete."""

    def write(layer: Layer, block: Block, moments: Moments) -> None:
        later(store.write_moments, layer, block.category, block.fold, moments)

    accumulators = {layer.name: LayerMoments(layer, device, write) for layer in store.layers}
    runs: tuple[Run, ...] = ()

    def fold_in(layer: str, activation: torch.Tensor) -> None:
        accumulators[layer].fold_in(activation, runs)
        if shuffled:
            shuffled.fold_in(layer, activation)

    dtype = input_dtype(backbone.model)
    started, shown = time.perf_counter(), 0
    with write_behind() as later, capture(backbone.model, accumulators, fold_in) as show:
        for batch, pixels in decode_ahead(catalogue, plan, backbone.preprocessing, workers):
            runs = batch.runs
            if shuffled:
                shuffled.begin(batch.stimuli)
            show(normalise(_filled(pixels, plan), backbone.preprocessing, device, dtype))
            shown += len(batch.stimuli)
            seconds = time.perf_counter() - started
            listener.progress(Progress("scan", shown, len(catalogue), seconds, peak_memory()))
    if shuffled:
        for layer in store.layers:
            null = shuffled.read_out(layer.name)
            store.write_shuffled_moments(layer, shuffled.units[layer.name], null.mean, null.m2)


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


def _materialise(store: Draft, listener: Listener) -> None:
    started, total = time.perf_counter(), sum(layer.units for layer in store.layers)
    done = 0

    def report(layer: Layer) -> None:
        nonlocal done
        done += layer.units
        seconds = time.perf_counter() - started
        listener.progress(Progress("contrasts", done, total, seconds, peak_memory()))

    materialise(store, report)


def _backbone(
    model: str | nn.Module,
    weights: str,
    seed: int,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
) -> Backbone:
    if isinstance(model, str):
        backbone = load_backbone(model, weights, seed)
    else:
        if weights != "default":
            raise UserError(
                f"a torch module is scanned with the weights it has; got weights={weights!r}: "
                "load them into it first"
            )
        model.eval()
        name = type(model).__name__
        backbone = Backbone(name, model, Preprocessing(), "as given", hash_weights(model))
    if isinstance(preprocessing, Preprocessing):
        return replace(backbone, preprocessing=preprocessing)
    overrides = dict(preprocessing or {})
    known = as_record(backbone.preprocessing)
    for name in overrides.keys() - known.keys():
        raise UserError(f"preprocessing has no {name!r}: {nearest(name, known)}")
    return replace(backbone, preprocessing=replace(backbone.preprocessing, **overrides))


def _stimulus_table(catalogue: Catalogue, plan: Plan) -> dict[str, Sequence[Any]]:
    return {
        "stimulus_path": catalogue.names,
        "stimulus_category": catalogue.labels.tolist(),
        "stimulus_fold": plan.fold_of.tolist(),
        "stimulus_sha256": catalogue.hashes,
        "stimulus_status": [SHOWN] * len(catalogue),
    }


def _described(backbone: Backbone, device: torch.device) -> dict[str, Any]:
    """The network in a store's provenance."""
    kinds = "\n".join(type(module).__name__ for module in backbone.model.modules())
    return {
        "model": backbone.name,
        "weights": backbone.weights,
        "weights_sha256": backbone.weights_hash,
        # The same weights under another activation function are another network.
        "modules_sha256": hashlib.sha256(kinds.encode()).hexdigest(),
        "preprocessing": as_record(backbone.preprocessing),
        "device_type": device.type,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
