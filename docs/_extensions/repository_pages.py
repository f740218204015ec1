"""Pages of files outside docs/, and links to files that pages name in backticks."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.logging import getLogger

if TYPE_CHECKING:
    from sphinx.application import Sphinx

logger = getLogger(__name__)
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
# A page of the site, and the file of the repository that it shows.
SHOWN = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
# Headings of the index of measurements, by the theme of their benchmark.
THEMES = {
    "evidence": "Findings and checks",
    "kernels": "Cost",
    "scan": "Parts of a scan",
    "queries": "Questions to a store",
    "contrasts": "Contrasts",
    "scale": "Scale",
    "gpu": "GPUs",
    "": "Fuzzers and machines",
}
# Files in backticks, by the pages that show them; an anchor may follow the first kind.
NAMED = (
    (r"docs/([\w/-]+)\.md", "{}"),
    (r"benchmarks/results/(\w+)\.md", "measurements/{}"),
    (r"benchmarks/results/()", "measurements/index"),
    (r"examples/(\w+)\.py", "gallery/{}"),
    (r"examples/?()", "gallery/index"),
    *((re.escape(file), page) for page, file in SHOWN.items()),
)


def write_pages(app: Sphinx) -> None:
    """Write the pages, where they have changed."""
    docs, pages = Path(app.srcdir), {}
    for page, file in SHOWN.items():
        pages[f"{page}.md"] = (ROOT / file).read_text().replace("](docs/", "](")
    results = {path.stem: path.read_text() for path in sorted(RESULTS.glob("*.md"))}
    pages |= {f"measurements/{name}.md": text for name, text in results.items()}
    pages |= {f"measurements/{path.name}": path.read_text() for path in RESULTS.glob("*.svg")}
    pages["measurements/index.md"] = "\n".join(_index(results))
    (docs / "measurements").mkdir(exist_ok=True)
    for old in (docs / "measurements").iterdir():
        if f"measurements/{old.name}" not in pages:
            old.unlink()
    for name, text in pages.items():
        if not (docs / name).exists() or (docs / name).read_text() != text:
            (docs / name).write_text(text)


def _index(results: dict[str, str]) -> Iterator[str]:
    """The results by theme, each with the first line of its benchmark's docstring."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.__main__ import benchmarks

    sys.path.remove(str(ROOT))
    theme_of, said_of = {}, {}
    for benchmark, said in benchmarks().items():
        theme, _, name = benchmark.partition(".")
        theme_of[name], said_of[name] = theme, said
    yield "# Measurements\n\nEach page begins with the command that made it.\n"
    for theme, heading in THEMES.items():
        yield f"## {heading}\n"
        for name, text in results.items():
            if theme_of.get(name, theme_of.get(name.partition("_")[0], "")) == theme:
                title = text.partition("\n")[0].removeprefix("# ")
                said = f": {said_of[name]}" if name in said_of else ""
                yield f"- [{title}]({name}.md){said}"
        yield ""
    yield "```{toctree}\n:hidden:\n:glob:\n\n*\n```"


def redirect_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead links out of docs/, as in `](../../CHANGELOG.md)`, to the pages of these files."""

    def led(link: re.Match[str]) -> str:
        file = (Path(app.srcdir) / page).parent.joinpath(link[1]).resolve()
        found = _target(file.relative_to(ROOT).as_posix()) if file.is_relative_to(ROOT) else None
        return f"](/{found[0]}" if found and not file.is_relative_to(app.srcdir) else link[0]

    source[0] = re.sub(r"\]\((\.\./[\w./-]+)", led, source[0])


def link_named_files(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Turn `docs/reference/store.md#urls` in backticks into a link to that page, by its title."""
    for literal in list(doctree.findall(nodes.literal)):
        target = _target(literal.astext())
        if target is None or isinstance(literal.parent, nodes.reference):
            continue
        shown, anchor = target
        if shown in app.env.found_docs:
            uri = app.builder.get_relative_uri(page, shown) + _id(app.env, shown, anchor)
            own = literal.astext().startswith("docs/")
            said = nodes.Text(app.env.titles[shown].astext()) if own else literal.deepcopy()
            literal.replace_self(nodes.reference("", "", said, refuri=uri))
        elif page != "changelog":  # which names pages of the past
            logger.warning("%s is no page of the site", literal.astext(), location=literal)


def _target(text: str) -> tuple[str, str] | None:
    """The page that shows a file, and an anchor in it."""
    name, _, anchor = text.partition("#")
    for pattern, page in NAMED:
        if found := re.fullmatch(pattern, name):
            return page.format(*found.groups()), anchor
    return None


def _id(env: Any, page: str, anchor: str) -> str:
    """The fragment of an anchor as GitHub makes it; the top of the page if it has none such."""
    slugs = env.metadata[page].get("myst_slugs", {})
    return f"#{slugs[anchor][1]}" if anchor in slugs else ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Write pages before Sphinx looks for them, and link when all are read."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", redirect_links)
    app.connect("doctree-resolved", link_named_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
