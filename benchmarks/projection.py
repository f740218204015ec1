"""How well a random projection keeps the distances between stimuli, against exact ones.

Layers of a trained ResNet-50 that fit: every unit recorded, and projected to several numbers of
dimensions with several seeds.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from cost import described
from scipy import stats

import fusiform
from fusiform.engine.responses.geometry import Products, products, upper
from fusiform.engine.scanning.memory import peak_memory
from fusiform.kernels.projection import bound, typical_error

RESULTS = Path(__file__).parent / "results" / "projection.md"
WEIGHTS = "resnet50_imagenet_compressed.safetensors"
GROUPS = {
    "faces": ["adult", "child"],
    "bodies": ["body", "limb"],
    "characters": ["word", "number"],
    "objects": ["car", "instrument"],
    "places": ["house", "corridor"],
}
LAYERS = ("layer3.5", "layer4.2")
DIMS = (64, 256, 1024)
SEEDS = (0, 1, 2)


def main() -> None:
    """Record, project, compare, and write the table."""
    testdata = Path(os.environ["FUSIFORM_TESTDATA"]).resolve()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        exact = _recorded(testdata, Path(folder) / "all.zarr", None, 0)
        whole = {name: products(exact, name) for name in LAYERS}
        stimuli = len(whole[LAYERS[0]].stimuli)
        for dim in DIMS:
            errors: dict[str, list[list[float]]] = {name: [] for name in LAYERS}
            for seed in SEEDS:
                output = Path(folder) / f"{dim}-{seed}.zarr"
                projected = _recorded(testdata, output, dim, seed)
                for name in LAYERS:
                    errors[name].append(_errors(whole[name], products(projected, name)))
            for name in LAYERS:
                lines.append(_line(name, dim, stimuli, errors[name]))
    units = {name: whole[name].units for name in LAYERS}
    head = [
        "# Random projections against exact distances",
        "",
        "Regenerate: `FUSIFORM_TESTDATA=... python benchmarks/projection.py`",
        described(),
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
    RESULTS.write_text("\n".join([*head, *lines, *tail]) + "\n")


def _recorded(testdata: Path, output: Path, project: int | None, seed: int) -> fusiform.Recording:
    return fusiform.record(
        "resnet50", testdata / "stimuli" / "floc", output, groups=GROUPS,
        weights=str(testdata / "weights" / WEIGHTS), layers=LAYERS, project=project, seed=seed,
        device="cpu",
    )  # fmt: skip


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
        f"| {name} | {dim} | {np.sqrt((rms**2).mean()):.4f} | {typical_error(dim):.4f} "
        f"| {largest.max():.3f} | {bound(stimuli, dim):.3f} | {correlation.max():.3f} "
        f"| {spearman.min():.4f} |"
    )


if __name__ == "__main__":
    main()
