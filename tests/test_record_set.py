"""A recording from a scan shows the scan's stimuli in the scan's categories."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform import UserError
from fusiform.cli import app
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.stimuli.images import natural_key
from fusiform.engine.values import as_record

from . import flat

SMALL = fusiform.Preprocessing(resize=16, crop=16)
GROUPS = {"beings": ["adult", "child"], "places": ["corridor", "deep/house"]}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 4, 5, stride=3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


@pytest.fixture
def stimuli(tmp_path: Path, draw_stimuli: Callable[..., Path]) -> Path:
    """A set with more folders than the groups name, one nested, one empty."""
    drawn = draw_stimuli(tmp_path / "drawn", each=10)
    places = {"blobs": ("adult", "child"), "noise": ("corridor", "deep/house"),
              "stripes": ("car", "limb")}  # fmt: skip
    root = tmp_path / "stimuli"
    for category, folders in places.items():
        for number, path in enumerate(sorted((drawn / category).iterdir())):
            place = root / folders[number % 2] / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    return root


def scanned(stimuli: Path, output: Path, **options: Any) -> fusiform.Store:
    options = {"groups": GROUPS, "preprocessing": SMALL, "layers": "body", **options}
    return flat.scan(Net(), stimuli, output, **options)


def recorded(stimuli: Path, output: Path, store: Any, **options: Any) -> fusiform.Recording:
    return flat.record(Net(), stimuli, output, store=store, **options)


def table(root: Any) -> dict[str, tuple[str, int, str]]:
    """Category, fold and SHA-256 by path."""
    columns = (
        root.stimulus_column(f"stimulus_{n}").tolist()
        for n in ("path", "category", "fold", "sha256")
    )
    return {
        path: (root.categories[k], fold, sha) for path, k, fold, sha in zip(*columns, strict=True)
    }


def by_content(root: Any) -> dict[str, tuple[str, int]]:
    return {sha: (category, fold) for category, fold, sha in table(root).values()}


def test_a_recording_shows_the_scans_stimuli_in_its_categories(
    stimuli: Path, tmp_path: Path
) -> None:
    store = scanned(stimuli, tmp_path / "s.zarr")
    notes: list[str] = []
    found = recorded(stimuli, tmp_path / "r.zarr", store, progress=Listener(notes.append))
    assert found.categories == store.categories == ("beings", "places")
    assert table(found) == table(store)
    assert found.counts.tolist() == store.counts.tolist()
    assert found.provenance.get("notes", []) == store.provenance.get("notes", [])
    # so mean responses equal the scan's means
    layer = store.layer("body")
    rows = found.rows_of((0,))
    mean = store.dataset("body")["mean"].values  # category, fold, ...
    whole = np.average(mean[0], axis=0, weights=store.counts[0])
    responses = found.part("body")[rows].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(responses, whole.ravel()[found.units("body")], atol=1e-5)
    assert layer.units == len(responses)


def test_files_added_since_the_scan_are_left_out_and_noted(stimuli: Path, tmp_path: Path) -> None:
    store = scanned(stimuli, tmp_path / "s.zarr")
    shutil.copy(stimuli / "car" / next((stimuli / "car").iterdir()).name, stimuli / "adult/aa.png")
    (stimuli / "new").mkdir()
    shutil.copy(stimuli / "adult/aa.png", stimuli / "new/1.png")
    notes: list[str] = []
    found = recorded(stimuli, tmp_path / "r.zarr", store, progress=Listener(notes.append))
    assert table(found) == table(store)
    (said,) = found.provenance["notes"]
    assert said == "1 that the scan did not show are left out (adult/aa.png)"
    assert said in notes
    assert fusiform.info(tmp_path / "r.zarr").attributes["notes"] == [said]


def _changed(stimuli: Path) -> str:
    first, second = sorted((stimuli / "adult").iterdir())[:2]
    shutil.copy(second, first)
    return f"1 of 20 of .s.zarr have changed in stimuli (adult/{first.name}): restore"


def _gone(stimuli: Path) -> str:
    inside = sorted((stimuli / "deep/house").iterdir(), key=lambda path: natural_key(path.name))
    for path in (gone := inside[:2]):
        path.unlink()
    names = ", ".join(f"deep/house/{path.name}" for path in gone)
    return f"2 of 20 of .s.zarr are not in stimuli ({names}): restore"


def _folder_gone(stimuli: Path) -> str:
    shutil.rmtree(stimuli / "child")
    return "5 of 20 of .s.zarr are not in stimuli (child/"


@pytest.mark.parametrize("change", [_changed, _gone, _folder_gone])
def test_recording_missing_or_changed_stimuli_raises(
    stimuli: Path, tmp_path: Path, change: Callable[[Path], str]
) -> None:
    store = scanned(stimuli, tmp_path / "s.zarr")
    said = change(stimuli)
    with pytest.raises(UserError) as refused:
        recorded(stimuli, tmp_path / "r.zarr", store)
    told = str(refused.value).replace(f"{tmp_path}/stimuli", "stimuli")
    assert said in told.replace(f"{tmp_path}/", ".")
    assert not list(tmp_path.glob("r.zarr*"))


def test_another_set_is_recorded_in_the_scans_groups_and_noted(
    stimuli: Path, tmp_path: Path
) -> None:
    store = scanned(stimuli, tmp_path / "s.zarr")
    for path in stimuli.rglob("*.png"):  # other pictures with the same names, and one more
        with Image.open(path) as picture:
            picture.transpose(Image.Transpose.ROTATE_90).save(path)
    shutil.copy(next((stimuli / "car").iterdir()), stimuli / "adult/more.png")
    found = recorded(stimuli, tmp_path / "r.zarr", store, random=2)
    assert found.categories == store.categories
    assert table(found).keys() == table(store).keys() | {"adult/more.png"}
    (said,) = found.provenance["notes"]
    assert said.startswith("21 of 21 stimuli are none of the scan's (adult/")
    for folder in ("adult", "child", "corridor", "deep"):
        shutil.rmtree(stimuli / folder)
    found = recorded(stimuli, tmp_path / "own.zarr", store, random=2)
    assert found.categories == ("car", "limb")
    (said,) = found.provenance["notes"]
    assert said.endswith("; categories are car, limb; the scan had beings, places")


def test_given_groups_override_the_scans_and_are_noted(stimuli: Path, tmp_path: Path) -> None:
    store = scanned(stimuli, tmp_path / "s.zarr")
    groups = {"adults": "adult", "cars": "car"}
    found = recorded(stimuli, tmp_path / "r.zarr", store, groups=groups, random=2)
    assert found.categories == ("adults", "cars")
    assert {path.split("/")[0] for path in table(found)} == {"adult", "car"}
    (said,) = found.provenance["notes"]
    assert said.startswith("5 of 10 stimuli are none of the scan's (car/")
    assert said.endswith("; categories are adults, cars; the scan had beings, places")


def _as_manifest(stimuli: Path, folder: Path) -> Path:
    with (folder / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "category"])
        for path in sorted(stimuli.rglob("*.png")):
            rows.writerow([path, path.parent.relative_to(stimuli).as_posix()])
    return folder / "list.csv"


def _as_shards(stimuli: Path, folder: Path) -> Path:
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards/0.tar", "w") as tar:
        for path in sorted(stimuli.rglob("*.png")):
            tar.add(path, f"{path.parent.name}/{path.name}")
    return folder / "shards"


def _as_packed(stimuli: Path, folder: Path) -> Path:
    folders = {"adult": "adult", "child": "child", "corridor": "corridor", "house": "deep/house",
               "car": "car"}  # fmt: skip
    flat.pack_stimuli(stimuli, folder / "packed", preprocessing=as_record(SMALL),
                          groups=folders)  # fmt: skip
    return folder / "packed"


@pytest.mark.parametrize("other", [_as_manifest, _as_shards, _as_packed])
def test_the_same_stimuli_are_found_in_a_set_of_another_kind(
    stimuli: Path, tmp_path: Path, other: Callable[[Path, Path], Path]
) -> None:
    source = other(stimuli, tmp_path)
    of_folders = scanned(stimuli, tmp_path / "s.zarr")
    found = recorded(source, tmp_path / "r.zarr", of_folders)
    assert found.categories == of_folders.categories
    assert by_content(found) == by_content(of_folders)
    house = "deep/house" if other is _as_manifest else "house"
    groups = {"beings": ["adult", "child"], "places": ["corridor", house]}
    own = scanned(source, tmp_path / "own.zarr", groups=groups)
    assert table(recorded(source, tmp_path / "own.r.zarr", own)) == table(own)
    if other is _as_shards:  # its names are not nested
        (stimuli / "deep/house").rename(stimuli / "house")
        (stimuli / "deep").rmdir()
    if other is not _as_manifest:  # it names files by their original paths
        back = recorded(stimuli, tmp_path / "back.r.zarr", own)
        assert by_content(back) == by_content(own)


def test_recording_after_a_scan_with_skipped_stimuli_keeps_the_folds(
    stimuli: Path, tmp_path: Path
) -> None:
    (stimuli / "adult/bad.png").write_text("no image")
    store = scanned(stimuli, tmp_path / "s.zarr", on_error="skip")
    with pytest.raises(UserError, match='`on_error="skip"` leaves them out'):
        recorded(stimuli, tmp_path / "r.zarr", store)
    found = recorded(stimuli, tmp_path / "r.zarr", store, on_error="skip")
    assert table(found) == table(store)
    assert found.counts.tolist() == store.counts.tolist()


def test_record_command_and_report_know_the_scans_groups(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    groups = [
        part for name, own in GROUPS.items() for part in ("--groups", f"{name}={','.join(own)}")
    ]
    options = ["--weights", "none", "--resize", "64", "--crop", "64", "--device", "cpu", "-q"]
    (stimuli / "empty").mkdir()

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    run("scan", "resnet18", "stimuli", "-o", "s.zarr", "--layers", "avgpool", *groups, *options)
    run("record", "resnet18", "stimuli", "--from", "s.zarr", "--top", "2", "-o", "r.zarr", "-q")
    best = json.loads(run("responses", "r.zarr", "best", "--json"))["best"]
    assert {one["contrast"] for one in best} == {"beings", "places"}
    run("report", "s.zarr", "--recording", "r.zarr", "-o", "page.html", "--resamples", "5", "-q")
    assert "data:image" in Path("page.html").read_text(encoding="utf-8")
