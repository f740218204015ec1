"""Commands before a scan: layers, plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from fusiform.engine.spec import Design, Network, Resources, Stimuli
from fusiform.engine.texts import duration, in_bytes

from .fields import Of, command
from .notes import printable, tell
from .options import AsJson, Quiet
from .progress import listener
from .tables import print_json, print_table

if TYPE_CHECKING:
    from fusiform.engine.doctor.forecast import Forecast


@command
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

    found = fusiform.layers(network, units=design.units)
    if as_json:
        rows = [{**asdict(layer), "units": layer.units, "state_bytes": layer.state_bytes,
                 "in_blocks": layer.name in found.blocks} for layer in found.layers]  # fmt: skip
        print_json({"layers": rows, "refused": found.refused})
        return
    print_table(
        ["layer", "type", "shape", "units", "state", ""],
        [
            [
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)) + f" ({', '.join(layer.dims)})",
                f"{layer.units:,}",
                in_bytes(layer.state_bytes),
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
        f"{in_bytes(sum(layer.state_bytes for layer in default))} of live state"
    )
    for name, reason in found.refused.items():
        tell(f"not recordable: {name} {reason}")


@command
def plan(
    network: Network,
    stimuli: Stimuli,
    design: Design,
    resources: Resources,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Forecast a scan: memory, disk, time, passes, and its bottleneck.

    The network is built untrained and shown a few batches of noise; some stimuli are decoded. The
    options are those of scan, and what a scan would refuse is refused.

    Example: fusiform plan resnet50 stimuli/ --memory-budget 8GiB
    """
    import fusiform

    found = fusiform.plan(
        network, stimuli, design=design, resources=resources, listener=listener(quiet)
    )
    _print_forecast(found, as_json)


def _print_forecast(found: Forecast, as_json: bool) -> None:
    """What a scan will take."""
    if as_json:
        layers = [{**asdict(one), "units": one.units, "state_bytes": one.state_bytes}
                  for one in found.layers]  # fmt: skip
        print_json({**asdict(found), "layers": layers, "bound": found.bound})
        return
    passes = {name: number for number, part in enumerate(found.passes, 1) for name in part}
    several = len(found.passes) > 1
    print_table(
        ["layer", "type", "shape", "units", "live moments", *(["pass"] * several)],
        [
            [
                one.name,
                one.kind,
                " x ".join(map(str, one.shape)),
                f"{one.units:,}",
                in_bytes(one.state_bytes),
                *([str(passes[one.name])] * several),
            ]
            for one in found.layers
        ],
        right={3, 4, 5},
    )
    print()
    for name, text in _forecast_lines(found):
        print(printable(f"{name:<10} {text}"))


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
    yield "store", f"at most {in_bytes(found.store_bytes)}"
    yield (
        "pace",
        f"network {found.network:,.1f} images/s, decoding {found.decoding:,.1f} by "
        f"{found.decode_workers} workers: the scan waits for {found.bound}",
    )
    if found.advice:
        yield "advice", found.advice
    contrasts = f"{duration(found.contrast_seconds)} to compute contrasts"
    yield "time", f"about {duration(found.seconds)}, and then {contrasts}"
