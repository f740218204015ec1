"""Cost of commits: a scan that commits after every batch, beside one that never does.

Needs the test data.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from fusiform.engine.store.writing.commits import CommitLog

from ..shared import head, heading, link_images, save, scan

IMAGES, TURNS, INTERVAL = 160, 5, 60
NETWORKS = ("resnet18", "resnet50")
# The network stands still in the first, and goes on during the second.
BLOCKING, BESIDE = "write_live", "write"
STAGES = {name: (CommitLog, name) for name in (BLOCKING, BESIDE)}


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        link_images(stimuli, IMAGES)
        for network in NETWORKS:
            rows.append(_measured(network, stimuli, Path(folder) / "o.zarr"))
            print(rows[-1], flush=True)
    lines = [
        *heading(__name__, "What commits cost", needs_testdata=True),
        f"{IMAGES} photographs in batches of 32, untrained networks, all blocks; {TURNS} turns,",
        "medians.",
        "",
        "A commit writes the live moments while the network stands still, and has all that was",
        "written reach the disk (fsync) while it goes on. `in all`: how much longer the stream of",
        "a scan takes that commits after every batch than of one that commits at its end only, for",
        f"each commit; and as a share of the default interval of {INTERVAL} s, wanted below 2 %.",
        "",
        *head(
            "network",
            "live moments",
            "a batch",
            "standing still",
            "to disk",
            "in all",
            "of a minute",
        ),
        *rows,
    ]
    save(__name__, lines)


def _measured(network: str, stimuli: Path, output: Path) -> str:
    taken: dict[str, list[float]] = defaultdict(list)
    batches = -(-IMAGES // 32) - 1  # that are timed: from the first to the last
    size = 0
    for turn in range(TURNS + 1):
        clocks: dict[str, list[float]] = defaultdict(list)
        often, size = _scan(network, stimuli, output, 0, clocks)
        never, _ = _scan(network, stimuli, output, 1e9, defaultdict(list))
        if turn:  # the first loads libraries and compiled code
            taken["batch"].append(never / batches)
            taken["added"].append((often - never) / batches)
            for name, values in clocks.items():
                taken[name] += values
    medians = {name: statistics.median(values) for name, values in taken.items()}
    shown = " | ".join(
        f"{1e3 * medians[name]:,.0f} ms" for name in ("batch", BLOCKING, BESIDE, "added")
    )
    share = f"{100 * medians['added'] / INTERVAL:.2f} %"
    return f"| {network} | {size / 2**20:.0f} MiB | {shown} | {share} |"


def _scan(
    network: str, stimuli: Path, output: Path, every: float, clocks: dict[str, list[float]]
) -> tuple[float, int]:
    """Seconds from the first batch to the last, and bytes of live moments."""
    size = live = 0

    def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def timed(self: CommitLog, *arguments: Any) -> Any:
            nonlocal size, live
            if name == BLOCKING:
                live = sum(map(len, arguments[1].values()))
                size = max(size, live)
            started = time.perf_counter()
            work(self, *arguments)
            if live:  # those of the end, and of the contrasts, have no live moments
                clocks[name].append(time.perf_counter() - started)

        return timed

    originals = {name: getattr(*place) for name, place in STAGES.items()}
    try:
        for name, work in originals.items():
            setattr(CommitLog, name, clocked(name, work))
        steps = scan(network, stimuli, output, commit_every=every).steps
    finally:
        for name, work in originals.items():
            setattr(CommitLog, name, work)
    return steps[-1][0] - steps[0][0], size
