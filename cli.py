"""The command line: parse, call the engine, print."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import fusiform
from fusiform import terminal
from fusiform.engine.contrasts.language.criterion import (
    COMPARED,
    DEFAULT,
    PRESETS,
    Correction,
    Criterion,
    Family,
    Test,
    preset,
    remarks,
)
from fusiform.engine.errors import UserError, fault_of, is_of_limits
from fusiform.engine.layer import UNITS
from fusiform.engine.preprocessing import INTERPOLATIONS
from fusiform.engine.variables import SAVED

if TYPE_CHECKING:
    from fusiform.engine.querying.query import Query
    from fusiform.engine.querying.store import Store
    from fusiform.engine.querying.table import Table

app = typer.Typer(
    help="Find category-selective units in vision networks: one pass, nothing stored in between.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
stimuli_app = typer.Typer(
    help="Make, scramble, check and pack stimulus sets.", no_args_is_help=True
)
app.add_typer(stimuli_app, name="stimuli")

MODEL_HELP = (
    "NAME or torchvision:NAME, clip:NAME (open_clip's visual tower), timm:NAME, "
    "or package.module:factory."
)
STIMULI_HELP = (
    "A folder with a folder per category; a manifest (.csv, .parquet, .arrow) with the columns "
    "path, category and perhaps sha256; a folder of .tar shards in WebDataset's layout; or what "
    "'fusiform stimuli pack' has written."
)
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Crop = Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")]
Units = Annotated[
    Literal["all", "channel", "token", "cls"],
    typer.Option(
        help="What is recorded of a layer. "
        + "; ".join(f"{name}: {meaning}" for name, meaning in UNITS.items())
        + "."
    ),
]
Precision = Annotated[
    Literal["float32", "tf32", "bfloat16", "float16"] | None,
    typer.Option(
        help="What the network computes in; by default its own. tf32 is for NVIDIA's GPUs. "
        "Moments are float64 in any case."
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Run the network through torch.compile: it rounds differently, and takes tens of "
        "seconds to be compiled.",
    ),
]
Seed = Annotated[int, typer.Option(help="For everything drawn at random.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; a GPU if there is one.")]
BatchSize = Annotated[int, typer.Option(help="Stimuli per forward pass.")]
ScanBatchSize = Annotated[
    int | None, typer.Option(help="Stimuli per forward pass: 32, or fewer where they do not fit.")
]
MemoryBudget = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Take at most so much memory where the network runs (8GiB, say): smaller batches, and "
        "several passes over the stimuli, follow from it. By default what is free, less a tenth.",
    ),
]
# What is scanned, and how: of a scan and of its plan.
StimuliSource = Annotated[Path, typer.Argument(help=STIMULI_HELP)]
GroupsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CATEGORY=FOLDER,...",
        help="Join folders into a category; repeatable. Where given, only these are used.",
    ),
]
RecordedLayers = Annotated[
    list[str] | None,
    typer.Option(
        help="blocks (default), all, leaf, dotted names or globs, joined by commas; repeatable."
    ),
]
Dims = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAYER=DIM,DIM,...",
        help="Names of a layer's dimensions (channel, y, x, token, or axis_N) where they cannot be "
        "told; LAYER is a name or glob; repeatable.",
    ),
]
OnNondeterminism = Annotated[
    Literal["note", "stop"],
    typer.Option(
        help="When responses to an image depend on the rest of its batch (BatchNorm without "
        "running statistics) or on the run (dropout that stays on): a note, kept in the store, or "
        "stop. A few small passes before the scan tell."
    ),
]
Folds = Annotated[
    int,
    typer.Option(
        help="Parts for cross-validation. 1 for none: then no unit's selectivity is checked on "
        "stimuli that did not select it."
    ),
]
Null = Annotated[
    int,
    typer.Option(
        metavar="R",
        help="Also shuffle the labels R times: a permutation null, in the same pass.",
    ),
]
NullUnits = Annotated[
    int, typer.Option(help="Units of every layer that the null is made of, drawn at random.")
]
DecodeWorkers = Annotated[
    int | None,
    typer.Option(
        help="Threads that decode images, or for a GPU processes if more than 4; as many as "
        "cores, at most 8."
    ),
]
Interpolation = Annotated[str | None, typer.Option(help=f"One of {', '.join(INTERPOLATIONS)}.")]
Resize = Annotated[int | None, typer.Option(help="Shorter side of the resized image, in pixels.")]
StoreDtype = Annotated[
    Literal["float64", "float32"],
    typer.Option(
        help="What means and sums of squares are kept in. float32 halves them, and rounds them "
        "to 6e-8 of themselves."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")]
GuardFormulas = Annotated[
    bool,
    typer.Option(
        "--guard-formulas",
        help="In csv, put a ' before texts that a spreadsheet would run as formulas: those that "
        "begin with =, +, -, @, a tab or a carriage return. For stores from strangers.",
    ),
]
LayerNames = Annotated[
    list[str] | None,
    typer.Option(help="Only these layers: names or globs, joined by commas; repeatable."),
]
# A criterion. What is not given is the preset's, or the default's.
CriterionTest = Annotated[
    Test | None,
    typer.Option(
        "--test",
        help="each: Welch t against each baseline category, the smallest counts (default). rest: "
        "Welch t against the pooled baseline. weighted: t of weighted category means. student: as "
        "rest, with one variance for both sides.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="The rule, 'q <= 0.05' by default. Measures compared with numbers, joined by and, or, "
        "brackets; top 100 [by MEASURE], top 1% [by MEASURE], preferred. Measures: "
        f"{', '.join(COMPARED)}."
    ),
]
Sides = Annotated[
    int | None, typer.Option(help="1: the target's response is larger (default); 2: it differs.")
]
CorrectionOption = Annotated[
    Correction | None, typer.Option("--correction", help="What makes q of p; bh by default.")
]
FamilyOption = Annotated[
    Family | None,
    typer.Option("--family", help="The tests p is corrected over: of a layer (default), or all."),
]
Pairwise = Annotated[
    bool | None,
    typer.Option("--pairwise", help="The rule has to hold against each baseline category alone."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help=f"The criterion of a publication: {', '.join(PRESETS)} (see the docs; margalit2024 "
        "was without scrambled pictures)."
    ),
]
Stores = Annotated[list[str], typer.Argument(metavar="STORE", help="Results of scans.")]
OneStore = Annotated[str, typer.Argument(metavar="STORE", help="The result of a scan.")]
Output = Annotated[
    str,
    typer.Option("--output", "-o", help="The store to create: NAME.zarr, or an s3:// URL."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier store.")]
GoBack = Annotated[
    bool,
    typer.Option(
        "--go-back",
        help="Where the last commit of an unfinished run is damaged, go on from the one before.",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(help="A folder that stimuli of a manifest may lie in as well; else in its own."),
]


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2."""
    # What a cluster sends when time is up, and a terminal that is closed: leave as from an error,
    # so that nothing is left behind.
    for asked in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(asked) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(asked, lambda number, _: sys.exit(128 + number))
    terminal.open_streams()
    if sys.modules["fusiform"].__file__ is None:
        hiding = Path(next(iter(sys.modules["fusiform"].__path__))).resolve()
        sys.exit(terminal.say(f"the folder {hiding} hides the package fusiform: start elsewhere"))
    try:
        try:
            app()
        finally:
            print(end="", flush=True)
    except UserError as error:
        sys.exit(terminal.say(*error.lines, *getattr(error, "__notes__", ())))
    except BrokenPipeError:  # who read the answer has seen enough
        terminal.leave_output()
        sys.exit(1)
    except Exception as error:
        said = fault_of(error)
        if said is None:  # a mistake of ours
            raise
        if getattr(error, "filename", None) == terminal.OUTPUT:
            terminal.leave_output()
        code = terminal.say(said, *getattr(error, "__notes__", ()))
        if is_of_limits(error):
            terminal.leave_at_once(code)
        sys.exit(code)


