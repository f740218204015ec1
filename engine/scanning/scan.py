"""The scan: shows a network every stimulus once and leaves a store of moments and contrasts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from ..decoding.ahead import default_workers
from ..distributing.cluster import workers_asked_for
from ..distributing.driver import distribute
from ..errors import UserError
from ..limits import refuse_numbers
from ..moments.null import ShuffledMoments, refuse_null
from ..moments.plan import Plan, shuffled_labels
from ..networks.backbones import backbone_of
from ..networks.dims import Dims
from ..networks.weights import looks_like_file
from ..preprocessing import Preprocessing
from ..querying.result import Result
from ..stimuli.catalogue import Catalogue, Groups
from ..stimuli.columns import Column
from ..store.draft import Draft, most_bytes
from ..store.places import whereabouts
from ..store.resuming import begun_with, resuming
from ..store.writing import final_place, refuse_existing
from ..variables import SHOWN, STORE_DTYPES
from .interrupt import asked_to_stop
from .memory import peak_memory, recycled
from .progress import Listener, Progress
from .setup import set_up
from .work import Work

# What is to happen when a stimulus cannot be shown.
ON_ERROR = ("stop", "skip")
# Seconds after which the reading of stimuli before the scan is said to go on.
_SAY_EVERY = 0.5


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
    units: str = "all",
    dims: Dims | None = None,
    precision: str | None = None,
    compile: bool = False,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    folds: int = 2,
    null: int = 0,
    null_units: int = 1000,
    batch_size: int | None = None,
    memory_budget: int | str | None = None,
    device: str | None = None,
    decode_workers: int | None = None,
    store_dtype: str = "float64",
    on_error: str = "stop",
    on_nondeterminism: str = "note",
    commit_every: float = 60,
    workers: int | None = None,
    scheduler: Any = None,
    threads_per_worker: int | None = None,
    overwrite: bool = False,
    restart: bool = False,
    go_back: bool = False,
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
    stimuli : a folder with a folder per category, a manifest (.csv, .parquet, .arrow; columns path,
        category and perhaps sha256), or a folder of tar shards (see :mod:`..stimuli.shards`)
    output : the store to create, by custom ``NAME.zarr``; a folder, or the URL of an object store
    groups : category -> the folders it joins; where given, only those are used
    root : the folder that all stimuli lie in, where some lie outside of ``stimuli``
    weights, seed : for a model given by name, see :func:`.backbones.load_backbone`; ``seed`` also
        draws the null
    layers : ``blocks``, ``all``, ``leaf``, dotted names or globs; one or several
    units : what is recorded of a layer: ``all`` of its output; of every ``channel`` the mean over
        positions; of every ``token``, or place in a feature map, the mean over channels; or
        ``cls``, the channels of the first token, which is the class token where a network has one.
        Layers without such dimensions are recorded whole, or with ``cls`` left out
    dims : layer, by name or glob, -> names of its dimensions (``"channel,y,x"``,
        ``"token,channel"``, ``axis_N`` for others), where they cannot be told
    precision : ``float32``, ``bfloat16`` or ``float16``, to which parameters and images are cast
        (of a module a copy is), or ``tf32``, by which NVIDIA's GPUs multiply float32; by default
        the network's own, and float32 is multiplied as such. Moments are float64 in any case
    compile : layers that hold no other recorded one run through ``torch.compile``; what is compiled
        rounds differently
    preprocessing : replaces the model's own, whole or by single values (``{"crop": 288}``,
        ``{"decoder": "torchvision"}``)
    folds : parts of the set for cross-validation, 1 for none: then nothing says how many of the
        selected units replicate, and their CSI and d' are those that selected them, too high
    null : how many times labels are shuffled for a permutation null; its moments are exact
    null_units : units of every layer that the null is made of, drawn before they are seen
    batch_size : stimuli per forward pass, by default 32, or less where that does not fit; a
        multiple of 8 keeps the network's rounding even
    memory_budget : bytes (or ``"8GiB"``) that this program takes at most where the network runs, or
        all ``workers`` together, by default what is free, less a tenth. Where all layers do not
        fit, stimuli are shown several times, to some layers each
    device : ``cpu``, ``cuda``, ``cuda:1``; by default a GPU if there is one, or where a module is
    decode_workers : threads that decode images, or for a network on a GPU processes, if more than
        4; by default as many as cores, at most 8
    store_dtype : what means and sums of squares are kept in. ``float32`` halves them; they are then
        rounded to 6e-8 of themselves, and so is what is merged of them
    on_error : what happens when a stimulus is no image, cannot be read, or has changed since the
        scan began: ``stop``; or ``skip``, which leaves it out of the counts and says so in the
        stimulus table. With a null, one that fails after labels were shuffled stops the scan
    on_nondeterminism : what happens when responses to an image depend on the other images of its
        batch (BatchNorm without running statistics), or on the run (dropout that stays on): a
        ``note``, kept in the store; or ``stop``
    commit_every : seconds after which what was done is committed: no more is lost when the scan is
        stopped from outside. Workers commit every shard of at least eight batches as it is done
    workers : processes of this machine that share the work, to the same bits; the model is given by
        name then, and there is no null
    scheduler : the address of a dask scheduler whose workers share the work, ``tcp://...``, or a
        cluster of dask's; they reach stimuli and output by the same paths
    threads_per_worker : that each computes and decodes in; by default all ``workers`` share the
        cores, those of a scheduler have as many as dask gave them
    overwrite : replace an earlier store at ``output``
    restart : begin anew, whatever an unfinished scan has left
    go_back : where the last commit of an unfinished scan is damaged, go on from the one before
    listener : hears notes and progress

    Returns
    -------
    the finished :class:`fusiform.Result <fusiform.engine.querying.result.Result>`

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
    crew = workers_asked_for(workers, scheduler, threads_per_worker, model, null)
    if crew and looks_like_file(weights):
        weights = str(Path(weights).absolute())  # workers may stand elsewhere
    if batch_size is None and not restart:
        begun = begun_with(output).get("batch_size")
        batch_size = begun if isinstance(begun, int) and begun > 0 else None
    setup = set_up(
        model,
        stimuli,
        groups=groups,
        root=root,
        weights=weights,
        seed=seed,
        layers=layers,
        units=units,
        precision=precision,
        compile=compile,
        preprocessing=preprocessing,
        folds=folds,
        null=null,
        null_units=null_units,
        batch_size=batch_size,
        memory_budget=memory_budget,
        processes=(crew and crew.number) or 1,
        device=device,
        listener=listener,
        on_nondeterminism=on_nondeterminism,
        dims=dims,
        left_out=lambda catalogue: left_out(catalogue, stimuli, on_error, listener),
    )
    catalogue, plan = setup.catalogue, setup.plan
    shuffled_of: Callable[..., ShuffledMoments] | None = None
    if null:
        labels = shuffled_labels(catalogue.labels, plan.fold_of, null, seed)
        shuffled_of = partial(ShuffledMoments, setup.layers, labels, plan.fold_of, null_units, seed)
        listener.note(_price(shuffled_of(setup.layers), plan, null, null_units))
    drawn = {"shuffles": null, "units": null_units, "seed": seed} if null else None
    with resuming(
        output,
        overwrite,
        restart,
        listener.note,
        plan.order,
        go_back=go_back,
        layers=setup.layers,
        categories=catalogue.categories,
        counts=plan.counts(len(catalogue.categories)),
        stimuli=stimulus_table(catalogue, plan),
        provenance={
            **whereabouts(stimuli),
            "batch_size": plan.batch_size,
            "store_dtype": store_dtype,
            **setup.network,
            **({"units": units, "dims": setup.dims} if units != "all" else {}),
            **({"null": drawn} if drawn else {}),
        },
    ) as draft:
        draft.add_notes(setup.notes)
        _warn_of_little_space(draft, output, listener)
        with asked_to_stop() as stop:
            if crew:
                distribute(
                    crew, draft, setup, listener, stop,
                    build=partial(
                        backbone_of, model, weights, seed, preprocessing, precision, compile
                    ),
                    decode_workers=decode_workers,
                    skip=on_error == "skip",
                )  # fmt: skip
            else:
                work = Work(draft, plan, listener, stop, commit_every)
                with recycled():
                    work.show(
                        setup,
                        shuffled_of,
                        decode_workers or default_workers(),
                        skip=on_error == "skip",
                    )
                work.contrast()
    return Result.open(final_place(output))


def _refuse_unknown(
    store_dtype: str, on_error: str, commit_every: float, decode_workers: int | None
) -> None:
    if store_dtype not in STORE_DTYPES:
        raise UserError(
            f"moments are kept in {' or '.join(STORE_DTYPES)}; got a store dtype of {store_dtype!r}"
        )
    refuse_on_error(on_error, decode_workers)
    refuse_commits(commit_every)


def refuse_commits(commit_every: float) -> None:
    """Refuse commits that are not some seconds apart.

    Raises
    ------
    UserError : they are not
    """
    if not (isinstance(commit_every, Real) and float(commit_every) >= 0):
        raise UserError(f"commits are some seconds apart, or 0; got {commit_every}")


def refuse_on_error(on_error: str, decode_workers: int | None) -> None:
    """Refuse what stimuli cannot be decoded by.

    Raises
    ------
    UserError : ``on_error`` is none of ``ON_ERROR``, or there are no threads
    """
    if on_error not in ON_ERROR:
        raise UserError(
            f"at a stimulus that cannot be shown a scan is to {' or '.join(ON_ERROR)}; "
            f"got {on_error!r}"
        )
    refuse_numbers(decode_workers=decode_workers)
    if decode_workers is not None and decode_workers < 1:
        raise UserError(f"decoding needs at least 1 thread; got {decode_workers} decode workers")


def reporting(listener: Listener) -> Callable[[int, int], None]:
    """A callback that reports every few seconds how many stimuli were read."""
    started = said = time.perf_counter()

    def report(done: int, total: int) -> None:
        nonlocal said
        if (now := time.perf_counter()) - said >= _SAY_EVERY:
            said = now
            listener.progress(Progress("stimuli", done, total, now - started, peak_memory()))

    return report


def left_out(
    catalogue: Catalogue, stimuli: str | Path, on_error: str, listener: Listener
) -> list[int]:
    """The stimuli that cannot be shown, if they are to be skipped.

    Raises
    ------
    UserError : there are some, and they are not
    """
    problems = catalogue.look(reporting(listener)).problems
    bad = list(problems)
    if not bad:
        return []
    first = f"{catalogue.path(bad[0])} {problems[bad[0]]}"
    if on_error == "stop":
        raise UserError(
            f"stimuli are images that can be read; {len(bad)} of {len(catalogue)} are not ({first}"
            f"{', ...' if len(bad) > 1 else ''}): 'fusiform stimuli check {stimuli}' lists all, "
            "--on-error skip leaves them out"
        )
    for index in bad:
        listener.note(f"skipped: {catalogue.path(index)} {problems[index]}")
    return bad


def stimulus_table(catalogue: Catalogue, plan: Plan) -> dict[str, Any]:
    """The stimulus table, in columns of a few bytes a row: texts are made as they are written."""
    contents = catalogue.contents
    return {
        "stimulus_path": catalogue.shown_names,
        "stimulus_category": catalogue.labels,
        "stimulus_fold": plan.fold_of,
        "stimulus_sha256": Column(len(catalogue), contents.sha256),
        "stimulus_status": Column(len(catalogue), lambda i: contents.problems.get(i, SHOWN)),
    }


def _price(shuffled: ShuffledMoments, plan: Plan, shuffles: int, units: int) -> str:
    seconds = shuffled.seconds_per_batch(plan.batch_size) * plan.n_batches
    memory = f"{shuffled.state_bytes / 2**20:,.0f} MiB"
    return (
        f"null: {shuffles:,} shuffles of the labels, on {units:,} units of every layer (all of a "
        f"smaller one): {memory} of memory, about {seconds:,.0f} s in the pass"
    )


def _warn_of_little_space(draft: Draft, output: str | Path, listener: Listener) -> None:
    """Say so if the disk may be too small; it is full when it is, and nothing is lost then."""
    if not isinstance(draft.path, Path):
        return
    needed = most_bytes(
        draft.layers, len(draft.categories), draft.folds, draft.provenance["store_dtype"]
    )
    free = shutil.disk_usage(draft.path).free
    if needed > free:
        listener.note(
            f"warning: {output} may take up to {needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} "
            "GiB are free there: when the disk is full the scan stops, and can go on"
        )
