"""Commands that run a network over stimuli: layers, plan, scan, record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusiform.engine.recording.unit_request import UnitRequest
from fusiform.engine.spec import Design, Network, Resources, Stimuli
from fusiform.engine.texts import duration, in_bytes

from .fields import Of, command
from .notes import put, stopped_in_a_line, tell
from .progress import listening
from .shared_options import (
    NOTHING_KEPT,
    AsJson,
    CriterionFields,
    GoBack,
    Output,
    OutputOrNone,
    Overwrite,
    Preset,
    Quiet,
    Restart,
    criterion_of,
    tabled,
)
from .summaries import print_peaks
from .tables import DESCRIPTION, description_of, print_json, print_table

if TYPE_CHECKING:
    from fusiform.engine.doctor.forecast import Forecast


@command
@tabled
def layers(
    network: Annotated[Network, Of(("model", "crop"))],
    design: Annotated[Design, Of(("units",))],
    as_json: AsJson = False,
) -> None:
    """List the layers that a network can record.

    Name, type, shape, units, and bytes of live moments.

    Example: fusiform layers resnet50
    """
    import fusiform
    from fusiform.engine.networks.layers import choose

    found = fusiform.layers(network, units=design.units)
    chosen, notes = choose(found, ["blocks"])
    default = {layer.name for layer in chosen}
    if as_json:
        rows = [{**asdict(layer), "units": layer.units, "state_bytes": layer.state_bytes,
                 "default": layer.name in default} for layer in found.layers]  # fmt: skip
        print_json({"layers": rows, "refused": found.refused})
        return
    print_table(
        ["layer", "", "units", *DESCRIPTION, "live moments"],
        [
            [
                layer.name,
                "default" if layer.name in default else "",
                f"{layer.units:,}",
                *description_of(layer),
                in_bytes(layer.state_bytes),
            ]
            for layer in found.layers
        ],
        right={2, 6},
    )
    print()
    for note in notes:
        tell(note)
    put(
        f"--layers blocks (the default): {len(chosen)} layers, "
        f"{sum(layer.units for layer in chosen):,} units, "
        f"{in_bytes(sum(layer.state_bytes for layer in chosen))} of live moments"
    )
    for name, reason in found.refused.items():
        tell(f"not recordable: {name} {reason}")


@command
@tabled
def plan(
    network: Network,
    stimuli: Stimuli,
    design: Design,
    resources: Resources,
    output: OutputOrNone = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
    go_back: GoBack = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Forecast a scan: memory, disk, time, passes, and its bottleneck.

    The network is built untrained and shown a few batches of noise; some stimuli are decoded. On a
    CPU with instructions for bfloat16, the network is timed in that precision too. The options are
    those of scan: put plan in its place. Nothing is written, and what a scan would refuse is
    refused.

    Example: fusiform plan resnet50 stimuli/ --memory-budget 8GiB
    """
    import fusiform

    with listening(quiet) as told:
        found = fusiform.plan(
            network,
            stimuli,
            output,
            design=design,
            resources=resources,
            overwrite=overwrite,
            restart=restart,
            go_back=go_back,
            progress=told,
        )
    _print_forecast(found, as_json)


@command
def scan(
    network: Network,
    stimuli: Stimuli,
    output: Output,
    design: Design,
    resources: Resources,
    overwrite: Overwrite = False,
    restart: Restart = False,
    go_back: GoBack = False,
    quiet: Quiet = False,
) -> None:
    """Show a network every stimulus and write a store.

    The store holds moments, t, q, CSI and masks. A scan that was stopped, by Ctrl-C, a kill or a
    full disk, resumes with the same command. Options of Preprocessing override single values of
    the model's own.

    Example: fusiform scan resnet50 stimuli/ -o r50.zarr
    """
    from fusiform import scan

    with stopped_in_a_line(NOTHING_KEPT), listening(quiet) as told:
        store = scan(
            network,
            stimuli,
            output,
            design=design,
            resources=resources,
            overwrite=overwrite,
            restart=restart,
            go_back=go_back,
            progress=told,
        )
    if not quiet:
        print_peaks(store, output)


