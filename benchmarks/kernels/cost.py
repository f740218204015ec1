"""Cost of the stream: kernels, peers, networks, decoding, files, memory, start-up, tail.

Half an hour on two cores. ``python -m benchmarks kernels.cost peers files`` measures these sections
anew and keeps the others. ``fusiform bench`` measures what needs no peers, on any machine.
"""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.special import stdtr

from fusiform import Preprocessing, bench, make_stimuli
from fusiform.engine.bench.images import as_jpeg, repeat_images
from fusiform.engine.bench.measure import Measurement, ratio, side_by_side
from fusiform.engine.decoding.ahead import default_workers
from fusiform.engine.scanning.memory import recycled
from fusiform.engine.scanning.timing import measure_decoding
from fusiform.kernels import cpu, jit
from fusiform.kernels.pvalues import upper_tail

from ..shared import RESULTS, again, described, head, heading, scan
from .peers import INSTALLED

NETWORKS = ("resnet50", "resnet18", "clip:RN50", "vit_b_16")
REPEATS = 7


def options(parser: ArgumentParser) -> None:
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--print", choices=[*SECTIONS], help="one section, here")


def main(arguments: Namespace) -> None:
    if arguments.print:
        title, *lines = SECTIONS[arguments.print]()
        print("\n".join([title, "", described(), *lines]))
        return
    chosen = arguments.sections or list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        raise SystemExit(f"sections are {', '.join(SECTIONS)}; got {', '.join(unknown)}")
    results = RESULTS / "cost.md"
    earlier = results.read_text().split("\n## ")[1:] if results.exists() else []
    texts = dict(zip(SECTIONS, (f"## {text.rstrip()}" for text in earlier), strict=False))
    top = heading(__name__, "What the stream costs")[:-1]  # each section names its machine
    top += [f"Medians of {REPEATS}, unless it says otherwise. What is compared took turns: ratios"]
    top += [
        "are medians over turns. Sections may come from different machines; each names its own."
    ]
    # Each in a process of its own: what one leaves in memory does not help or hinder the next.
    for name in chosen:
        print(name, flush=True)
        texts[name] = again(__name__, "--print", name).output.rstrip()
        in_order = [texts[section] for section in SECTIONS if section in texts]
        results.write_text("\n\n".join(["\n".join(top), *in_order]) + "\n")


def _kernels() -> Iterator[str]:
    yield from ("## Kernels against the memory that they read", "")
    yield "`fusiform bench --parts kernels`. What the traffic allows: B b / (B b + G s) of the"
    yield "read bandwidth for B stimuli of b bytes, G groups, and s = 16 + b bytes of state per"
    yield "unit, all of which are read; the sums are written, too, which is not in it."
    yield ""
    yield from _table(bench(parts=["kernels"], repeats=REPEATS, device="cpu"))


def _networks() -> Iterator[str]:
    yield from ("## A batch of decoded images through a network", "")
    yield "`fusiform bench MODEL --parts network`. Bare: up to the last recorded layer, with the"
    yield "settings of a scan (channels last, memory kept for the next batch); in fresh memory: the"
    yield "same without the latter. Plain loop: the whole network as it is loaded,"
    yield "`torch.no_grad()`, the system's allocator. Blocks do not end here: reading out and"
    yield "writing their moments is in `where_time_goes.md`."
    yield ""
    measured = (bench(name, parts=["network"], repeats=REPEATS, device="cpu") for name in NETWORKS)
    yield from _table(row for rows in measured for row in rows)


def _decoding() -> Iterator[str]:
    yield from (
        "## Decoding",
        "",
        "`fusiform bench --parts decoding`; 256 pixels need no resizing.",
        "",
    )
    yield from _table(bench(parts=["decoding"], repeats=REPEATS, device="cpu"))


def _memory() -> Iterator[str]:
    yield from ("## Peak memory", "")
    yield "`fusiform bench resnet18 --parts memory --scan-images 100,1000,10000`, medians of 3."
    yield ""
    numbers = [100, 1000, 10_000]
    yield from _table(bench("resnet18", parts=["memory"], scan_images=numbers, device="cpu"))


