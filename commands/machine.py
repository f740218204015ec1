"""Commands about this machine: doctor, bench."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fusiform.engine.spec import Network
from fusiform.engine.texts import number

from .fields import Of, command
from .notes import note, note_unless, tell
from .parsing import names, numbers
from .shared_options import AsJson, Device, Quiet, tabled
from .tables import print_json, print_table

_UNTRAINED = Network("resnet50", weights="none")


@command
@tabled
def doctor(
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where stores will go: 64 MiB are tried there.")
    ] = ".",
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check whether this machine is ready for a scan, and advise.

    Versions, devices, threads, memory and disk; the speed of a ResNet-18 and of decoding, with a
    warning where a scan would wait for either. Takes seconds; exits with code 1 if a scan cannot
    work. 'fusiform plan' projects a particular scan.

    Example: fusiform doctor -o /data
    """
    import fusiform

    findings = list(fusiform.doctor(output, device=device, note=note_unless(quiet)))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        said = {"unknown": "not checked"}
        rows = [[f.topic, said.get(f.severity, f.severity), f.found] for f in findings]
        print_table(["what", "", "found"], rows, right=(), wrapped=[2])
        advised = [f for f in findings if f.advice]
        if advised:
            print()
        for finding in advised:
            tell(f"{finding.topic}: {finding.advice}")
    if any(finding.severity == "fault" for finding in findings):
        raise typer.Exit(1)


@command
@tabled
def bench(
    network: Annotated[Network, Of(("model", "weights", "precision", "compile"))] = _UNTRAINED,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            help="Any of kernels, network, decoding, memory, joined by commas; repeatable. By "
            "default all."
        ),
    ] = None,
    device: Device = None,
    array_units: Annotated[
        int, typer.Option(help="Units of the arrays for the kernels.")
    ] = 5_500_000,
    batch_sizes: Annotated[
        list[str] | None,
        typer.Option(
            help="Stimuli in these arrays, numbers joined by commas; repeatable. By default "
            "8,32,128."
        ),
    ] = None,
    scan_images: Annotated[
        list[str] | None,
        typer.Option(
            help="Images of the scans whose peak memory is measured, numbers joined by commas; "
            "repeatable. By default 100,1000."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Stimuli per forward pass.")] = 32,
    repeats: Annotated[int, typer.Option(help="Repeats, for the median.")] = 7,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure what a scan costs on this machine.

    kernels: the streaming statistics in GB/s, against the speed at which memory can be read, or a
    GPU's copied. network: a batch with every block recorded, against the bare forward pass and
    a plain loop; with --compile all but the loop is compiled. decoding: images per second. memory:
    peak of whole scans of more and more images. The parts compared take turns. Takes some minutes,
    and 4 GiB of memory with the default arrays.

    Example: fusiform bench resnet18 --parts kernels,decoding
    """
    from fusiform import bench
    from fusiform.engine.bench.report import PARTS

    found = bench(
        network,
        parts=names(parts, *PARTS),
        device=device,
        array_units=array_units,
        batch_sizes=numbers(batch_sizes, 8, 32, 128),
        scan_images=numbers(scan_images, 100, 1000),
        batch_size=batch_size,
        repeats=repeats,
        note=note_unless(quiet),
    )
    measured = []
    for row in found:
        measured.append(row)
        if not quiet:
            note(f"  {row.what}, {row.setting}: {number(row.value)} {row.unit}")
    if as_json:
        print_json([asdict(row) for row in measured])
        return
    print_table(
        ["part", "what", "setting", "", "", "compared"],
        [
            [
                row.part,
                row.what,
                row.setting,
                f"{row.value:,.{1 if row.value < 100 else 0}f}",
                row.unit,
                "; ".join(
                    filter(
                        None,
                        [*(f"{number(n, 3)} {of}" for of, n in row.compared.items()), row.note],
                    )
                ),
            ]
            for row in measured
        ],
        right={3},
        wrapped=[5],
    )
