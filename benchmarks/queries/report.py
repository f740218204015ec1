"""The report of stores: time to write it, size, time until a browser has drawn it.

Takes stores, and recordings of them (``r50.zarr r50-untrained.zarr r50.responses.zarr``). Needs a
Chromium (``playwright install --with-deps chromium-headless-shell``, or the system's).
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

import fusiform
from fusiform import open_store

from ..shared import head, heading, save

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
# Window, and how many times slower than this machine's the processor is made.
SEEN = {"desktop": (1280, 1), "phone": (390, 1), "phone, processor four times slower": (390, 4)}
# Until two frames were drawn after what was asked for.
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def options(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, help="stores, and recordings of them")
    parser.add_argument("--repeats", type=int, default=7)


def main(arguments: Namespace) -> None:
    recordings = [path for path in arguments.paths if path.name.endswith(".responses.zarr")]
    stores = [path for path in arguments.paths if path not in recordings]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        started = time.perf_counter()
        fusiform.report(stores, page, recordings=recordings)
        written = time.perf_counter() - started
        lines = [*_head(stores, recordings, arguments.repeats), *_page(page, written)]
        lines += _browser(page, arguments.repeats)
    save(__name__, lines)
    print("\n".join(lines))


def _head(stores: list[Path], recordings: list[Path], repeats: int) -> list[str]:
    units = sum(layer.units for path in stores for layer in open_store(path).layers)
    beside = f" and {len(recordings)} recording" if recordings else ""
    return [
        *heading(__name__, "The report", "r50.zarr r50-untrained.zarr r50.responses.zarr"),
        f"One page of {len(stores)} stores{beside}, {units:,} units together, with 1,000 draws.",
        f"Times in the browser are medians of {repeats} openings of the file in new contexts.",
        "",
    ]


def _page(page: Path, written: float) -> list[str]:
    return [
        "| the page | |",
        "|---|---|",
        f"| written in | {written:.1f} s |",
        f"| size | {page.stat().st_size / 2**20:.2f} MiB |",
        "",
    ]


def _browser(page: Path, repeats: int) -> list[str]:
    rows = [
        *head(
            "seconds until", "all figures are drawn", "a category is chosen", "a threshold is moved"
        ),
    ]
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as running:
        own = Path(running.chromium.executable_path).exists()
        path = None if own else next(filter(None, map(shutil.which, BROWSERS)))
        browser = running.chromium.launch(executable_path=path, args=arguments)
        for name, (width, slower) in SEEN.items():
            times = [_opened(browser, page, width, slower) for _ in range(repeats)]
            middle = [statistics.median(column) for column in zip(*times, strict=True)]
            rows.append(f"| {name} | {' | '.join(f'{seconds:.2f}' for seconds in middle)} |")
        rows += ["", f"Chromium {browser.version}, headless."]
        browser.close()
    return rows


def _opened(browser: Any, page: Path, width: int, slower: int) -> tuple[float, float, float]:
    context = browser.new_context(viewport={"width": width, "height": 844})
    tab = context.new_page()
    context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    started = time.perf_counter()
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-ready]")
    tab.evaluate(DRAWN)
    usable = time.perf_counter() - started
    started = time.perf_counter()
    tab.locator("#choices select").first.select_option("0")
    tab.evaluate(DRAWN)
    chosen = time.perf_counter() - started
    tab.locator("#share label.choice:has(> span:text-is('Criterion')) select").select_option("t")
    tab.evaluate(DRAWN)
    started = time.perf_counter()
    tab.locator("#share input[type=range]").press("ArrowRight")
    tab.evaluate(DRAWN)
    moved = time.perf_counter() - started
    context.close()
    return usable, chosen, moved