def _table(rows: Iterable[Measurement]) -> Iterator[str]:
    yield "| what | setting | | compared |"
    yield "|---|---|---|---|"
    for row in rows:
        compared = ", ".join(f"{value:.3g} {of}" for of, value in row.compared.items())
        digits = 1 if row.value < 100 else 0
        remarks = "; ".join(filter(None, [compared, row.note]))
        yield f"| {row.what} | {row.setting} | {row.value:,.{digits}f} {row.unit} | {remarks} |"


def _peers() -> Iterator[str]:
    units, batch = 800_000, 32
    yield from (f"## One batch [{batch}, {units:,}] of float32 into mean and variance per unit", "")
    yield "The ways are in `peers.py`. Times fusiform: how often its kernel does the same bytes in"
    yield "the time that a way takes. Fresh memory is how C libraries hand out large blocks; kept"
    yield "is as within a scan of fusiform, which hands freed blocks out again: ways that make"
    yield "large temporary arrays gain by that. Error: largest relative error of the variance of 4"
    yield "batches with mean 1,000 and standard deviation 1."
    yield ""
    x = np.random.default_rng(0).normal(2, 1, (batch, units)).astype(np.float32)
    words = np.ones(2**27, np.int64)
    sizes = {name: min(units, way.most_units or units) for name, way in INSTALLED.items()}
    works = {
        name: way.start(np.ascontiguousarray(x[:, : sizes[name]]))
        for name, way in INSTALLED.items()
    }
    jit.use_threads(torch.get_num_threads())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other libraries' own
        works = {"read": partial(cpu.read_memory, words), **works}
        fresh = side_by_side(works, REPEATS)
        with recycled():
            kept = side_by_side(works, REPEATS)
    speeds = [words.nbytes / statistics.median(taken["read"]) / 1e9 for taken in (fresh, kept)]
    yield f"Read bandwidth in the same turns: {speeds[0]:.0f} GB/s, then {speeds[1]:.0f} GB/s."
    yield ""
    yield from head("way", "GB/s", "of read bandwidth", "times fusiform: fresh", "kept", "error")
    ours = "fusiform, CPU kernel"

    def slower(taken: dict[str, list[float]], name: str) -> float:
        return ratio(taken[name], taken[ours]) * units / sizes[name]

    for name in sorted(INSTALLED, key=partial(slower, fresh)):
        nbytes = x.itemsize * batch * sizes[name]
        share = ratio(fresh["read"], fresh[name]) * nbytes / words.nbytes
        yield (
            f"| {name} | {nbytes / statistics.median(fresh[name]) / 1e9:.3g} | {100 * share:.2g} % "
            f"| {slower(fresh, name):.3g} | {slower(kept, name):.3g} | {_error(name):.0e} |"
        )


def _error(name: str) -> float:
    x = np.random.default_rng(1).normal(1000, 1, (32, 500)).astype(np.float32)
    work = INSTALLED[name].start(x)
    for _ in range(4):
        read_out = work()
    seen = np.tile(x, (4, 1)) if INSTALLED[name].streams else x
    exact = seen.astype(np.longdouble).var(axis=0, ddof=1)
    return float(np.max(np.abs(read_out()[1] - exact) / exact))


def _files() -> Iterator[str]:
    """Whole scans from JPEG files: what decoding adds, and how much of it the network hides."""
    number = 192
    yield from ("## From files", "")
    yield f"`fusiform scan resnet50 DIR --weights none` of {number} JPEG files: the loop from"
    yield "the first batch asked for to the last folded in, moments written. Beside it decoding"
    yield "alone, and the same scan of 32 x 32 pixel files, which are next to nothing to decode."
    yield ""
    yield from head(
        "files", "scan", "decoding alone, both threads", "scan / (decoding + scan of 32 x 32)"
    )
    with tempfile.TemporaryDirectory() as folder:
        sides = (32, 256, 1024)
        for side in sides:
            drawn = make_stimuli(Path(folder) / f"drawn-{side}", per_category=4, size=side)
            repeat_images([as_jpeg(path) for path in drawn], Path(folder) / str(side), number)
        works = {}
        for side in sides:
            stimuli = Path(folder) / str(side)
            paths = sorted(stimuli.rglob("*.jpg"))
            works[f"scan {side}"] = partial(_loop, stimuli)
            works[f"decode {side}"] = partial(_decoded, paths)
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(REPEATS):
            for name, work in works.items():
                taken[name].append(work())
        for side in sides:
            together = [
                a + b for a, b in zip(taken[f"decode {side}"], taken["scan 32"], strict=True)
            ]
            yield (
                f"| {side} x {side} | {statistics.median(taken[f'scan {side}']):.2f} s "
                f"| {statistics.median(taken[f'decode {side}']):.2f} s "
                f"| {ratio(taken[f'scan {side}'], together):.2f} |"
            )