def program() -> None:
    """Run the command line as a program of its own, which ends with it."""
    try:
        main()
    except SystemExit as left:
        # Threads of obstore that still wait for a server may abort a program that ends.
        if isinstance(left.code, int) and left.code and "obstore.store" in sys.modules:
            terminal.leave_at_once(left.code)
        raise


@contextmanager
def _stopped_in_a_line() -> Iterator[None]:
    """Say what is kept of a scan that was asked to stop, and leave as one leaves at a signal."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        kept = getattr(stopped, "__notes__", ["nothing was committed yet: nothing is left"])
        terminal.note(f"stopped; {'; '.join(kept)}")
        raise typer.Exit(128 + getattr(stopped, "signal", signal.SIGINT)) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("fusiform"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And leave.")
    ] = False,
) -> None:
    """Find category-selective units in vision networks: one pass, nothing stored in between."""


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(help="Where the stimuli and the store go.")] = Path(
        "fusiform-demo"
    ),
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "resnet18",
    weights: Annotated[
        str, typer.Option(help="Weights of the network; none is untrained, and needs no network.")
    ] = "none",
    per_category: Annotated[int, typer.Option(help="Stimuli drawn per category.")] = 48,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Draw the built-in localizer set, scan a network with it, and say what is selective."""
    from fusiform import Network, make_stimuli, scan
    from fusiform.engine.beside import draft_place, is_ours, mark, tidy, unmark
    from fusiform.engine.errors import told_of_the_disk

    stimuli, output = directory / "stimuli", directory / "demo.zarr"
    draft, new = draft_place(output), not directory.exists()
    ours = new or is_ours(directory)
    if not ours and not (stimuli.is_dir() and draft.exists()):
        raise UserError(
            f"the demo needs a new folder; {directory} exists: remove it or name another"
        )
    if ours:
        with told_of_the_disk(directory):
            directory.mkdir(parents=True, exist_ok=True)
            mark(directory)  # until all is done: a run that is killed goes on here
        tidy(stimuli)
        tidy(output)
    listener, drawn = terminal.listener(quiet), stimuli.exists()
    try:
        if not drawn:
            make_stimuli(stimuli, per_category=per_category, seed=seed)
            listener.note(f"drew {per_category} stimuli for each of six categories in {stimuli}")
        if not (ours and output.exists()):
            with _stopped_in_a_line():
                scan(Network(model, weights, seed), stimuli, output, listener=listener)
    except BaseException:
        if not drawn and not draft.exists():
            shutil.rmtree(stimuli, ignore_errors=True)
            unmark(directory)
            if new:
                directory.rmdir()
        raise
    unmark(directory)
    summary([str(output)], test="rest")
    if weights == "none":
        print("\nThis network is untrained: what it selects, it selects for low-level reasons.")
    print(
        f"\nNext, by the stricter default criterion, and with a trained network:"
        f"\n  fusiform summary {terminal.printable(str(output))}"
        f"\n  fusiform scan resnet50 {terminal.printable(str(stimuli))} -o r50.zarr"
    )


@app.command()
def layers(model: Model, crop: Crop = None, units: Units = "all", as_json: AsJson = False) -> None:
    """List what a network can record: name, type, shape, units, bytes of live state."""
    import fusiform

    found = fusiform.layers(model, crop=crop, units=units)
    if as_json:
        rows = [{**asdict(layer), "units": layer.units, "state_bytes": layer.state_bytes,
                 "in_blocks": layer.name in found.blocks} for layer in found.layers]  # fmt: skip
        terminal.print_json({"layers": rows, "refused": found.refused})
        return
    terminal.print_table(
        ["layer", "type", "shape", "units", "state", ""],
        [
            [
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)) + f" ({', '.join(layer.dims)})",
                f"{layer.units:,}",
                terminal.in_bytes(layer.state_bytes),
                "blocks" if layer.name in found.blocks else "",
            ]
            for layer in found.layers
        ],
        right={3, 4},
    )
    default = [layer for layer in found.layers if layer.name in found.blocks]
    print(
        f"\n--layers blocks (the default): {len(default)} layers, "
        f"{sum(layer.units for layer in default):,} units, "
        f"{terminal.in_bytes(sum(layer.state_bytes for layer in default))} of live state"
    )
    for name, reason in found.refused.items():
        print(terminal.printable(f"not recordable: {name} {reason}"))


