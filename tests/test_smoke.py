"""Every command once, in one process, and every public name: the minimum for any machine.

``pytest -m smoke`` runs this and a test of each package in minutes; ``.ci/run`` runs it on the
newest Python, with the lowest libraries, and on a bare machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import fusiform
from fusiform import cli

from . import flat, one_process

pytestmark = pytest.mark.smoke

SMALL = "--weights none --resize 64 --crop 64 --device cpu -q"
# In this order, in one folder: each command uses the outputs of earlier ones.
WALK = f"""
stimuli make made --per-category 6 --size 64
stimuli check made
stimuli scramble made/faces -o scrambled
stimuli pack made -o packed --resize 64 --crop 64
demo demo --per-category 4
layers resnet18
plan resnet18 made -o a.zarr --layers layer4.1,avgpool --null 5 {SMALL}
scan resnet18 made -o a.zarr --layers layer4.1,avgpool --null 5 {SMALL}
scan resnet18 packed -o b.zarr --layers layer4.1,avgpool --seed 1 {SMALL}
scan resnet18 made -o c.zarr --layers layer3.1 --workers 2 {SMALL}
scan resnet18 made -o half.zarr --groups made.toml --layers avgpool {SMALL}
scan resnet18 made -o rest.zarr --groups b=bodies --groups s=scenes --layers avgpool {SMALL}
merge half.zarr rest.zarr -o merged.zarr
check a.zarr b.zarr c.zarr merged.zarr
info a.zarr
archive a.zarr -o a.zarr.zip
check a.zarr.zip
summary a.zarr --wide
summary a.zarr b.zarr --contrast words,faces>bodies
summary a.zarr b.zarr -o summary.csv
analyse a.zarr --agreement floc,prince2024 --resamples 20
analyse a.zarr --resamples 20 -o analysis.parquet
select a.zarr --contrast words --where csi>0 --save words
summary a.zarr --preset alkhamissi2025
select a.zarr --test glm --where t>3
query a.zarr t>0 --list --format csv -o query.csv
query a.zarr.zip t>0 --list --format parquet -o query.parquet
record --from a.zarr --top 5 -o recording.zarr --device cpu -q
lesion --from a.zarr --contrast words --layers layer4.1 --where p<0.05 --draws 1 --device cpu -q
responses recording.zarr auc
responses recording.zarr tuning -o tuning.csv
responses recording.zarr layers --similarity cka_unbiased
responses recording.zarr rdm -o matrices.npz
compare a.zarr b.zarr --pairing depth --resamples 20
compare a.zarr b.zarr --at 0,1 --against previous --resamples 20
compare a.zarr b.zarr --resamples 20 -o compared.json
compare a.zarr a.zarr --localizers --categories words,faces=bodies,bodies=faces --resamples 20
compare a.zarr a.zarr --localizers --resamples 20 -o localizers.csv
compare a.zarr b.zarr --roi regions.csv --control-units --rearrangements 20
compare recording.zarr --roi images.csv --rearrangements 20 -o correlated.csv
plot a.zarr b.zarr --where t>1 --measures share,csi --resamples 20
plot a.zarr --kind overlap --test rest --layers layer4.1 -o overlap.svg
report a.zarr b.zarr --at 0,1 --roi regions.csv --resamples 20 -o results.html
report a.zarr b.zarr --recording recording.zarr --resamples 20 --figures figures -o report.html
doctor -o .
bench --parts kernels --array-units 10000 --batch-sizes 8 --repeats 1
"""


def commands(app: typer.Typer, before: str = "") -> Iterator[str]:
    """Names of all commands; those in groups follow the group's name."""
    for command in app.registered_commands:
        yield f"{before}{command.name or getattr(command.callback, '__name__', '')}"
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{before}{group.name} ")


def test_the_smoke_test_covers_every_command() -> None:
    lines = WALK.strip().splitlines()
    for name in commands(cli.app):
        assert any(line.startswith(f"{name} ") for line in lines), name


def test_every_command_runs(tmp_path: Path) -> None:
    (tmp_path / "made.toml").write_text('[groups]\nfaces = "faces"\nwords = ["words"]\n')
    for name, key, items in (
        ("regions", "category", ("faces", "bodies", "scenes", "words")),
        ("images", "stimulus", [f"faces-{i}" for i in range(1, 7)]),
    ):
        rows = [f"FFA,{item},{number % 4}" for number, item in enumerate(items)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"region,{key},response", *rows]))
    codes, said = one_process.run(WALK, tmp_path, CUDA_VISIBLE_DEVICES="")
    assert codes == [f"exit 0 {line}" for line in WALK.strip().splitlines()], said
    assert "Traceback" not in said, said
    assert "Warning" not in said, said
    assert (tmp_path / "query.csv").read_text().count("\n") > 1000
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "figures").glob("*.pdf"))) > 3


def test_every_public_name_exists() -> None:
    for name in fusiform.__all__:
        assert getattr(fusiform, name).__doc__, name


INTEGERS = '''
import torch
from torch import nn
from fusiform import Preprocessing


class Integers(nn.Module):
    """Whole numbers of at most 2**20, so that no library can round differently."""

    def __init__(self):
        super().__init__()
        self.whole = nn.Conv2d(3, 5, 3, stride=2, bias=False)
        weights = torch.arange(3 * 5 * 9).reshape(5, 3, 3, 3) * 7919 % 31 - 15
        self.whole.weight = nn.Parameter(weights.float())

    def forward(self, x):
        return self.whole((x * 255).round())


def make():
    return Integers(), Preprocessing(resize=16, crop=16, mean=(0, 0, 0), std=(1, 1, 1))
'''
# From x86-64 with Python 3.11, zarr 3.1.6 and torch 2.14.1; the same everywhere.
DIGEST = "1fe82d81918fa3ac35542fa344b096dc572c2efe540fbc85313ced0a12a31a8e"


def test_a_store_has_the_same_bits_on_every_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "integers.py").write_text(INTEGERS)
    monkeypatch.syspath_prepend(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 16, 16, 3), np.uint8)
    for category, images in zip("abc", pixels, strict=True):
        (tmp_path / "stimuli" / category).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "stimuli" / category / f"{number}.png")
    store = flat.scan(
        "integers:make", tmp_path / "stimuli", tmp_path / "i.zarr", layers=["whole"], device="cpu"
    )
    (layer,) = store.layers
    digest = hashlib.sha256()
    for variable in ("mean", "m2", "t", "csi", "t_each", "q_each"):
        values = np.ascontiguousarray(store.read(layer, variable))
        digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == DIGEST
