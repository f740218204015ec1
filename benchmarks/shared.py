"""Shared by all benchmarks: photographs, the machine line, tables, reports, and timed scans."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fusiform.engine.bench.measure import Finished, run, run_python
from fusiform.engine.machine import processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusiform.engine.scanning.progress import Progress

RESULTS = Path(__file__).parent / "results"
# Folders of the localizer's photographs (fLoc), by domain.
DOMAINS = {
    "faces": ("adult", "child"),
    "bodies": ("body", "limb"),
    "characters": ("word", "number"),
    "objects": ("car", "instrument"),
    "places": ("house", "corridor"),
}
RESNET18 = "resnet18_imagenet_compressed.safetensors"
RESNET50 = "resnet50_imagenet_compressed.safetensors"
VIT = "vit_tiny_patch16_224_imagenet.safetensors"


# Photographs and weights


def testdata() -> Path:
    """The folder with ``stimuli/floc`` and ``weights``."""
    if "FUSIFORM_TESTDATA" not in os.environ:
        raise SystemExit("set FUSIFORM_TESTDATA to the folder that holds stimuli/floc and weights")
    return Path(os.environ["FUSIFORM_TESTDATA"]).resolve()


def photographs() -> list[Path]:
    """All photographs of the localizer; none without test data."""
    if "FUSIFORM_TESTDATA" not in os.environ:
        return []
    return sorted((testdata() / "stimuli" / "floc").rglob("*.jpg"))


def link_images(folder: Path, number: int) -> None:
    """Fill a new ``folder`` with ``number`` photographs, equally many of each domain and folder."""
    stimuli = testdata() / "stimuli" / "floc"
    for domain, pair in DOMAINS.items():
        (folder / domain).mkdir(parents=True)
        for name in pair:
            for i in range(1, number // 10 + 1):
                image = stimuli / name / f"{name}-{i}.jpg"
                (folder / domain / image.name).symlink_to(image)


# Reports


def heading(module: str, title: str, options: str = "", needs_testdata: bool = False) -> list[str]:
    """Title of a report, the command that makes it, and the machine."""
    data = "FUSIFORM_TESTDATA=... " if needs_testdata else ""
    command = f"{data}python -m benchmarks {module.removeprefix('benchmarks.')} {options}".rstrip()
    return [f"# {title}", "", f"Regenerate: `{command}`", described()]


def described() -> str:
    """The machine and the libraries that a report was measured with."""
    packages = ("torch", "numba", "numpy", "scipy", "zarr")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"Machine: {os.cpu_count()} cores ({processor()}), all on the CPU; {versions}."


def with_gpu(name: str) -> str:
    """The machine line of a GPU."""
    return (
        f"Machine: {name}, {os.cpu_count()} cores beside it, {platform.system()}, Python "
        f"{platform.python_version()}, torch {version('torch')}."
    )


def save(module: str, lines: Iterable[str]) -> None:
    """Write the report of a benchmark, ``results/RESULT.md``."""
    result = RESULTS / f"{module.rpartition('.')[2]}.md"
    result.write_text("\n".join(lines) + "\n")


def head(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*names), "|" + "---|" * len(names)]


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def asked(command: str) -> Finished:
    """Run ``fusiform COMMAND`` in a process of its own."""
    print(f"fusiform {command}", flush=True)
    return run(*shlex.split(command))


def answered(command: str, found: Finished | None = None) -> list[str]:
    """A command with what it printed, and its last notes, as a block."""
    found = found or asked(command)
    _, wrote, end = found.notes.partition("\nwrote ")
    printed = [*found.output.rstrip().splitlines(), *(wrote + end).strip().splitlines()]
    return ["", "```", f"$ fusiform {command}", *printed, "```"]


def summary_rows(text: str) -> list[dict[str, Any]]:
    """The rows of ``summary --format json``: a dict of values per layer and contrast."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in json.loads(text):
        if one["fold"] is None:
            key = one["layer"], one["contrast"]
            row = rows.setdefault(key, {"layer": key[0], "contrast": key[1]})
            row[one["quantity"]] = one["value"]
    return list(rows.values())


def files_of(folder: Path) -> list[int]:
    """Sizes of the files in a folder, in bytes."""
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]


# Work to be timed


def clocked(work: Callable[..., object], *arguments: Any) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def again(module: str, *arguments: str) -> Finished:
    """Run a benchmark with other arguments in a process of its own."""
    return run_python("-m", "benchmarks", module.removeprefix("benchmarks."), *arguments)


class Scanned(NamedTuple):
    """A scan: its store, seconds of the call, every step of its stream with its time, its notes."""

    store: Any
    seconds: float
    steps: list[tuple[float, Progress]]
    notes: list[str]

    @property
    def pace(self) -> float:
        """Images a second from the first batch to the last."""
        (started, first), (ended, last) = self.steps[0], self.steps[-1]
        return (last.done - first.done) / (ended - started)


def scan(model: str, stimuli: Path | str, output: Path | str, **options: Any) -> Scanned:
    """Scan an untrained network on the CPU, unless the options differ.

    Benchmarks call ``fusiform.scan`` here and nowhere else. Options are fields of its values.
    """
    import fusiform
    from fusiform.engine.scanning.progress import Listener

    def taken(noun: Any) -> dict[str, Any]:
        return {f.name: given.pop(f.name) for f in fields(noun) if f.name in given}

    steps: list[tuple[float, Progress]] = []
    notes: list[str] = []

    def progress(event: Progress) -> None:
        if event.stage == "scan":
            steps.append((time.perf_counter(), event))

    given = {"weights": "none", "device": "cpu", "overwrite": True, **options}
    network = fusiform.Network(model, **taken(fusiform.Network))
    design = fusiform.Design(**taken(fusiform.Design))
    resources = fusiform.Resources(**taken(fusiform.Resources))
    listener = Listener(note=notes.append, progress=progress)
    started = time.perf_counter()
    store = fusiform.scan(
        network, stimuli, output, design=design, resources=resources, progress=listener, **given
    )
    return Scanned(store, time.perf_counter() - started, steps, notes)
