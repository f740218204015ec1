"""Random projections: distances between stimuli, beside exact ones.

Needs the test data. Records two layers of a trained ResNet-50 whole, and projected to several
numbers of dimensions with several seeds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

import fusiform
from fusiform import Design, Network, Resources, Stimuli, UnitRequest
from fusiform.engine.responses.geometry import Products, products, upper
from fusiform.engine.scanning.memory import peak_memory
from fusiform.kernels.projection import bound

from ..shared import DOMAINS, RESNET50, heading, save, testdata

LAYERS = ("layer3.5", "layer4.2")
DIMS = (64, 256, 1024)
SEEDS = (0, 1, 2)


def main() -> None:
    """Record, project, compare, and write the table."""
    data = testdata()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        exact = _recorded(data, Path(folder) / "all.zarr", None, 0)
        whole = {name: products(exact, name) for name in LAYERS}
        stimuli = len(whole[LAYERS[0]].stimuli)
        for dim in DIMS:
            errors: dict[str, list[list[float]]] = {name: [] for name in LAYERS}
            for seed in SEEDS:
                output = Path(folder) / f"{dim}-{seed}.zarr"
                projected = _recorded(data, output, dim, seed)
                for name in LAYERS:
                    errors[name].append(_errors(whole[name], products(projected, name)))
            for name in LAYERS:
                lines.append(_line(name, dim, stimuli, errors[name]))
    units = {name: whole[name].units for name in LAYERS}
    top = [
        *heading(__name__, "Random projections against exact distances", needs_testdata=True),
        f"ResNet-50, trained; {stimuli:,} photographs of fLoc in five categories; every unit of "
        + " and ".join(f"{name} ({number:,})" for name, number in units.items())
        + f"; {len(SEEDS)} seeds each.",
        "",
        "Squared euclidean distances, over all pairs of stimuli and seeds: root mean square, and",
        "largest, of projected / exact - 1. Beside them what is promised: at most sqrt(2/dim), and",
        "the eps that holds for all pairs at once with a probability of 1 - 1/stimuli (Achlioptas",
        "2003, theorem 1.1, with beta 1; 1 where it promises nothing). Correlation distance: the",
        "largest difference, and Spearman's r of the whole matrix with the exact one, the least of",
        "the seeds.",
        "",
        "| layer | dim | rms | sqrt(2/dim) | largest | eps | correlation distance, largest | "
        "Spearman |",
        "|---|---|---|---|---|---|---|---|",
    ]
    tail = ["", f"Peak memory of all of it: {peak_memory() / 2**30:.2f} GiB."]
    save(__name__, [*top, *lines, *tail])


def _recorded(data: Path, output: Path, project: int | None, seed: int) -> fusiform.Recording:
    return fusiform.record(
        Network("resnet50", weights=str(data / "weights" / RESNET50), seed=seed),
        Stimuli(data / "stimuli" / "floc", groups=DOMAINS),
        output,
        units=UnitRequest(project=project),
        design=Design(layers=LAYERS),
        resources=Resources(device="cpu"),
    )


def _errors(exact: Products, projected: Products) -> list[float]:
    squares = [upper(one.distances("euclidean")) ** 2 for one in (exact, projected)]
    apart = [upper(one.distances("correlation")) for one in (exact, projected)]
    relative = squares[1] / squares[0] - 1
    return [
        float(np.sqrt((relative**2).mean())),
        float(np.abs(relative).max()),
        float(np.abs(apart[1] - apart[0]).max()),
        float(stats.spearmanr(*apart).statistic),
    ]


def _line(name: str, dim: int, stimuli: int, errors: list[list[float]]) -> str:
    rms, largest, correlation, spearman = np.array(errors).T
    return (
        f"| {name} | {dim} | {np.sqrt((rms**2).mean()):.4f} | {np.sqrt(2 / dim):.4f} "
        f"| {largest.max():.3f} | {bound(stimuli, dim):.3f} | {correlation.max():.3f} "
        f"| {spearman.min():.4f} |"
    )
