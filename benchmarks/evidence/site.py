"""The site: its size, the time to build it, its links, and whether search finds an answer.

Builds the site of the last commit and opens its pages as files in a Chromium, on a desktop and on a
phone. Needs the extra ``docs``, and a Chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from fusiform.engine.texts import in_bytes

from ..shared import clocked, files_of, head, heading, row, save
from .demo import BROWSERS

ROOT = Path(__file__).parents[2]
WIDTHS = {"desktop": 1280, "phone": 390}
# A newcomer's words, and the pages of which one must be among the first three that are found.
QUESTIONS = {
    "own network": ("how-to/networks",),
    "memory": ("how-to/larger-scans", "explanation/memory-and-speed"),
    "replicated": ("tutorial", "reference/definitions", "reference/glossary"),
    "brain regions": ("how-to/brain-regions",),
    "resume": ("explanation/reliability", "how-to/trouble"),
    "face-selective units": ("tutorial",),
}
FOUND = "#search-results ul.search > li > a:first-of-type"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        clone, site = Path(name, "fusiform"), Path(name, "site")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        seconds = clocked(_build, clone, site)
        again = clocked(_build, clone, site)
        links, faults = _checked(clone, site)
        assert not faults, "\n".join(faults)
        examples = _examples(site)
        with _browser() as browser:
            opened = _opened(browser, site)
            found = {question: _search(browser, site, question) for question in QUESTIONS}
        pages, files = len(_pages(site)), files_of(site)
    for question, answers in found.items():
        assert set(answers) & set(QUESTIONS[question]), f"{question} finds {answers}"
    save(
        __name__,
        [
            *heading(__name__, "The site"),
            "",
            f"{pages} pages, {len(files)} files of {in_bytes(sum(files))}. Built in "
            f"{seconds:.0f} s, warnings being errors, {sum(examples.values()):.0f} s of them for "
            f"{len(examples)} scripts of the gallery; again, without a change, in {again:.0f} s.",
            f"{links:,} links lead to files and anchors that exist; nothing is loaded from "
            "elsewhere.",
            "",
            *head("opened as files", "pages", "requests", "to elsewhere", "wider than the window"),
            *(row(name, pages, *counts) for name, counts in opened.items()),
            "",
            *head("script", "seconds"),
            *(row(name, f"{spent:.1f}") for name, spent in examples.items()),
            "",
            *head("words typed into the search", "the first pages found"),
            *(row(words, ", ".join(pages)) for words, pages in found.items()),
        ],
    )


def _build(clone: Path, site: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", clone / "docs", site]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(clone.parent)})


def _checked(clone: Path, site: Path) -> tuple[int, list[str]]:
    """The number of links, and those that are broken."""
    sys.path.insert(0, str(clone / "docs" / "_extensions"))
    from link_check import check

    return check(site)


def _pages(site: Path) -> list[Path]:
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def _examples(site: Path) -> dict[str, float]:
    """Seconds of the gallery's scripts."""
    took = r"running time of the script:</strong> \((\d+) minutes ([\d.]+) seconds\)"
    pages = sorted(site.glob("gallery/*.html"))
    found = {path.stem: re.search(took, path.read_text()) for path in pages}
    return {name: 60 * int(one[1]) + float(one[2]) for name, one in found.items() if one}


@contextmanager
def _browser() -> Iterator[Any]:
    with sync_playwright() as running:
        own = Path(running.chromium.executable_path).exists()
        browser = running.chromium.launch(
            executable_path=None if own else next(filter(None, map(shutil.which, BROWSERS))),
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield browser
        browser.close()


def _opened(browser: Any, site: Path) -> dict[str, tuple[int, int, int]]:
    """By width: requests, those that leave the site, and pages wider than the window."""
    counts = {}
    for name, width in WIDTHS.items():
        tab = browser.new_page(viewport={"width": width, "height": 900})
        requests: list[str] = []
        tab.on("request", lambda one, seen=requests: seen.append(one.url))
        wide = 0
        for page in _pages(site):
            tab.goto(page.as_uri())
            wide += tab.evaluate("document.documentElement.scrollWidth > innerWidth")
        outside = [url for url in requests if not url.startswith((site.as_uri(), "data:"))]
        counts[name] = len(requests), len(outside), wide
        tab.close()
    return counts


def _search(browser: Any, site: Path, words: str) -> list[str]:
    """The first three pages that the search of the home page finds."""
    tab = browser.new_page(viewport={"width": WIDTHS["desktop"], "height": 900})
    tab.goto((site / "index.html").as_uri())
    tab.keyboard.press("Control+k")
    tab.keyboard.type(words)
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".search-summary:has-text('found')")
    links = tab.eval_on_selector_all(FOUND, "all => all.map(one => one.pathname)")
    tab.close()
    pages = [Path(link).relative_to(site).with_suffix("").as_posix() for link in links]
    return list(dict.fromkeys(pages))[:3]
