"""A small scan and recording that write every kind of file, for kill and disk tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fusiform.engine import waiting
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.store import chunking

from .. import flat


class Net(nn.Module):
    """A small network with a layer of each kind of shape."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.body(images)).flatten(1))


def scan(stimuli: Path, output: Path, listener: Listener | None = None) -> Path:
    """Scan with a null, committing after every batch; files hold one, two and all groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "_MOMENT_VALUES", 300)
        store = flat.scan(
            Net(), stimuli, output, layers=["body", "pool", "head"], batch_size=8, null=2,
            null_units=9, preprocessing=Preprocessing(40, 32), commit_every=0, decode_workers=2,
            progress=listener or Listener(),
        )  # fmt: skip
    return Path(store.path)


def record(stimuli: Path, output: Path, listener: Listener | None = None) -> Path:
    """Record with two layers projected, in files of a few rows, committing after every batch."""
    chunking._RESPONSE_FILE_VALUES, chunking._MIN_ROWS = 1, 7
    found = flat.record(
        Net(), stimuli, output, layers=["body", "pool", "head"], batch_size=8, random=100,
        project=40, preprocessing=Preprocessing(40, 32), commit_every=0, decode_workers=2,
        progress=listener or Listener(),
    )  # fmt: skip
    return Path(found.path)


def contents(store: Path) -> dict[str, Any]:
    """Bytes of every file of a store or recording by name, without the creation time."""
    files: dict[str, Any] = {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
    root = json.loads(files["zarr.json"])
    root["attributes"].pop("created")
    files["zarr.json"] = json.dumps(root)
    return files
