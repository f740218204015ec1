"""The page's figures for print, and one composed of them, as reproducible SVG, PDF and PNG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import new_file, new_folders
from .axes import STYLE, Json, rows_of
from .curves import LINES, distributions, over_layers
from .matrices import confusion, consistency, maps, matrices
from .overview import overview
from .results import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Formats, and metadata that would differ from one time to the next.
_FORMATS = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
_DOTS_PER_INCH = 300


def write_figures(
    found: Json, folder: Path, details: Sequence[Json] = (), results: Sequence[Any] = ()
) -> list[Path]:
    """Write every figure as NAME.svg, NAME.pdf and NAME.png once all are drawn; return their paths.

    ``found`` is the data of a page, of :func:`..reporting.findings.findings`; figures of a single
    layer show its ``layer``. ``details`` of every store, of :func:`.tuning.details`, are for the
    composed figure, ``results`` those that the page shows beside analyses.
    """
    from matplotlib import rc_context

    written = []
    with new_folders(folder), rc_context(STYLE), ExitStack() as files:
        drawn = chain(_figures(found, details), figures(results, found["layer"]))
        for name, figure in drawn:
            for kind, metadata in _FORMATS.items():
                written.append(folder / f"{name}.{kind}")
                file = files.enter_context(new_file(written[-1], "a figure"))
                figure.savefig(file, format=kind, metadata=metadata, dpi=_DOTS_PER_INCH)
                figure.set_layout_engine("none")  # keep the layout, which is slow to compute
    return written


def _figures(found: Json, details: Sequence[Json]) -> Iterator[tuple[str, Figure]]:
    if details:
        yield "overview", overview(found, details)
    for line in LINES:
        yield line.name, over_layers(found, line)
    yield "csi-in-layer", distributions(found, "csi")
    yield "maps", maps(found)
    if any(rows_of(store, "confusion") for store in found["stores"]):
        yield "preferred-category-fold-by-fold", matrices(found, confusion, "share")
    if all(store["consistency"] for store in found["stores"]):
        yield "consistency", matrices(found, consistency, "Spearman's rho of category RDMs")
