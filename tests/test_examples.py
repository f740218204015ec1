"""The gallery's scripts: the site runs each of them; here they are read, and two are run alone."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
# How a script takes the store of others, and makes it if it runs first.
SHARED = """
stimuli = Path("gallery-data/stimuli")
trained = Path("gallery-data/trained.zarr")
if not stimuli.exists():
    fusiform.make_stimuli(stimuli, per_category=32, size=128)
if not trained.exists():
    small = {"resize": 128, "crop": 128}
    network = Network("demo:efficientnet_lite0", preprocessing=small)
    fusiform.scan(network, stimuli, trained)
"""


def test_the_gallery_has_its_scripts() -> None:
    assert len(SCRIPTS) >= 12
    assert (ROOT / "examples" / "GALLERY_HEADER.rst").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_a_page_of_the_gallery(script: Path) -> None:
    text = script.read_text()
    code = compile(text, script.name, "exec", ast.PyCF_ONLY_AST)
    said = ast.get_docstring(code) or ""
    title, line, empty, question = said.split("\n", 3)
    assert line == "=" * len(title)
    assert not empty
    assert "?" in question or "." in question
    assert text.count("\n# %%\n") >= 3
    assert "plt.show()\n" in text
    assert "print(" in text
    # A reader copies it into a notebook.
    assert not re.search(r"argparse|__main__|sys\.argv", text)
    # Files lie where .gitignore and the gallery's head say.
    assert set(re.findall(r'Path\("([\w-]+)', text)) <= {"gallery-data"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_links_of_an_example_lead_to_pages(script: Path) -> None:
    for name in re.findall(r":doc:`([^`]+)`", script.read_text()):
        if name.startswith("/"):
            assert list((ROOT / "docs").glob(f"{name[1:]}.*")), name
        else:
            assert (script.parent / f"{name}.py").exists(), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_makes_what_it_shares_with_others_in_the_same_way(script: Path) -> None:
    text = script.read_text()
    assert SHARED in text or '"gallery-data/trained.zarr"' not in text
    for made in re.findall(r"make_stimuli\((.*)\)", text):
        assert "per_category=32, size=128" in made
    for resized in re.findall(r"{\"resize.*}", text):
        assert script.stem == "own_network" or resized == '{"resize": 128, "crop": 128}'


@pytest.mark.slow
def test_examples_run_outside_the_site(tmp_path: Path) -> None:
    """Alone, and with the store of the first."""
    for name, said in {
        "brain_regions": r"face region: r 0\.\d\d",
        "maps": r"faces +Moran's I",
    }.items():
        result = subprocess.run(
            [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py")],
            cwd=tmp_path,
            env={**os.environ, "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert re.search(said, result.stdout), result.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["gallery-data"]