@app.command()
def plan(
    model: Model,
    stimuli: StimuliSource,
    group: GroupsOption = None,
    layers: RecordedLayers = None,
    units: Units = "all",
    precision: Precision = None,
    compile: Compile = False,
    folds: Folds = 2,
    null: Null = 0,
    null_units: NullUnits = 1000,
    batch_size: ScanBatchSize = None,
    memory_budget: MemoryBudget = None,
    device: Device = None,
    decode_workers: DecodeWorkers = None,
    resize: Resize = None,
    crop: Crop = None,
    store_dtype: StoreDtype = "float64",
    root: Root = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """What a scan will take, before it is run: memory, disk, time, passes, what it waits for.

    The network is built untrained and shown a few batches of noise; some stimuli are decoded. The
    options are those of a scan, and what does not fit is refused as a scan would.
    """
    import fusiform

    sizes = {"resize": resize, "crop": crop}
    found = fusiform.plan(
        fusiform.Network(
            model,
            precision=precision,
            compile=compile,
            preprocessing={name: size for name, size in sizes.items() if size is not None},
        ),
        fusiform.Stimuli(stimuli, _groups(group), root),
        design=fusiform.Design(
            layers=_listed(layers, "blocks"),
            units=units,
            folds=folds,
            null=null,
            null_units=null_units,
            batch_size=batch_size,
            store_dtype=store_dtype,
        ),
        resources=fusiform.Resources(device, memory_budget, decode_workers),
        listener=terminal.listener(quiet),
    )
    terminal.print_forecast(found, as_json)


@app.command("scan")
def scan_command(
    model: Model,
    stimuli: StimuliSource,
    output: Output,
    group: GroupsOption = None,
    weights: Annotated[
        str,
        typer.Option(
            help="default (the library's own), none (untrained), a tag, FILE, or FILE:KEY."
        ),
    ] = "default",
    seed: Seed = 0,
    layers: RecordedLayers = None,
    units: Units = "all",
    dims: Dims = None,
    precision: Precision = None,
    compile: Compile = False,
    folds: Folds = 2,
    null: Null = 0,
    null_units: NullUnits = 1000,
    batch_size: ScanBatchSize = None,
    memory_budget: MemoryBudget = None,
    device: Device = None,
    decode_workers: DecodeWorkers = None,
    resize: Resize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    decoder: Annotated[
        Literal["pillow", "torchvision"] | None,
        typer.Option(
            help="What decodes and resizes JPEG files; Pillow does all others. torchvision uses "
            "nvJPEG on an NVIDIA GPU; its pixels are rounded otherwise, and so are results."
        ),
    ] = None,
    mean: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Per channel, R G B.")
    ] = None,
    std: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Per channel, R G B.")
    ] = None,
    store_dtype: StoreDtype = "float64",
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(
            help="When a stimulus cannot be shown (no image, damaged, gone, changed): stop, or "
            "leave it out of the counts. 'fusiform stimuli check' lists all of them before."
        ),
    ] = "stop",
    on_nondeterminism: OnNondeterminism = "note",
    root: Root = None,
    commit_every: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Commit what is done this often: no more of it is ever lost."
        ),
    ] = 60,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Share the work among N processes of this machine, to the same bits. Needs "
            "fusiform[dask].",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://...",
            help="Share the work among the workers of a dask scheduler, which reach stimuli and "
            "output by the same paths.",
        ),
    ] = None,
    threads_per_worker: Annotated[
        int | None,
        typer.Option(help="Threads of each worker; by default they share the cores."),
    ] = None,
    overwrite: Overwrite = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Give up what an unfinished scan has done.")
    ] = False,
    go_back: GoBack = False,
    quiet: Quiet = False,
) -> None:
    """Show a network every stimulus once; leave moments, t, q, CSI and masks in a zarr store.

    Preprocessing is the model's own; --resize, --crop, --interpolation, --decoder, --mean and --std
    override single values of it. A scan that was stopped, by Ctrl-C, a kill or a full disk, goes on
    with the same command.
    """
    from fusiform import Design, Network, Resources, Stimuli, scan

    overrides = {
        "resize": resize, "crop": crop, "interpolation": interpolation, "decoder": decoder,
        "mean": mean, "std": std,
    }  # fmt: skip
    listener = terminal.listener(quiet)
    with _stopped_in_a_line():
        scan(
            Network(
                model,
                weights,
                seed,
                {name: value for name, value in overrides.items() if value is not None},
                precision,
                compile,
                on_nondeterminism,
            ),
            Stimuli(stimuli, _groups(group), root, on_error),
            output,
            design=Design(
                layers=_listed(layers, "blocks"),
                units=units,
                dims=_dims(dims),
                folds=folds,
                null=null,
                null_units=null_units,
                batch_size=batch_size,
                store_dtype=store_dtype,
            ),
            resources=Resources(
                device=device,
                memory_budget=memory_budget,
                decode_workers=decode_workers,
                commit_every=commit_every,
                workers=workers,
                scheduler=scheduler,
                threads_per_worker=threads_per_worker,
            ),
            overwrite=overwrite,
            restart=restart,
            go_back=go_back,
            listener=listener,
        )
    listener.note(f"wrote {output}; next: fusiform summary {output}")


