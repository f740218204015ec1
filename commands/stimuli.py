"""Commands for stimulus sets: make, scramble, check, pack."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.spec import Network, Resources, Stimuli

from .fields import Of, command
from .notes import note, put, stopped_in_a_line, tell
from .progress import listening
from .shared_options import AsJson, Quiet, Seed, tabled
from .tables import print_json, print_table

if TYPE_CHECKING:
    from fusiform.engine.stimuli.check import StimuliReport

NewFolder = Annotated[
    Path,
    typer.Option("--output", "-o", help="The folder to create.", rich_help_panel="Output"),
]


@command
def make(
    directory: Annotated[Path, typer.Argument(help="The folder to draw into.")],
    per_category: Annotated[int, typer.Option(help="Stimuli per category.")] = 48,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 256,
    seed: Seed = 0,
) -> None:
    """Draw the built-in localizer set.

    Categories: faces, bodies, scenes, words, scrambled_scenes, scrambled_words.

    Example: fusiform stimuli make localizer --per-category 96
    """
    from fusiform import make_stimuli

    made = make_stimuli(directory, per_category=per_category, size=size, seed=seed)
    put(f"drew {len(made)} stimuli in {directory}")


@command
def scramble(
    source: Annotated[Path, typer.Argument(help="A folder of images, or of folders of images.")],
    output: NewFolder,
    method: Annotated[
        Literal["phase", "blocks"],
        typer.Option(
            help="phase keeps the amplitude spectrum (up to clipping), blocks the pixels."
        ),
    ] = "phase",
    blocks: Annotated[int, typer.Option(help="Tiles along each side, for blocks.")] = 16,
    seed: Seed = 0,
) -> None:
    """Make the scrambled control of a stimulus folder.

    Example: fusiform stimuli scramble stimuli/faces -o stimuli/scrambled_faces
    """
    from fusiform import scramble_stimuli

    made = scramble_stimuli(source, output, method=method, seed=seed, blocks=blocks, note=note)
    put(f"scrambled {len(made)} images into {output}")


@command
@tabled
def check(
    stimuli: Annotated[Stimuli, Of(("source", "groups", "root"))], as_json: AsJson = False
) -> None:
    """Decode every image and report what would confound a scan.

    Lists all stimuli that cannot be shown and all duplicates, and compares categories in luma,
    contrast and spectrum. Exits with code 1 if a stimulus cannot be shown, or is in several
    categories.

    Example: fusiform stimuli check stimuli/
    """
    from fusiform import check_stimuli

    report = check_stimuli(stimuli)
    if as_json:
        print_json(report.as_record())
    else:
        _print_stimuli(report)
    if not report.sound:
        raise typer.Exit(1)


@command
def pack(
    stimuli: Stimuli,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The folder to create: NAME.zarr.", rich_help_panel="Output"
        ),
    ],
    sizes: Annotated[dict[str, Any], Of(("resize", "crop", "interpolation"), given=Preprocessing)],
    resources: Annotated[Resources, Of(("decode_workers",))],
    network: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="MODEL", help="Pack for this network.", rich_help_panel="Preprocessing"
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="Weights of --for: some have a preprocessing of their own.",
            rich_help_panel="Preprocessing",
        ),
    ] = "default",
    quiet: Quiet = False,
) -> None:
    """Decode a stimulus set once for many scans.

    Writes uncompressed pictures as a network takes them. A scan of them has the same numbers and
    the same fingerprint as a scan of the files, for every network that takes pictures of this size,
    resized and cropped alike. Without --for they are resized to 256 pixels (bilinear) and cropped
    to 224; --resize, --crop and --interpolation override single values. A pixel takes 3 bytes, a
    picture of 224 pixels 150 kB.

    Example: fusiform stimuli pack stimuli/ -o packed.zarr --for resnet50
    """
    from fusiform import pack_stimuli

    with stopped_in_a_line("nothing is left"), listening(quiet) as told:
        packed = pack_stimuli(
            stimuli,
            output,
            network=None if network is None else Network(network, weights),
            preprocessing=sizes,
            decode_workers=resources.decode_workers,
            progress=told,
        )
    told.note(
        f"packed {packed:,} stimuli; next: fusiform scan MODEL {quote(str(output))} -o NAME.zarr"
    )


def _print_stimuli(report: StimuliReport) -> None:
    from fusiform.engine.stimuli.check_report import advice, lines, table

    for line in lines(report):
        tell(line)
    print()
    head, *rows = table(report)
    print_table(head, rows, right={1})
    for line in advice(report):
        tell(line)