def _decoded(paths: list[Path]) -> float:
    """Seconds of decoding alone."""
    return len(paths) / measure_decoding(paths, Preprocessing(), default_workers()).rate


def _loop(stimuli: Path) -> float:
    """Seconds of the scan's loop, without start-up and contrasts."""
    _, last = scan("resnet50", stimuli, stimuli.parent / "r50.zarr").steps[-1]
    return last.seconds


def _start_up() -> Iterator[str]:
    yield from ("## Start-up", "")
    yield "From the command to the first batch in the moments (`fusiform scan resnet18 DIR"
    yield "--weights none --batch-size 8`, 48 drawn images, compiled code in the cache), and the"
    yield "imports in it that are not fusiform's."
    yield ""
    yield f"| | median of {REPEATS}, s |"
    yield "|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        stimuli = Path(folder) / "stimuli"
        make_stimuli(stimuli, per_category=8)
        output = Path(folder) / "r18.zarr"
        command = shlex.split(
            f"-m fusiform scan resnet18 {stimuli} -o {output} --weights none --batch-size 8 "
            "--device cpu --overwrite"
        )
        works = {
            "to the first batch": lambda: _until("scan 8/48", *command),
            "`import torch, torchvision`": lambda: _until("", "-c", "import torch, torchvision"),
            "`import torch`": lambda: _until("", "-c", "import torch"),
            "`import fusiform.cli`": lambda: _until("", "-c", "import fusiform.cli"),
            "python": lambda: _until("", "-c", "pass"),
        }
        for work in works.values():
            work()
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(REPEATS):
            for name, work in works.items():
                taken[name].append(work())
    for name, values in taken.items():
        yield f"| {name} | {statistics.median(values):.2f} |"


def _until(line: str, *arguments: str) -> float:
    """Seconds from starting Python to a line on stderr that begins so, or to the end for none."""
    started = time.perf_counter()
    reached = None
    with subprocess.Popen(
        [sys.executable, *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        for said in process.stderr or ():
            if line and said.startswith(line):
                reached = time.perf_counter() - started
    if process.returncode or (line and reached is None):
        raise SystemExit(f"failed: {shlex.join(arguments)}")
    return time.perf_counter() - started if reached is None else reached


def _tail() -> Iterator[str]:
    units = 1_000_000
    yield from ("## Tail of Student's t", "")
    yield f"One-sided p of {units:,} t's and degrees of freedom, on one thread, beside"
    yield "`scipy.special.stdtr`. Difference: the largest relative one between the two."
    yield ""
    yield from head("degrees of freedom", "t up to", "ns per p", "scipy", "ratio", "difference")
    jit.use_threads(1)
    rng = np.random.default_rng(0)
    for low, high, most in ((1, 5, 8), (5, 20, 8), (20, 60, 12), (95, 478, 20), (1e4, 1e6, 20)):
        df, t = rng.uniform(low, high, units), most * rng.uniform(0, 1, units) ** 2
        works = {"fusiform": partial(upper_tail, t, df), "scipy": partial(stdtr, df, -t)}
        taken = side_by_side(works, REPEATS)
        ours, theirs = (1e9 / units * statistics.median(taken[name]) for name in works)
        apart = np.max(np.abs(works["fusiform"]() / works["scipy"]() - 1))
        yield (
            f"| {low:,.0f} to {high:,.0f} | {most} | {ours:.0f} | {theirs:.0f} "
            f"| {ratio(taken['scipy'], taken['fusiform']):.1f} | {apart:.0e} |"
        )


SECTIONS = {
    "kernels": _kernels,
    "peers": _peers,
    "networks": _networks,
    "decoding": _decoding,
    "files": _files,
    "memory": _memory,
    "start-up": _start_up,
    "tail": _tail,
}