@app.command("record")
def record_command(
    model: Model,
    stimuli: StimuliSource,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="The recording to create: NAME.responses.zarr."),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STORE",
            help="The result of a scan of the same network: it is shown "
            "stimuli as it was then, and its units can be chosen by selectivity.",
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONTRAST",
            help="Record the units that the criterion selects for it ('*': for every category); "
            "repeatable.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of each layer and contrast the N units with the most of --by: of the selected; "
            "without --select of all, for every category.",
        ),
    ] = None,
    by: Annotated[str, typer.Option(metavar="MEASURE", help="What --top ranks units by.")] = "t",
    random: Annotated[
        int | None,
        typer.Option(metavar="N", help="Record N units of every layer, drawn from --seed."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="Those of --from (default), or blocks, all, leaf; names or globs, joined by "
            "commas; repeatable."
        ),
    ] = None,
    project: Annotated[
        int | None,
        typer.Option(
            metavar="DIM",
            help="Of layers with more chosen units than this, record a random projection to DIM "
            "dimensions, which keeps distances between stimuli.",
        ),
    ] = None,
    test: CriterionTest = None,
    where: Where = None,
    sides: Sides = None,
    correction: CorrectionOption = None,
    family: FamilyOption = None,
    pairwise: Pairwise = None,
    preset: Preset = None,
    group: GroupsOption = None,
    weights: Annotated[
        str | None,
        typer.Option(help="As for scan; by default those of --from, unless they were a file."),
    ] = None,
    seed: Seed = 0,
    units: Annotated[
        Literal["all", "channel", "token", "cls"] | None,
        typer.Option(help="As for scan; by default those of --from."),
    ] = None,
    precision: Precision = None,
    compile: Annotated[
        bool | None, typer.Option("--compile", help="As for scan; by default as --from.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Parts of the stimuli; by default as --from, or 2.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Stimuli per forward pass; by default as --from.")
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Take at most so much memory where the network runs."),
    ] = None,
    device: Device = None,
    decode_workers: DecodeWorkers = None,
    resize: Resize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    decoder: Annotated[
        Literal["pillow", "torchvision"] | None,
        typer.Option(help="What decodes JPEG files, as for scan; by default as --from."),
    ] = None,
    mean: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Per channel, R G B.")
    ] = None,
    std: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Per channel, R G B.")
    ] = None,
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="When a stimulus cannot be shown: stop, or record NaN for it."),
    ] = "stop",
    on_nondeterminism: OnNondeterminism = "note",
    root: Root = None,
    commit_every: Annotated[
        float, typer.Option(metavar="SECONDS", help="Commit what is done this often.")
    ] = 60,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a recording.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Give up what an unfinished recording has done.")
    ] = False,
    go_back: GoBack = False,
    quiet: Quiet = False,
) -> None:
    """Record the responses of chosen units to every stimulus: the second pass.

    Units are those that a store's criterion selects, the top of a measure, a random sample, or,
    where none is asked for, all of --layers; what several choose is recorded once. A recording that
    was stopped goes on with the same command. 'fusiform responses' asks it.
    """
    from fusiform import Design, Network, Resources, Stimuli, UnitRequest, record

    given = {
        "resize": resize, "crop": crop, "interpolation": interpolation, "decoder": decoder,
        "mean": mean, "std": std,
    }  # fmt: skip
    overrides = {name: value for name, value in given.items() if value is not None}
    listener = terminal.listener(quiet)
    with _stopped_in_a_line():
        record(
            Network(
                model,
                weights or "default",
                seed,
                overrides or None,
                precision,
                bool(compile),
                on_nondeterminism,
            ),
            Stimuli(stimuli, _groups(group), root, on_error),
            output,
            store=source,
            units=UnitRequest(
                select="*" if select == ["*"] else select,
                criterion=_criterion(test, where, sides, correction, family, pairwise, preset),
                top=top,
                by=by,
                random=random,
                project=project,
            ),
            design=Design(
                layers=_listed(layers) or "blocks",
                units=units or "all",
                folds=2 if folds is None else folds,
                batch_size=batch_size,
            ),
            resources=Resources(device, memory_budget, decode_workers, commit_every),
            overwrite=overwrite,
            restart=restart,
            go_back=go_back,
            listener=listener,
        )
    listener.note(f"wrote {output}; next: fusiform responses {output}")


@app.command("responses")
def responses_command(
    path: Annotated[
        str, typer.Argument(metavar="RECORDING", help="What fusiform record has made.")
    ],
    what: Annotated[
        Literal["units", "best", "auc", "tuning", "rdm", "ceiling", "layers"],
        typer.Argument(
            metavar="[units|best|auc|tuning|rdm|ceiling|layers]", help="What to ask; see above."
        ),
    ] = "units",
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONTRAST",
            help="For best and auc; repeatable. By default those that units were chosen by, or "
            "every category.",
        ),
    ] = None,
    layers: LayerNames = None,
    top: Annotated[
        int, typer.Option(metavar="N", help="For best: units of each layer and contrast.")
    ] = 3,
    images: Annotated[int, typer.Option(help="For best: images of each unit.")] = 5,
    sides: Annotated[
        int, typer.Option(help="For auc: 1, p that the target's responses are larger; 2, differ.")
    ] = 1,
    distance: Annotated[
        Literal["correlation", "euclidean"],
        typer.Option(help="For rdm, ceiling and layers: how far two patterns are apart."),
    ] = "correlation",
    similarity: Annotated[
        Literal["spearman", "kendall", "cka"],
        typer.Option(help="For layers: how alike two layers are."),
    ] = "spearman",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="For rdm: write the matrices to a .npz file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a recording: what single stimuli did to single units.

    units: what was recorded. best: the units that tell a contrast best, and the images that drive
    them most and least. auc: area under the ROC curve and rank-sum test of every unit, exact, on
    all stimuli and each fold's. tuning: mean response and spread by category. rdm: how far stimuli
    lie apart in a layer. ceiling: reliability of tuning and of categories' geometry between folds.
    layers: how alike stimuli lie in every two layers. --json gives every unit.
    """
    from fusiform import open_recording
    from fusiform.engine.responses.answer import answer
    from fusiform.engine.responses.geometry import refuse_matrices, write_matrices

    recording, named = open_recording(path), _listed(layers, "*")
    if output and what != "rdm":
        raise UserError(f"--output is for the matrices of rdm; got it with {what}: leave it out")
    if output:
        refuse_matrices(output)
    found = answer(
        recording,
        what,
        contrasts=contrast,
        layers=named,
        units=top,
        images=images,
        sides=sides,
        distance=distance,
        similarity=similarity,
    )
    if output:
        write_matrices(recording, output, named, distance)
        terminal.note(f"wrote {output}")
    if as_json:
        terminal.print_json({"recording": path, what: found.records()})
        return
    right = {i for i, name in enumerate(found.head) if name not in found.words}
    terminal.print_table(found.head, found.lines, right)


@app.command()
def summary(
    stores: Stores,
    test: CriterionTest = None,
    where: Where = None,
    sides: Sides = None,
    correction: CorrectionOption = None,
    family: FamilyOption = None,
    pairwise: Pairwise = None,
    preset: Preset = None,
    layers: LayerNames = None,
    as_json: AsJson = False,
) -> None:
    """Per layer and category: units, dead, selective, and what is left on held-out stimuli.

    Several stores (a trained network and untrained ones, say) are put side by side.
    """
    from fusiform import open_store

    criterion = _criterion(test, where, sides, correction, family, pairwise, preset)
    opened = [open_store(path) for path in stores]
    _remark(criterion, opened)
    rows = [fusiform.summary(store, criterion, _listed(layers, "*")) for store in opened]
    terminal.print_results(stores, opened, rows, criterion, "category", as_json)


@app.command("analyse")
def analyse_command(
    path: OneStore,
    analyses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ANALYSIS...]",
            help="Some of shares, specificity, spread, localisation, strength, overlap, confusion, "
            "consistency; all by default.",
        ),
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="As select takes it; repeatable. Every category by default."),
    ] = None,
    test: CriterionTest = None,
    where: Where = None,
    sides: Sides = None,
    correction: CorrectionOption = None,
    family: FamilyOption = None,
    pairwise: Pairwise = None,
    preset: Preset = None,
    layers: LayerNames = None,
    resamples: Annotated[
        int, typer.Option(help="Draws of feature maps, random throws, random orders.")
    ] = 1000,
    neighbours: Annotated[
        Literal["rook", "queen"],
        typer.Option(help="On a map, for Moran's I: sharing an edge, or a corner as well."),
    ] = "rook",
    distance: Annotated[
        Literal["correlation", "euclidean"],
        typer.Option(help="Between categories, for the consistency of layers."),
    ] = "correlation",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRESET,...",
            help="Whether the criteria of publications select the same units; repeatable.",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What the selective units of each layer are like: how many, how specific, where, how strong.

    shares: with intervals over feature maps. specificity: CSI and d' on held-out stimuli. spread:
    over feature maps, against as many units thrown at random. localisation: over places, Moran's I.
    strength: responses on the layer's own scale. overlap: between contrasts. confusion: preferred
    category, fold against fold. consistency: dissimilarity of categories, layer by layer. Formulas
    and references: docs/definitions.md. --json has more than fits into tables: maps, histograms,
    dissimilarity matrices.
    """
    from fusiform import analyse, open_store
    from fusiform.engine.contrasts.language.criterion import preset as published

    criterion = _criterion(test, where, sides, correction, family, pairwise, preset)
    others = [published(name) for name in _listed(against)]
    asked = {} if not analyses else {"analyses": analyses}
    store = open_store(path)
    for one in (criterion, *others):
        _remark(one, [store], contrast)
    found = analyse(
        store, criterion, _listed(layers, "*"), contrast, **asked, resamples=resamples,
        seed=seed, neighbours=neighbours, distance=distance, against=others,
    )  # fmt: skip
    if as_json:
        terminal.print_json(asdict(found))
    else:
        terminal.print_analysis(found)


