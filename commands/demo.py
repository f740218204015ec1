"""The demo: a trained network and its untrained twin on the built-in localizer set."""

from __future__ import annotations

import shutil
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

from fusiform.engine.errors import UserError

from .asking import summarised
from .fields import command
from .notes import note, put, put_command, stopped_in_a_line
from .progress import listening
from .shared_options import NOTHING_KEPT, Quiet, Seed

if TYPE_CHECKING:
    from fusiform.engine.scanning.progress import Listener


@command
def demo(
    directory: Annotated[Path, typer.Argument(help="The folder to create for all files.")] = Path(
        "fusiform-demo"
    ),
    per_category: Annotated[int, typer.Option(help="Stimuli drawn per category.")] = 48,
    seed: Seed = 0,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the report in a browser.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Find category-selective units in a trained network and in an untrained copy.

    Draws the built-in localizer set, scans EfficientNet-Lite0 trained and untrained, and writes a
    report. The trained weights come with the extra `demo`; nothing is downloaded.

    Example: fusiform demo --open
    """
    from fusiform import make_stimuli, report
    from fusiform.engine.networks.libraries.demo import WITH_EXTRA, installed_weights

    if per_category < 4:
        raise UserError(
            f"two folds need at least 4 stimuli per category; got {per_category}: draw more"
        )
    is_trained = installed_weights() is not None
    stimuli, page = directory / "stimuli", directory / "report.html"
    with _resumable(directory), listening(quiet) as told:
        if not is_trained:
            told.note(f"the trained network is not installed ({WITH_EXTRA}): scanning untrained")
        if not stimuli.exists():
            make_stimuli(stimuli, per_category=per_category, seed=seed)
            told.note(f"drew {per_category} stimuli for each of six categories in {stimuli}")
        stores = _scanned(directory, seed, told, is_trained=is_trained)
        report(stores, page, seed=seed, note=told.note)
    _print_answer(stores, is_trained=is_trained)
    print()
    put(f"The report: {page}")
    if open_page and not webbrowser.open(page.resolve().as_uri()):
        note("no browser could be started: open the report yourself")


@contextmanager
def _resumable(directory: Path) -> Iterator[None]:
    """Mark the demo's folder until all is done: the same command continues in a marked one.

    After an error before anything was committed, nothing is left.

    Raises
    ------
    UserError : the folder exists, and is not that of an unfinished demo
    """
    from fusiform.engine.beside import is_ours, mark, tidy, unmark
    from fusiform.engine.files import new_folders

    if directory.exists() and not is_ours(directory):
        raise UserError(
            f"the demo needs a new folder; {directory} exists: remove it or name another"
        )
    with new_folders(directory):
        mark(directory)  # until all is done: a killed run resumes here
        for name in ("stimuli", "trained.zarr", "untrained.zarr"):
            tidy(directory / name)
        try:
            yield
        except BaseException:
            if not any(directory.glob("*.zarr*")):
                shutil.rmtree(directory / "stimuli", ignore_errors=True)
                unmark(directory)
            raise
        unmark(directory)


def _scanned(directory: Path, seed: int, told: Listener, *, is_trained: bool) -> list[str]:
    """Scan the network with its trained weights, if there are any, and untrained."""
    from fusiform import Network, scan
    from fusiform.engine.networks.libraries.demo import LICENCE, NETWORK, PACKAGE

    networks = {"untrained.zarr": "none"}
    if is_trained:
        told.note(f"trained weights: {PACKAGE} ({LICENCE})")
        networks = {"trained.zarr": "default", **networks}
    for name, weights_of in networks.items():
        if not (directory / name).exists():
            kept = f"the rest is kept in {directory}: the same command resumes it"
            with stopped_in_a_line(kept if any(directory.glob("*.zarr")) else NOTHING_KEPT):
                network = Network(NETWORK, weights_of, seed)
                scan(network, directory / "stimuli", directory / name, progress=told)
    return [str(directory / name) for name in networks]


def _print_answer(stores: list[str], *, is_trained: bool) -> None:
    """Print the units selective at thirds of the depth, and what to do next."""
    from fusiform import open_store
    from fusiform.engine.contrasts.language.criterion import DEFAULT
    from fusiform.engine.networks.libraries.demo import NETWORK, WITH_EXTRA

    opened = [open_store(path) for path in stores]
    layers = [layer.name for layer in opened[0].layers]
    third = len(layers) // 3
    summarised(opened, DEFAULT, layers[third - 1 :: third])
    weights = "" if is_trained else " --weights none"
    print()
    if is_trained:
        put(
            "2 is the same architecture with random weights. The stimuli are drawings: a study "
            "needs photographs."
        )
    else:
        another = f"{WITH_EXTRA} && fusiform demo NEW_FOLDER"
        put(f"This network is untrained. To see a trained one beside it: {another}")
    print()
    put("All layers, and the same network on your own images in a folder per category:")
    put_command(f"  fusiform summary {join(stores)}")
    put_command(f"  fusiform scan {NETWORK} FOLDER{weights} -o own.zarr")
