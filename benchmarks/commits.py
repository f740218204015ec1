"""What commits cost a scan.

``python benchmarks/commits.py`` with FUSIFORM_TESTDATA set writes ``results/commits.md``. Scans
that commit after every batch take turns with scans that do not commit on the way.
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

from cost import described
from end_to_end import link_images

from fusiform.engine.scanning import scan
from fusiform.engine.scanning.progress import Listener, Progress
from fusiform.engine.store.drafts.commits import CommitLog

RESULTS = Path(__file__).parent / "results" / "commits.md"
IMAGES, TURNS, INTERVAL = 160, 5, 60
NETWORKS = ("resnet18", "resnet50")
# The network stands still in the first, and goes on during the second.
BLOCKING, BESIDE = "write_live", "write"


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        link_images(stimuli, IMAGES)
        for network in NETWORKS:
            rows.append(_measured(network, stimuli, Path(folder) / "o.zarr"))
            print(rows[-1], flush=True)
    lines = [
        "# What commits cost",
        "",
        "Regenerate: `FUSIFORM_TESTDATA=... python benchmarks/commits.py`",
        described(),
        f"{IMAGES} photographs in batches of 32, untrained networks, all blocks; {TURNS} turns,",
        "medians.",
        "",
        "A commit writes the live moments while the network stands still, and has all that was",
        "written reach the disk (fsync) while it goes on. `in all`: how much longer the stream of",
        "a scan takes that commits after every batch than of one that commits at its end only, for",
        f"each commit; and as a share of the default interval of {INTERVAL} s, wanted below 2 %.",
        "",
        "| network | live moments | a batch | standing still | to disk | in all | of a minute |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


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
    seconds: list[float] = []
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

    def progress(event: Progress) -> None:
        if event.stage == "scan":
            seconds.append(time.perf_counter())

    originals = {name: getattr(CommitLog, name) for name in (BLOCKING, BESIDE)}
    try:
        for name, work in originals.items():
            setattr(CommitLog, name, clocked(name, work))
        scan.scan(
            network, stimuli, output, weights="none", device="cpu", overwrite=True,
            commit_every=every, listener=Listener(progress=progress),
        )  # fmt: skip
    finally:
        for name, work in originals.items():
            setattr(CommitLog, name, work)
    return seconds[-1] - seconds[0], size


if __name__ == "__main__":
    main()