@command
def record(
    network: Annotated[
        dict[str, Any],
        Of(given=Network, panel="Network, by default as --from", optional=("model",)),
    ],
    stimuli: Annotated[
        dict[str, Any],
        Of(given=Stimuli, panel="Stimuli, by default as --from", optional=("source",)),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="The recording to create: NAME.responses.zarr.",
            rich_help_panel="Output",
        ),
    ],
    request: Annotated[
        dict[str, Any],
        Of(("select", "top", "by", "random", "project"), given=UnitRequest, panel="Units"),
    ],
    criterion: CriterionFields,
    design: Annotated[
        dict[str, Any],
        Of(
            ("layers", "units", "folds", "batch_size"),
            given=Design,
            panel="Design, by default as --from",
        ),
    ],
    resources: Annotated[
        Resources, Of(("device", "memory_budget", "decode_workers", "commit_every"))
    ],
    store: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STORE",
            help="A store: its network is shown its stimuli as in the scan, and its units can be "
            "chosen by selectivity.",
            rich_help_panel="Units",
        ),
    ] = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
    go_back: GoBack = False,
    quiet: Quiet = False,
) -> None:
    """Record the responses of chosen units to every stimulus.

    The second pass. Units are those that a store's criterion selects, the top of a measure, a
    random sample, or, by default, all of --layers; a unit chosen twice is recorded once. A
    recording that was stopped resumes with the same command. fusiform responses asks it. With
    --from, MODEL and STIMULI are the store's; for other stimuli name both.

    Example: fusiform record --from r50.zarr --select faces -o r50.responses.zarr
    """
    from fusiform import open_store, record
    from fusiform.engine.recording.earlier_scan import (
        network_again,
        refuse_other_settings,
        stimuli_again,
    )

    select = request.get("select")
    units = UnitRequest(
        **request | {"select": "*" if select == ["*"] else select},
        criterion=criterion_of(criterion, preset),
    )
    source = None if store is None else open_store(store)
    shown = Network(**network) if "model" in network else None
    seen = Stimuli(**stimuli) if "source" in stimuli else None
    if source is not None:  # options that equal a default count here, unlike in Python
        refuse_other_settings(source, network | design)
        shown = shown or replace(network_again(source), **network)
        seen = seen or replace(stimuli_again(source), **stimuli)
    with stopped_in_a_line(NOTHING_KEPT), listening(quiet) as told:
        record(
            shown,
            seen,
            output,
            store=store,
            units=units,
            design=Design(**design),
            resources=resources,
            overwrite=overwrite,
            restart=restart,
            go_back=go_back,
            progress=told,
        )
    told.note(f"wrote {output}; next: fusiform responses {quote(output)}")


def _print_forecast(found: Forecast, as_json: bool) -> None:
    """Print the memory, disk and time of a scan."""
    if as_json:
        layers = [{**asdict(one), "units": one.units, "state_bytes": one.state_bytes}
                  for one in found.layers]  # fmt: skip
        print_json({**asdict(found), "layers": layers, "bound": found.bound})
        return
    passes = {name: number for number, part in enumerate(found.passes, 1) for name in part}
    several = len(found.passes) > 1
    print_table(
        ["layer", *(["pass"] * several), "units", "live moments", *DESCRIPTION],
        [
            [
                one.name,
                *([str(passes[one.name])] * several),
                f"{one.units:,}",
                in_bytes(one.state_bytes),
                *description_of(one),
            ]
            for one in found.layers
        ],
        right={1, 2, 3} if several else {1, 2},
    )
    print()
    for name, text in _forecast_lines(found):
        put(f"{name:<10} {text}", indent=11)


def _forecast_lines(found: Forecast) -> Iterator[tuple[str, str]]:
    units = sum(layer.units for layer in found.layers)
    yield "network", f"{found.model} on {found.device}: {len(found.layers)} layers, {units:,} units"
    yield (
        "stimuli",
        f"{found.stimuli:,} in {len(found.categories):,} categories, {found.folds} folds",
    )
    passes = len(found.passes)
    shown = "once" if passes == 1 else f"{passes} times, to the layers of one pass each"
    yield "batches", f"{found.batches:,} of {found.batch_size}; the stimuli are shown {shown}"
    budget = "" if found.budget_bytes is None else f" of {in_bytes(found.budget_bytes)}"
    yield (
        "memory",
        f"at most {in_bytes(found.peak_bytes)}{budget}, {in_bytes(found.state_bytes)} of it live "
        "moments",
    )
    instead = f"; all activations in float32 take {in_bytes(found.activation_bytes)}"
    larger = found.store_bytes > found.activation_bytes
    yield "store", f"at most {in_bytes(found.store_bytes)}{instead if larger else ''}"
    yield (
        "pace",
        f"network {found.network:,.1f} images/s, decoding {found.decoding:,.1f} by "
        f"{found.decode_workers} workers: the scan waits for {found.bound}",
    )
    if found.advice:
        yield "advice", found.advice
    contrasts = f"{duration(found.contrast_seconds)} to compute contrasts"
    yield "time", f"about {duration(found.seconds)}, and then {contrasts}"
    if found.bfloat16_seconds is not None:
        yield "bfloat16", _in_bfloat16(found.seconds, found.bfloat16_seconds)


def _in_bfloat16(seconds: float, otherwise: float) -> str:
    from fusiform.engine.doctor.half_precision import CHANGE_IN_T, NOISE

    if otherwise > (1 - NOISE) * seconds:
        return "--precision bfloat16 would save nothing on this machine"
    return f"with --precision bfloat16 about {duration(otherwise)}; {CHANGE_IN_T}"