@app.command("select")
def select_command(
    path: Annotated[str, typer.Argument(metavar="STORE", help="The result of a scan.")],
    contrasts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONTRAST...]",
            help="'faces' (against all others), 'faces + bodies > scenes', "
            "'faces - (bodies + scenes)/2'. Names with other characters stand in quotes.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every category against all others.")
    ] = False,
    test: CriterionTest = None,
    where: Where = None,
    sides: Sides = None,
    correction: CorrectionOption = None,
    family: FamilyOption = None,
    pairwise: Pairwise = None,
    preset: Preset = None,
    layers: LayerNames = None,
    save: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write measures and masks into the store, LAYER/NAME."),
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            help="What --save writes beside the masks, joined by commas; repeatable. By default "
            f"{','.join(SAVED)}."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Which units are selective under any contrast of categories, by any criterion.

    Computed from the store's moments, chunk by chunk; the network is not needed. What is saved is
    of all layers.
    """
    from fusiform import open_store, save_contrast
    from fusiform.engine.contrasts.language.contrast import parse_contrast

    criterion = _criterion(test, where, sides, correction, family, pairwise, preset)
    store = open_store(path)
    names = _listed(layers, "*")
    store.layers_named(names)  # before anything is saved
    if every == bool(contrasts):
        raise UserError(
            f"select takes contrasts, or --all; got {'both' if every else 'neither'}: name some of "
            f"{', '.join(store.categories)}"
        )
    _remark(criterion, [store], contrasts)
    if save:
        if contrasts and len(contrasts) > 1:
            raise UserError(f"a name is for one contrast; got {len(contrasts)}: save one by one")
        contrast = contrasts[0] if contrasts else None
        save_contrast(
            store, save, criterion, contrast, _listed(measures, *SAVED), note=terminal.note
        )
    rows = fusiform.summary(store, criterion, names, None if every else contrasts)
    terminal.print_results([path], [store], [rows], criterion, "contrast", as_json)
    for contrast in contrasts or ():
        if parse_contrast(contrast, store.categories).weighted and criterion.test != "weighted":
            terminal.note(f"{contrast} is a weighted sum: by its t of weighted category means")
    if save:
        terminal.note(f"saved {save} in every layer of {path}")


@app.command("query")
def query_command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE... QUERY",
            help="Results of scans, and what to ask: 'faces: t > 5 and csi > 0.33'.",
        ),
    ],
    layers: LayerNames = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="The N matching units with the most of --by.")
    ] = None,
    by: Annotated[str, typer.Option(help="The measure that --top sorts by.")] = "t",
    units: Annotated[bool, typer.Option("--units", help="All units that match.")] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="What to show of units, joined by commas; repeatable. means: of every category."
        ),
    ] = None,
    quantiles: Annotated[
        str | None, typer.Option(metavar="MEASURE", help="Its quantiles over matching units.")
    ] = None,
    histogram: Annotated[
        str | None, typer.Option(metavar="MEASURE", help="Its histogram over matching units.")
    ] = None,
    bins: Annotated[int, typer.Option(help="Bins of the histogram.")] = 20,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Groups that are counted: layer, contrast, channel, y, x, token, unit, joined by "
            "commas; repeatable. By default layer,contrast."
        ),
    ] = None,
    saved: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Ask what 'select --save NAME' wrote, by its criterion."),
    ] = None,
    form: Annotated[
        Literal["table", "csv", "json", "parquet", "npz"],
        typer.Option("--format", help="parquet and npz need --output; parquet needs pyarrow."),
    ] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; else it is printed.")
    ] = None,
    guard_formulas: GuardFormulas = False,
) -> None:
    """Which units match a predicate: how many (by default), the top, all, or a distribution.

    A query is [CONTRAST:] [RULE]. The contrast is a category, or as select takes it; without one,
    every category is asked. The rule compares measures and places, joined by and, or, not,
    brackets: 't > 5 and csi > 1/3', 'selective and channel == 12'. t is that of the category
    against the pooled rest, t_each the smallest against each other category, q_each its q; other
    measures are those of select --where, but for q.
    """
    from fusiform import open_store
    from fusiform.engine.querying.query import top_of_all
    from fusiform.engine.querying.table import refuse_form

    refuse_form(form, output, guard_formulas)
    *paths, text = arguments
    if not paths or os.path.exists(text):  # noqa: PTH110  a query may be no path at all
        raise UserError(f"query takes stores and, last, a query; got {', '.join(arguments)}")
    queries = [open_store(path).query(text, _listed(layers, "*"), saved) for path in paths]
    wanted = {"--top": top, "--units": units or None, "--quantiles": quantiles,
              "--histogram": histogram}  # fmt: skip
    if len(asked := [name for name, value in wanted.items() if value is not None]) > 1:
        raise UserError(f"a query gives one table; got {' and '.join(asked)}: ask one by one")
    shown = _listed(columns) or None
    groups = _listed(group, "layer", "contrast")

    def tables(query: Query) -> Iterator[Table]:
        if units:
            yield from query.parts(shown)
        elif top is not None:
            yield query.top(top, by, shown)
        elif quantiles:
            yield query.quantiles(quantiles, by=groups)
        elif histogram:
            yield query.histogram(histogram, bins, by=groups)
        else:
            yield query.counts(groups)

    found = terminal.of_stores(paths, [tables(query) for query in queries])
    if top is not None and len(paths) > 1:
        found = iter([top_of_all(list(found), top, by)])
    terminal.put_out(found, form, output, guard_formulas)


@app.command("compare")
def compare_command(
    stores: Stores,
    roi: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.csv",
            help="Compare with regions of brains instead: region, category, response, or region, "
            "first, second, distance; perhaps subject.",
        ),
    ] = None,
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded",
            help="With --roi and distances between stimuli: what is named are recordings, of "
            "fusiform record.",
        ),
    ] = False,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            help="What networks are compared in, joined by commas; repeatable: share, "
            "share_of_living, csi, d_prime, share_with_any (of feature maps), entropy, gini. By "
            "default share,csi,d_prime,gini."
        ),
    ] = None,
    by: Annotated[
        Literal["name", "depth"],
        typer.Option(help="Layers stand for each other by name, or by relative depth."),
    ] = "name",
    against: Annotated[
        Literal["first", "previous"],
        typer.Option(help="Of several stores: which each is compared with."),
    ] = "first",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="What stores may differ in all the same, which is then said: stimuli, "
            "preprocessing, units, joined by commas; repeatable."
        ),
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="Instead of every category; as select takes it, repeatable."),
    ] = None,
    layers: LayerNames = None,
    test: CriterionTest = None,
    where: Where = None,
    sides: Sides = None,
    correction: CorrectionOption = None,
    family: FamilyOption = None,
    pairwise: Pairwise = None,
    preset: Preset = None,
    resamples: Annotated[
        int, typer.Option(help="Draws of feature maps that the intervals are of.")
    ] = 1000,
    correlation: Annotated[
        Literal["pearson", "spearman"] | None,
        typer.Option(help="With regions: pearson of responses, spearman of distances by default."),
    ] = None,
    rearrangements: Annotated[
        int, typer.Option(help="Of a region's categories, that p is a share of.")
    ] = 10_000,
    each_layer: Annotated[
        bool, typer.Option("--each-layer", help="With regions: all layers, not the best alone.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Networks side by side, layer by layer, with intervals; or beside the regions of brains.

    Every network is compared with the first (or the one before it: checkpoints, in order). The
    intervals are over feature maps, drawn anew with all their units. Networks that saw other
    stimuli, or the same otherwise resized and cut, are refused unless --allow says so.
    """
    from fusiform import Store, compare, compare_regions, open_recording, open_store

    criterion = _criterion(test, where, sides, correction, family, pairwise, preset)
    if recorded and roi is None:
        raise UserError("recordings are compared with regions; got --recorded alone: add --roi")
    wanted: dict[str, Any] = {"layers": _listed(layers, "*"), "contrasts": contrast, "seed": seed}
    if roi is not None:
        sources = [open_recording(path) if recorded else open_store(path) for path in stores]
        _remark(criterion, [one for one in sources if isinstance(one, Store)], contrast)
        found = [
            compare_regions(
                source,
                roi,
                criterion,
                correlation=correlation,
                rearrangements=rearrangements,
                **wanted,
            )
            for source in sources
        ]
        terminal.print_brains(found, each_layer, as_json)
        return
    opened = [open_store(path) for path in stores]
    _remark(criterion, opened, contrast)
    comparison = compare(
        opened,
        criterion,
        measures=_listed(measures, "share", "csi", "d_prime", "gini"),
        pairing=by,
        against=against,
        allow=_listed(allow),
        resamples=resamples,
        **wanted,
    )
    terminal.print_comparison(comparison, as_json)


