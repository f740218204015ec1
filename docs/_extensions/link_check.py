"""The built pages, checked: local files and anchors exist, and nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Files with links that a page loads when it is opened. An <a> is followed by the reader alone.
_IN_STYLES = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


class Links(NamedTuple):
    """What a page or a style sheet loads, where it leads, and its anchors."""

    loaded: list[str]
    followed: list[str]
    anchors: set[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links = Links([], [], set())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.links.anchors.update(given[name] for name in ("id", "name") if name in given)
        if "src" in given:
            self.links.loaded.append(given["src"])
        if "href" in given:
            followed = tag == "a" or given.get("rel") in ("next", "prev", "search", "index")
            (self.links.followed if followed else self.links.loaded).append(given["href"])
        for one in given.get("srcset", "").split(","):
            self.links.loaded.extend(one.split()[:1])


@cache
def links_of(path: Path) -> Links:
    """Links of a page or a style sheet."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return Links(["".join(found) for found in _IN_STYLES.findall(text)], [], set())
    reader = _Reader()
    reader.feed(text)
    return reader.links


def check(site: Path) -> tuple[int, list[str]]:
    """The number of links in a built site, and a line for each that is broken or leaves it."""
    links_of.cache_clear()
    number, faults = 0, []
    pages = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    for path in sorted([*pages, *site.rglob("*.css")]):
        found = links_of(path)
        for link in (*found.loaded, *found.followed):
            number += 1
            if said := _fault(path, link, link in found.loaded):
                faults.append(f"{path.relative_to(site).as_posix()}: {link}: {said}")
    return number, faults


def _fault(path: Path, link: str, is_loaded: bool) -> str:
    """What is wrong with a link of a file; empty if it is sound."""
    scheme, host, name, _, anchor = urlsplit(link)
    if scheme == "data" or link == "#":
        return ""
    if scheme or host:
        return "loaded from elsewhere" if is_loaded else ""
    target = path.parent / unquote(name) if name else path
    if not target.is_file():
        return "there is no such file"
    is_page = target.suffix == ".html"
    if anchor and is_page and unquote(anchor) not in links_of(target.resolve()).anchors:
        return "there is no such anchor"
    return ""


def _warn(app: Sphinx, error: Exception | None) -> None:
    from sphinx.util.logging import getLogger

    if error is None and app.builder.format == "html":
        for fault in check(Path(app.outdir).resolve())[1]:
            getLogger(__name__).warning(fault)


def setup(app: Sphinx) -> dict[str, bool]:
    """Warn of broken links at the end of a build."""
    app.connect("build-finished", _warn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
