"""Commands for stimulus sets: make, scramble, check, pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .fields import command
from .flags import flagged
from .notes import note, printable, stopped_in_a_line
from .options import AsJson, Quiet, Seed
from .progress import listener
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
    from fusiform import make_localizer

    made = make_localizer(directory, per_category=per_category, size=size, seed=seed)
    print(printable(f"drew {len(made)} stimuli in {directory}"))


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
    from fusiform import scramble_directory

    made = scramble_directory(source, output, method=method, seed=seed, blocks=blocks, note=note)
    print(printable(f"scrambled {len(made)} images into {output}"))


def _print_stimuli(report: StimuliReport) -> None:
    from fusiform.engine.stimuli.report import advice, lines, table

    for line in lines(report):
        print(printable(line))
    print()
    head, *rows = table(report)
    print_table(head, rows, right={1})
    for line in advice(report):
        print(printable(flagged(line)))


@command
def check() -> None:
    """Not yet."""


@command
def pack() -> None:
    """Not yet."""
