"""Strict JSON: no NaN, and infinities distinct from missing values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.engine.values import as_json

from . import flat

ROOT = Path(__file__).parents[1]


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"no JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


def test_infinities_have_names_and_nan_is_null() -> None:
    value = {
        "t": np.array([1.5, np.inf, -np.inf, np.nan], np.float32),
        "deep": [{"x": (float("inf"), None, True, 3, "Infinity")}],
        "scalar": np.float64("-inf"),
    }
    read = strict(as_json(value))
    assert read == {
        "t": [1.5, "Infinity", "-Infinity", None],
        "deep": [{"x": ["Infinity", None, True, 3, "Infinity"]}],
        "scalar": "-Infinity",
    }
    assert float(read["t"][1]) == float("inf")


def test_all_json_is_written_by_one_function() -> None:
    files = [path for room in ("commands", "engine") for path in (ROOT / room).rglob("*.py")]
    files.append(ROOT / "cli.py")
    writing = {str(path.relative_to(ROOT)) for path in files
               if re.search(r"json\.dumps?\(", path.read_text())}  # fmt: skip
    # A store's own metadata, and the page's block, which refuses unnamed values.
    own = {"engine/scanning/pack.py", "engine/recording/earlier_scan.py",
           "engine/store/writing/creating.py", "engine/store/writing/commits.py",
           "engine/store/identity.py", "engine/store/writing/documents.py",
           "engine/networks/behaviour.py", "engine/beside.py"}  # fmt: skip
    own |= {"engine/stimuli/apart.py"}  # texts for a subprocess
    assert writing - own == {"engine/values.py", "engine/reporting/embedding.py"}


class Sharp(nn.Module):
    """Units whose t is infinite, minus infinite, NaN or finite for grey values 0, 50 and 100."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        v = (images[:, 0, 0, 0] * 255).round()
        first = (torch.div(v, 50, rounding_mode="floor") == 0) * 1.0
        nan = torch.where(v == 1, torch.nan, v)
        huge = torch.where(v == 101, torch.inf, v)
        return self.units(torch.stack([first, -first, nan, v, huge], 1))


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``a.zarr``, ``b.zarr`` and the recording ``r.zarr`` of such a network."""
    root = tmp_path_factory.mktemp("sharp")
    for k, category in enumerate(("faces", "places", "tools")):
        (root / "st" / category).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (8, 8), (50 * k + i, 0, 0)).save(root / f"st/{category}/{i}.png")
    plain = fusiform.Preprocessing(8, 8, "nearest", mean=(0, 0, 0), std=(1, 1, 1))
    for name in ("a.zarr", "b.zarr"):
        flat.scan(Sharp(), root / "st", root / name, layers="units", preprocessing=plain)
    flat.record(Sharp(), root / "st", root / "r.zarr", store=root / "a.zarr")
    return root


def given(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.chdir(folder)
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.mark.parametrize("columns", ["t", "t_each", "d_prime"])
def test_the_most_selective_unit_has_a_value(
    sharp: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    asked = ("query", "a.zarr", "faces:", "--list", "--columns", columns, "--format", "json")
    rows = {row["unit"]: row[columns] for row in strict(given(sharp, monkeypatch, *asked))}
    assert rows[0] == "Infinity"
    assert rows[1] == "-Infinity"
    assert rows[2] is None  # NaN among its responses
    assert isinstance(rows[3], float)
    assert rows[4] is None


@pytest.mark.parametrize(
    "command",
    [
        "summary a.zarr b.zarr --format json", "select a.zarr --contrast faces --format json",
        "analyse a.zarr --resamples 20 --format json", "info a.zarr --json",
        "compare a.zarr b.zarr --resamples 20 --format json", "info r.zarr --json",
        "responses r.zarr units --format json", "responses r.zarr best --format json",
        "responses r.zarr auc --format json", "responses r.zarr tuning --format json",
        "responses r.zarr ceiling --format json",
        "stimuli check st --json", "layers resnet18 --crop 64 --json",
        "query a.zarr t>0 --quantiles t --format json",
        "query a.zarr t>0 --top 3 --format json",
    ],
)  # fmt: skip
def test_every_command_gives_strict_json(
    sharp: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert strict(given(sharp, monkeypatch, *command.split()))


def test_infinite_responses_are_named_in_recordings_and_reports(
    sharp: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = ("responses", "r.zarr", "tuning", "--format", "json")
    category = fusiform.open_recording(sharp / "r.zarr").categories[2]
    tuned = {
        row["quantity"]: row["value"]
        for row in strict(given(sharp, monkeypatch, *asked))
        if (row["category"], row["unit"], row["fold"]) == (category, 4, None)
    }
    assert tuned == {"mean": "Infinity", "sd": None}
    page = tmp_path / "page.html"
    fusiform.report(sharp / "a.zarr", page, recordings=sharp / "r.zarr", resamples=5)
    block = re.search(r'id="findings">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert block
    assert strict(block[1])["stores"][0]["tables"]


def test_common_table_readers_get_the_numbers_back(
    sharp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    asked = ("query", "a.zarr", "faces:", "--list", "--columns", "t", "--format", "json")
    frame = pandas.DataFrame(strict(given(sharp, monkeypatch, *asked)))
    assert frame["t"].astype(float).max() == np.inf