@app.command("report")
def report_command(
    stores: Stores,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    layers: LayerNames = None,
    contrasts: Annotated[
        list[str] | None,
        typer.Option(
            "--contrast", help="As select takes it; repeatable. By default every category."
        ),
    ] = None,
    test: CriterionTest = None,
    where: Where = None,
    sides: Sides = None,
    correction: CorrectionOption = None,
    family: FamilyOption = None,
    pairwise: Pairwise = None,
    preset: Preset = None,
    recording: Annotated[
        list[str] | None,
        typer.Option(
            help="What 'fusiform record' has written of one of these networks: the stimuli that "
            "drive its strongest units are shown; repeatable."
        ),
    ] = None,
    stimuli: Annotated[
        Path | None,
        typer.Option(help="Where these stimuli lie, if not where the recording says."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write every figure into this folder, as SVG and PDF (needs matplotlib).",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(help="Draws that intervals, chance and p of maps are made of.")
    ] = 1000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write a page about stores, side by side: one HTML file that needs nothing else.

    What was scanned, the share of selective units by depth with intervals, how selective they are
    on stimuli that did not select them, where they lie, how categories and layers relate, and the
    method in words that a paper can quote. On the page a category, a layer and a threshold can be
    chosen, values read by pointer or keyboard, and every figure saved as SVG, its numbers as CSV.
    """
    import fusiform

    fusiform.report(
        stores,
        output,
        criterion=_criterion(test, where, sides, correction, family, pairwise, preset),
        layers=_listed(layers, "*"),
        contrasts=contrasts,
        recordings=recording or (),
        stimuli=stimuli,
        figures=figures,
        resamples=resamples,
        seed=seed,
        note=(lambda _: None) if quiet else terminal.note,
    )
    if not quiet:
        terminal.note(f"wrote {output} ({terminal.in_bytes(output.stat().st_size)})")


@app.command("merge")
def merge_command(stores: Stores, output: Output, overwrite: Overwrite = False) -> None:
    """Make one store of several: other stimuli or categories of the same network, or other layers.

    Moments are combined exactly, contrasts are made anew. Stores that differ in anything else are
    refused.
    """
    import fusiform

    merged = fusiform.merge(stores, output, overwrite=overwrite, note=terminal.note)
    categories, stimuli = len(merged.categories), int(merged.counts.sum())
    terminal.note(
        f"wrote {output}: {len(merged.layers)} layers, {categories} categories, {stimuli} stimuli"
    )


@app.command()
def check(stores: Stores) -> None:
    """Whether stores are whole: structure, checksum of every chunk, counts, fingerprint.

    Everything is read. Says what is wrong with a damaged one, or how far one is whose scan has not
    finished and what of it is damaged, and leaves with exit code 1.
    """
    import fusiform

    damaged = False
    for path in stores:
        found = fusiform.check(path)
        damaged |= bool(found.problems)
        whole = f"whole ({found.arrays} arrays, {terminal.in_bytes(found.bytes_read)} read)"
        state = "not finished" if found.unfinished else "damaged" if found.problems else whole
        print(terminal.printable(f"{path}: {state}"))
        for problem in found.problems:
            print(terminal.printable(f"  {problem}"))
    if damaged:
        raise typer.Exit(1)


@app.command()
def info(path: OneStore, as_json: AsJson = False) -> None:
    """What a store or recording is of: network, layers, stimuli, how it was made, what is in it.

    By its metadata alone, which are not trusted: nothing in a store from a stranger is run, and
    what is larger than a scan could have made it is refused. Whether it is whole, check says.
    """
    import fusiform

    found = fusiform.info(path)
    if as_json:
        described = asdict(found) | {"units": found.units, "criterion": found.criterion}
        terminal.print_json(described)
        return
    for name, value in terminal.info_lines(found):
        print(terminal.printable(f"{name + ':':<{_INFO_WIDTH}} {terminal.cut(value)}"))
    print()
    recorded = found.recorded or {}
    terminal.print_table(
        ["layer", "type", "shape", "units", *(["recorded"] if recorded else [])],
        [
            [
                terminal.cut(layer.name),
                terminal.cut(layer.kind),
                " x ".join(map(str, layer.shape)) + f" ({', '.join(layer.dims)})",
                f"{layer.units:,}",
                *([f"{recorded[layer.name]:,}"] if recorded else []),
            ]
            for layer in found.layers[:_INFO_LAYERS]
        ],
        right={3, 4},
    )
    if len(found.layers) > _INFO_LAYERS:
        print(f"... and {len(found.layers) - _INFO_LAYERS:,} more: --json lists them")


_INFO_WIDTH, _INFO_LAYERS = 16, 30


def _remark(criterion: Criterion, stores: list[Store], contrasts: list[str] | None = None) -> None:
    """Say what the authors of a preset did beside it, where it concerns a store."""
    said = (one for store in stores for one in remarks(criterion, store.categories, contrasts))
    for remark in dict.fromkeys(said):
        terminal.note(remark)


def _criterion(
    test: Test | None,
    where: str | None,
    sides: int | None,
    correction: Correction | None,
    family: Family | None,
    pairwise: bool | None,
    published: str | None,
) -> Criterion:
    given: dict[str, Any] = {
        "test": test, "where": where, "sides": sides, "correction": correction, "family": family,
        "pairwise": pairwise,
    }  # fmt: skip
    base = preset(published) if published else DEFAULT
    return replace(base, **{name: value for name, value in given.items() if value is not None})


@app.command()
def doctor(
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where stores are to go: 64 MiB are tried there.")
    ] = ".",
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check this machine: versions, devices, threads, memory and disk, with advice.

    Takes seconds; exits with code 1 if a scan cannot work. 'fusiform plan' projects what a
    particular scan takes, and whether decoding keeps up with the network.
    """
    import fusiform

    note = (lambda _: None) if quiet else terminal.note
    findings = list(fusiform.doctor(output, device=device, note=note))
    if as_json:
        terminal.print_json([asdict(finding) for finding in findings])
    else:
        said = {"unknown": "not checked"}
        rows = [[f.topic, said.get(f.severity, f.severity), f.found] for f in findings]
        terminal.print_table(["what", "", "found"], rows, right=set())
        advised = [f for f in findings if f.advice]
        if advised:
            print()
        for finding in advised:
            print(terminal.printable(f"{finding.topic}: {finding.advice}"))
    if any(finding.severity == "fault" for finding in findings):
        raise typer.Exit(1)


@app.command()
def bench(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help=MODEL_HELP)] = "resnet50",
    parts: Annotated[
        list[str] | None,
        typer.Option(
            help="Any of kernels, network, decoding, memory, joined by commas; repeatable. By "
            "default all."
        ),
    ] = None,
    weights: Annotated[str, typer.Option(help="Weights; untrained ones cost the same.")] = "none",
    device: Device = None,
    units: Annotated[
        int, typer.Option(help="Units of the arrays that the kernels are given.")
    ] = 5_500_000,
    batch_sizes: Annotated[
        list[str] | None,
        typer.Option(
            help="Their numbers of stimuli, joined by commas; repeatable. By default 8,32,128."
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Numbers of images to scan for their peak memory, joined by commas; repeatable. "
            "By default 100,1000."
        ),
    ] = None,
    batch_size: BatchSize = 32,
    repeats: Annotated[int, typer.Option(help="Turns of which the median is taken.")] = 7,
    precision: Precision = None,
    compile: Compile = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure what a scan costs on this machine.

    kernels: the streaming statistics in GB/s, against the speed at which memory can be read at all,
    or a GPU's copied. network: a batch with every block recorded, against the bare forward pass and
    a plain loop; with --compile all but the loop is compiled.
    decoding: images per second. memory: peak of whole scans of ever more images.
    What is compared takes turns. Takes some minutes, and 4 GiB of memory with the default arrays.
    """
    from fusiform import Network, bench
    from fusiform.engine.bench.report import PARTS

    found = bench(
        Network(model, weights, precision=precision, compile=compile),
        parts=_listed(parts, *PARTS),
        device=device,
        units=units,
        batch_sizes=_numbers(batch_sizes, "8", "32", "128"),
        images=_numbers(images, "100", "1000"),
        batch_size=batch_size,
        repeats=repeats,
        note=(lambda _: None) if quiet else terminal.note,
    )
    measured = []
    for row in found:
        measured.append(row)
        if not quiet:
            terminal.note(f"  {row.what}, {row.setting}: {row.value:,.4g} {row.unit}")
    if as_json:
        terminal.print_json([asdict(row) for row in measured])
        return
    terminal.print_table(
        ["part", "what", "setting", "", "", "compared"],
        [
            [
                row.part,
                row.what,
                row.setting,
                f"{row.value:,.{1 if row.value < 100 else 0}f}",
                row.unit,
                "; ".join(
                    filter(None, [*(f"{n:.3g} {of}" for of, n in row.compared.items()), row.note])
                ),
            ]
            for row in measured
        ],
        right={3},
    )


@stimuli_app.command()
def make(
    directory: Annotated[Path, typer.Argument(help="The folder to draw into.")],
    per_category: Annotated[int, typer.Option(help="Stimuli per category.")] = 48,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 256,
    seed: Seed = 0,
) -> None:
    """Draw the built-in set: faces, bodies, scenes, words, scrambled_scenes, scrambled_words."""
    from fusiform import make_stimuli

    made = make_stimuli(directory, per_category=per_category, size=size, seed=seed)
    print(terminal.printable(f"drew {len(made)} stimuli in {directory}"))


@stimuli_app.command()
def scramble(
    source: Annotated[Path, typer.Argument(help="A folder of images, or of folders of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to create.")],
    method: Annotated[
        Literal["phase", "blocks"],
        typer.Option(
            help="phase keeps the amplitude spectrum (up to clipping), blocks the pixels."
        ),
    ] = "phase",
    blocks: Annotated[int, typer.Option(help="Tiles along each side, for blocks.")] = 16,
    seed: Seed = 0,
) -> None:
    """Make the scrambled control of any stimulus folder."""
    from fusiform import scramble_stimuli

    made = scramble_stimuli(
        source, output, method=method, seed=seed, blocks=blocks, note=terminal.note
    )
    print(terminal.printable(f"scrambled {len(made)} images into {output}"))


@stimuli_app.command("check")
def check_stimuli_command(
    stimuli: Annotated[Path, typer.Argument(help=STIMULI_HELP)],
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="CATEGORY=FOLDER,...", help="As for scan; repeatable."),
    ] = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Whether a set can be shown, and what would confound it: every image is decoded.

    Lists all stimuli that cannot be shown and all that are there twice, and compares categories in
    luma, contrast and spectrum. Leaves with exit code 1 if some cannot be shown, or if one is in
    several categories.
    """
    from fusiform import Stimuli, check_stimuli

    report = check_stimuli(Stimuli(stimuli, _groups(group), root))
    if as_json:
        terminal.print_json(report.as_record())
    else:
        terminal.print_stimuli(report)
    if not report.sound:
        raise typer.Exit(1)


@stimuli_app.command("pack")
def pack_stimuli_command(
    stimuli: StimuliSource,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to create: NAME.zarr.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--for", metavar="MODEL", help="Pack as this network takes its pictures."),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Of --for, as for scan: some have a preprocessing of their own.")
    ] = "default",
    group: GroupsOption = None,
    resize: Resize = None,
    crop: Annotated[int | None, typer.Option(help="Side of the packed pictures.")] = None,
    interpolation: Interpolation = None,
    decode_workers: DecodeWorkers = None,
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="When a stimulus cannot be decoded: stop, or leave it out."),
    ] = "stop",
    root: Root = None,
    quiet: Quiet = False,
) -> None:
    """Decode a stimulus set once for many scans: pictures as a network takes them, uncompressed.

    What is written is scanned like any stimuli, with the same numbers and the same fingerprint as
    the files, by every network that takes pictures of this size, resized and cut in this way.
    Without --for they are resized to 256 pixels (bilinear) and cut to 224; --resize, --crop and
    --interpolation override single values. It takes 3 bytes a pixel: 150 kB a picture of 224.
    """
    from fusiform import Network, Stimuli, pack_stimuli

    overrides = {"resize": resize, "crop": crop, "interpolation": interpolation}
    listener = terminal.listener(quiet)
    try:
        packed = pack_stimuli(
            Stimuli(stimuli, _groups(group), root, on_error),
            output,
            network=None if model is None else Network(model, weights),
            preprocessing={name: value for name, value in overrides.items() if value is not None},
            decode_workers=decode_workers,
            listener=listener,
        )
    except KeyboardInterrupt as stopped:
        terminal.note("stopped; nothing is left")
        raise typer.Exit(128 + getattr(stopped, "signal", signal.SIGINT)) from None
    listener.note(f"packed {packed:,} stimuli; next: fusiform scan MODEL {output} -o NAME.zarr")


