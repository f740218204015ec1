"""Fuzz image files: each is decoded or refused in one line, quickly and in little memory.

    python -m tests.fuzz.images --count 10000 --seed 0

Every case depends on its number and the seed alone (``--only 123`` repeats it and writes it to a
file). The cases run in a child with limited memory, so that a crash or a bomb ends the child and
not the fuzzer; the child's stderr holds warnings that would reach the user.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusiform.engine.errors import UserError

from .mutations import Report, damaged
from .seeds import seeds

# Limits per image: CPU seconds (the largest accepted image, of 178,956,970 pixels, takes one or
# two), and bytes of memory above the program's own.
SECONDS = 5.0
MEMORY = 2 * 2**30
# Seconds until a case counts as hanging; number of failures that ends the run.
_PATIENCE = 60
_ENOUGH = 20
ROOT = Path(__file__).parents[2]


def case(number: int, seed: int, files: dict[str, bytes]) -> tuple[str, bytes, str]:
    """Name of the damaged file, its content, and the mutations applied."""
    chance = random.Random(f"{seed}/{number}")
    names = sorted(files)
    name = names[number % len(names)]
    content, done = damaged(files[name], files[chance.choice(names)], chance)
    return name, content, done


def show(content: bytes) -> None:
    """Do everything that a scan does with an image before the network."""
    from fusiform.engine.decoding.pictures import prepare
    from fusiform.engine.preprocessing import Preprocessing
    from fusiform.engine.stimuli.images import open_image, read_header

    path = Path("damaged.png")
    read_header(path, content)
    image = open_image(path, content)
    assert image.mode in ("L", "RGB")
    assert prepare(image, Preprocessing(resize=64, crop=48)).shape == (48, 48, 3)


def outcome(content: bytes, show: Callable[[bytes], None] = show) -> tuple[str, str]:
    """``shown``, ``refused`` (perhaps ``for want of memory``), or the failure."""
    try:
        show(content)
    except UserError as error:
        if not str(error).isprintable():
            return "refused", f"a refusal that is no line: {error!r}"
        return ("refused for want of memory" if "memory" in str(error) else "refused"), ""
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "shown", ""


def run(count: int, seed: int = 0) -> Report:
    """Decode ``count`` damaged files."""
    started, report = time.perf_counter(), Report()
    while report.count < count and len(report.failures) < _ENOUGH:
        _run_child(report, count, seed)
    report.seconds = time.perf_counter() - started
    return report


def _command(start: int, count: int, seed: int) -> list[str]:
    what = f"-W always -m tests.fuzz.images --child --start {start} --count {count} --seed {seed}"
    return [sys.executable, *what.split()]


def _run_child(report: Report, count: int, seed: int) -> None:
    """Run a child from the report's position to the end, or to the case that ends it."""
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            _command(report.count, count, seed),
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=ROOT,
        ) as child,
    ):
        assert child.stdout
        for line in child.stdout:
            _note(report, json.loads(line))
        code = child.wait()
        complaints.seek(0)
        said = complaints.read()
    if code:
        report.failures.append(f"case {report.count} ended the child ({code}): {said[-2000:]}")
        report.count += 1
    elif said:
        report.failures.append(f"the user is warned: {said[:2000]}")


def _note(report: Report, found: dict[str, Any]) -> None:
    report.count += 1
    report.outcomes[found["name"].split()[0], found["outcome"]] += 1
    label = f"case {found['number']} ({found['name']}; {found['done']})"
    if found["wrong"]:
        report.failures.append(f"{label}: {found['wrong']}")
    if found["seconds"] > SECONDS:
        report.failures.append(f"{label} took {found['seconds']:.1f} s")
    if found["seconds"] > report.slowest:
        report.slowest, report.slowest_case = found["seconds"], label
    report.peak = max(report.peak, found["peak"])


def _child(start: int, count: int, seed: int) -> None:
    files = seeds()
    for name, content in files.items():  # all readers loaded
        became, wrong = outcome(content)
        several = any(word in name for word in ("animated", "pages"))
        assert (became, wrong) == ("refused" if several else "shown", ""), name
    before = _memory("VmHWM")
    most = _memory("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for number in range(start, count):
        name, content, done = case(number, seed, files)
        faulthandler.dump_traceback_later(_PATIENCE, exit=True)
        began = time.process_time()  # CPU time: other programs do not count
        became, wrong = outcome(content)
        seconds = time.process_time() - began
        print(
            json.dumps(
                {"number": number, "name": name, "done": done, "outcome": became, "wrong": wrong,
                 "seconds": seconds, "peak": _memory("VmHWM") - before}
            ),
            flush=True,
        )  # fmt: skip


def _memory(line: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{line}:")[1].split()[0])


def markdown(report: Report, count: int, seed: int) -> str:
    """The report in Markdown."""
    outcomes = ("shown", "refused", "refused for want of memory", "failed")
    rows = [
        "# Damaged image files",
        "",
        f"Regenerate: `python -m tests.fuzz.images --count {count} --seed {seed}`",
        f"Machine: {os.cpu_count()} cores, all on the CPU; {_versions()}.",
        "",
        f"{report.count:,} files through header, decoding and resizing: {len(report.failures)} "
        f"failures (another exception, a warning, a crash, more than {SECONDS:.0f} s of a core).",
        f"Slowest {report.slowest:.2f} s: {report.slowest_case}.",
        f"Peak memory beyond the program's own {_mib(report.peak)}; the limit was {_mib(MEMORY)}.",
        f"{report.seconds:.0f} s in all.",
        "",
        f"| kind | {' | '.join(outcomes)} |",
        f"|---|{'---|' * len(outcomes)}",
    ]
    for kind in sorted({kind for kind, _ in report.outcomes}):
        cells = (f"{report.outcomes[kind, became]:,}" for became in outcomes)
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    totals = (
        sum(n for (_, became), n in report.outcomes.items() if became == one) for one in outcomes
    )
    rows.append(f"| all | {' | '.join(f'{total:,}' for total in totals)} |")
    return "\n".join([*rows, *(f"- {failure}" for failure in report.failures)])


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _versions() -> str:
    from PIL import __version__, features

    libraries = ("libjpeg_turbo", "libtiff", "webp", "zlib")
    return f"Pillow {__version__} with " + ", ".join(
        f"{name} {features.version(name)}" for name in libraries
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        _child(options.start, options.count, options.seed)
    elif options.only is not None:
        name, content, done = case(options.only, options.seed, seeds())
        Path(f"case-{options.only}").write_bytes(content)
        print(f"{name}; {done}: {outcome(content)}")
    else:
        report = run(options.count, options.seed)
        print(markdown(report, options.count, options.seed))
        sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
