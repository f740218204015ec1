"""The examples of the README and of docs/ run, and their figures equal the measured results."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [body for name, body in found if name == language]


def run(code: list[str], folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(code)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_readmes_python_example_runs(tmp_path: Path) -> None:
    code = blocks(README, "python")
    assert len(code) == 1
    assert "layer4.1" in run(code, tmp_path)


def test_the_python_examples_of_how_to_pages_run(tmp_path: Path) -> None:
    """Each page by itself, in one process: the notebook's draws the stimuli and scans the others'.

    Blocks of `py` need what is not here: a cluster, a user's own table.
    """
    pages = sorted((ROOT / "docs" / "how-to").glob("*.md"), key=lambda p: p.stem != "notebook")
    code = {page.name: "\n".join(blocks(page.read_text(), "python")) for page in pages}
    assert len([one for one in code.values() if one]) == 8
    page = "exec(compile({code!r}, {name!r}, 'exec'), {{'__name__': {name!r}}})"
    printed = run([page.format(name=name, code=one) for name, one in code.items()], tmp_path)
    assert "Group: /layer4.1" in printed  # notebook.md
    assert (tmp_path / "words.png").stat().st_size > 10_000  # figures.md
    assert (tmp_path / "set.npz").exists()  # stimuli.md
    assert (tmp_path / "kept.zarr.zip").exists()  # tensors.md
    assert "matched " in printed  # lesions.md
    assert "scenes None" in printed  # training-run.md


def test_the_readme_installs_with_two_commands() -> None:
    commands = re.findall(r"^pip install .*", README, flags=re.MULTILINE)
    assert [command.split("#")[0].rstrip() for command in commands] == [
        "pip install '.[demo]' && fusiform demo",
        "pip install -e '.[test]' && pytest -n 2 --dist loadfile",
    ]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


def test_tables_equal_the_committed_results() -> None:
    results = [
        line
        for name in ("demo", "answers")
        for line in (ROOT / "benchmarks" / "results" / f"{name}.md").read_text().splitlines()
    ]
    lines = [
        line for page in (README, TUTORIAL) for block in blocks(page) for line in block.splitlines()
    ]
    rows = [line for line in lines if len(re.findall(r"  -?\d+\.\d\d", line)) > 1]
    assert len(rows) == 64
    assert not [row for row in rows if row not in results]


def test_costs_equal_the_committed_results() -> None:
    results = (ROOT / "benchmarks" / "results" / "cost.md").read_text()
    page = (ROOT / "docs" / "explanation" / "benchmarks.md").read_text()
    names = {
        "ResNet-50": "torchvision:resnet50",
        "ResNet-18": "torchvision:resnet18",
        "CLIP RN50": "clip:RN50",
        "ViT-B/16": "torchvision:vit_b_16",
    }
    rows = re.findall(r"^\| ([^|,]+)[^|]*\| (\d\.\d\d) \| (\d\.\d\d) \|$", page, re.MULTILINE)
    assert [row[0].strip() for row in rows] == list(names)
    for name, bare, plain in rows:
        measured = r"\| ([\d.]+) of bare, ([\d.]+) of plain"
        found = re.search(rf"\| with .* units \| {names[name.strip()]}, .* {measured}", results)
        assert found
        assert [f"{float(ratio):.2f}" for ratio in found.groups()] == [bare, plain]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_point_to_existing_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = "".join(target)
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), link
        assert not anchor or anchor in headings(found.read_text()), link


def headings(text: str) -> set[str]:
    """Anchors of a page as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_named_in_pages_exists(page: Path) -> None:
    """Files as `engine/spec.py`, and functions that follow as in `engine/spec.py`: `Design`."""
    named = r"`((?:\w+/)*\w+\.py)`(: (?:`[A-Za-z_.]+`(?:, )?)+)?"
    for file, names in re.findall(named, re.sub(r"\s+", " ", page.read_text())):
        found = [ROOT / file] if "/" in file else list(ROOT.glob(f"**/{file}"))
        assert any(path.exists() for path in found), file
        for name in re.findall(r"`([A-Za-z_.]+)`", names):
            text, own = found[0].read_text(), name.rpartition(".")[2]
            defined = rf"^\s*(def {own}|class {own}|{own}\b.*=)"
            assert re.search(defined, text, re.MULTILINE), (file, name)


def test_results_named_in_pages_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`\.\./benchmarks/results/([\w.]+\.(?:md|svg))`", page.read_text()):
            assert (ROOT / "benchmarks" / "results" / name).exists(), (page.name, name)
