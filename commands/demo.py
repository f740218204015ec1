"""The demo: draw, scan, summarise."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from fusiform.engine.errors import UserError

from .asking import summarised
from .fields import command
from .notes import printable, stopped_in_a_line
from .progress import listener
from .shared_options import MODEL_HELP, NOTHING_KEPT, Quiet, Seed


@command
def demo(
    directory: Annotated[Path, typer.Argument(help="Where the stimuli and the store go.")] = Path(
        "fusiform-demo"
    ),
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "resnet18",
    weights: Annotated[
        str, typer.Option(help="Weights of the network; none is untrained, without a download.")
    ] = "none",
    per_category: Annotated[int, typer.Option(help="Stimuli drawn per category.")] = 48,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Draw the built-in localizer set, scan a network, and summarise.

    Example: fusiform demo
    """
    from fusiform import Network, make_stimuli, scan
    from fusiform.engine.beside import draft_path, is_ours, mark, tidy, unmark
    from fusiform.engine.errors import explain_disk_errors

    stimuli, output = directory / "stimuli", directory / "demo.zarr"
    draft, new = draft_path(output), not directory.exists()
    ours = new or is_ours(directory)
    if not ours and not (stimuli.is_dir() and draft.exists()):
        raise UserError(
            f"the demo needs a new folder; {directory} exists: remove it or name another"
        )
    if ours:
        with explain_disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            mark(directory)  # until all is done: a killed run resumes here
        tidy(stimuli)
        tidy(output)
    told, drawn = listener(quiet), stimuli.exists()
    try:
        if not drawn:
            make_stimuli(stimuli, per_category=per_category, seed=seed)
            told.note(f"drew {per_category} stimuli for each of six categories in {stimuli}")
        if not (ours and output.exists()):
            with stopped_in_a_line(NOTHING_KEPT):
                scan(Network(model, weights, seed), stimuli, output, listener=told)
    except BaseException:
        if not drawn and not draft.exists():
            shutil.rmtree(stimuli, ignore_errors=True)
            unmark(directory)
            if new:
                directory.rmdir()
        raise
    unmark(directory)
    summarised([str(output)], {"test": "rest"})
    if weights == "none":
        print("\nThis network is untrained: what it selects, it selects for low-level reasons.")
    print(
        f"\nNext, by the stricter default criterion, and with a trained network:"
        f"\n  fusiform summary {printable(str(output))}"
        f"\n  fusiform scan resnet50 {printable(str(stimuli))} -o r50.zarr"
    )