def _dims(options: list[str] | None) -> dict[str, str]:
    """``LAYER=DIM,...`` as a dict."""
    found = {}
    for option in options or ():
        layer, given, names = option.partition("=")
        if not given:
            raise UserError(f"dimensions are LAYER=DIM,DIM,...; got --dims {option!r}")
        if layer in found:
            raise UserError(f"dimensions are given by one --dims; {layer} has two: leave one out")
        found[layer] = names.replace(" ", "")
    return found


def _groups(given: list[str] | None) -> dict[str, list[str]] | None:
    if given is None:
        return None
    groups: dict[str, list[str]] = {}
    for text in given:
        category, equals, folders = text.partition("=")
        # A folder with a comma in its name stands in quotes.
        named = re.findall(r'\s*"([^"]+)"\s*(?:,|$)|([^,]+)', folders)
        listed = [folder for one in named if (folder := (one[0] or one[1]).strip())]
        if not category.strip() or not equals or not listed:
            raise UserError(f"a group is CATEGORY=FOLDER,FOLDER...; got --group {text!r}")
        if category.strip() in groups:
            raise UserError(
                f"a category is given by one --group; {category.strip()} has two: join them"
            )
        groups[category.strip()] = listed
    return groups


def _listed(given: list[str] | None, *default: str) -> list[str]:
    """The names that an option was given: joined by commas, the option repeated, or both."""
    if not given:
        return list(default)
    return [part.strip() for text in given for part in text.split(",")]


def _numbers(given: list[str] | None, *default: str) -> list[int]:
    parts = _listed(given, *default)
    try:
        return [int(part) for part in parts]
    except ValueError:
        said = ",".join(parts)
        raise UserError(f"whole numbers joined by commas are needed; got {said!r}") from None
