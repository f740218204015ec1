"""The examples of the README and of docs/ run, and their figures equal the measured results.

Pages of ``LESSONS`` are lessons: their commands run in order, in one folder, and must print the
lines that the pages show. Tables of real networks come from benchmarks/results.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_cli import Command, fusiform
from .test_demo import needs_weights

__all__ = ["fusiform"]  # a fixture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LESSONS = [ROOT / "docs" / "tutorial.md", ROOT / "docs" / "explanation" / "criteria.md"]
RESULTS = {
    line
    for path in (ROOT / "benchmarks" / "results").glob("*.md")
    for line in path.read_text().splitlines()
}
# The site's build makes pages in folders of their own.
DOCS = [ROOT / "docs" / name for name in ("index.md", "tutorial.md")]
DOCS += [
    page
    for section in ("how-to", "explanation", "reference")
    for page in sorted((ROOT / "docs" / section).glob("*.md"))
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]


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


def test_the_readmes_python_example_prints_what_it_shows(tmp_path: Path) -> None:
    (code,) = blocks(README, "python")
    (shown,) = [one for one in blocks(README) if "contrast  matching" in one]
    printed = run([code], tmp_path).split()
    for given, said in zip(shown.split(), printed, strict=True):
        # Units at the threshold may differ between machines.
        assert said == given or float(said) == pytest.approx(float(given), rel=0.05)


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


@needs_weights
def test_the_commands_of_lessons_print_what_is_shown(
    fusiform: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = "\n".join(page.read_text() for page in LESSONS)
    for arguments, shown in dialogues(text):
        answer = fusiform(*arguments)
        assert answer.code == 0, answer.err
        printed = iter(f"{answer.err}\n{answer.out}".splitlines())
        for line in shown:
            assert any(is_shown(line, one) for one in printed), (arguments, line, answer)
    assert (tmp_path / "depth.png").stat().st_size > 10_000
    assert "global_pool.pool" in run(blocks(text, "python"), tmp_path)
    assert (tmp_path / "python.png").stat().st_size > 10_000


def dialogues(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Every command ``$ fusiform ...`` of a page: its arguments, and the lines shown below it."""
    for block in blocks(text):
        for one in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = one.replace("\\\n", "").partition("\n")
            program, *arguments = shlex.split(command)
            assert program == "fusiform"
            yield arguments, [line for line in shown.splitlines() if line not in ("", "...")]


def is_shown(shown: str, printed: str) -> bool:
    """Whether a line is as shown, numbers within 2 %: another processor rounds differently."""
    number = r"\d[\d,.]*(?:e-?\d+)?"
    start = shown.removesuffix("...")
    if start != shown:
        return printed.startswith(start)
    if re.sub(number, "", shown) != re.sub(number, "", printed):
        return False
    pairs = zip(re.findall(number, shown), re.findall(number, printed), strict=True)
    return all(_value(one) == pytest.approx(_value(other), rel=0.02, abs=0.02)
               for one, other in pairs)  # fmt: skip


def _value(number: str) -> float:
    return float(number.strip(".,").replace(",", ""))


def test_the_readme_installs_with_two_commands() -> None:
    commands = re.findall(r"^pip install .*", README, flags=re.MULTILINE)
    assert [command.split("#")[0].rstrip() for command in commands] == [
        "pip install '.[demo]' && fusiform demo",
        "pip install -e '.[test]' && pytest -n 2 --dist loadfile",
    ]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("README.md", 12),
        ("docs/how-to/study.md", 40),
        ("docs/explanation/statistics.md", 10),
        ("docs/explanation/criteria.md", 2),
    ],
)
def test_tables_equal_the_committed_results(name: str, count: int) -> None:
    rows = measured(ROOT / name)
    assert len(rows) >= count
    assert not [row for row in rows if row not in RESULTS]


def measured(page: Path) -> list[str]:
    """Rows of measured values: with two or more decimals in output, or quoted as `6.72 (77)`."""
    text = page.read_text()
    lines = [] if page in LESSONS else [line for one in blocks(text) for line in one.splitlines()]
    quoted = re.findall(r"^\|.*\d\.\d\d \(\d+\).*\|$", text, re.MULTILINE)
    return quoted + [line for line in lines if len(re.findall(r"  -?\d+\.\d\d", line)) > 1]


def test_costs_equal_the_committed_results() -> None:
    results = (ROOT / "benchmarks" / "results" / "cost.md").read_text()
    page = (ROOT / "docs" / "explanation" / "memory-and-speed.md").read_text()
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
        for name in re.findall(r"`benchmarks/results/([\w.]+\.(?:md|svg))`", page.read_text()):
            assert (ROOT / "benchmarks" / "results" / name).exists(), (page.name, name)
