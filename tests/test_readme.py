"""The README's commands, examples and tables are correct."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_readmes_python_examples_run(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "layer4.1 faces" in result.stdout
    assert "Group: /layer4.1" in result.stdout


def test_the_readme_installs_with_two_commands() -> None:
    commands = re.findall(r"^pip install .*", README, flags=re.MULTILINE)
    assert [command.split("#")[0].rstrip() for command in commands] == [
        "pip install . && fusiform demo",
        "pip install -e '.[test]' && pytest",
    ]


def test_the_readmes_tables_equal_the_committed_results() -> None:
    results = [
        line
        for name in ("first_light", "queries", "answers")
        for line in (ROOT / "benchmarks" / "results" / f"{name}.md").read_text().splitlines()
    ]
    blocks = re.findall(r"^```\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    rows = [line for line in lines if len(re.findall(r"  -?\d+\.\d\d", line)) > 1]
    assert len(rows) == 55
    assert not [row for row in rows if row not in results]


def test_the_readmes_costs_equal_the_committed_results() -> None:
    results = (ROOT / "benchmarks" / "results" / "cost.md").read_text()
    names = {
        "ResNet-50": "torchvision:resnet50",
        "ResNet-18": "torchvision:resnet18",
        "CLIP RN50": "clip:RN50",
        "ViT-B/16": "torchvision:vit_b_16",
    }
    rows = re.findall(r"^\| ([^|,]+)[^|]*\| (\d\.\d\d) \| (\d\.\d\d) \|$", README, re.MULTILINE)
    assert [row[0].strip() for row in rows] == list(names)
    for name, bare, plain in rows:
        measured = r"\| ([\d.]+) of bare, ([\d.]+) of plain"
        found = re.search(rf"\| with .* units \| {names[name.strip()]}, .* {measured}", results)
        assert found
        assert [f"{float(ratio):.2f}" for ratio in found.groups()] == [bare, plain]
