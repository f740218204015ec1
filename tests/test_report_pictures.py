"""Pictures from recordings in a report, and its figures for print."""

from __future__ import annotations

import json
import re
import shutil
import sys
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fusiform
from fusiform import UserError, open_recording
from fusiform.cli import main
from fusiform.engine.querying.info import facts, info_of
from fusiform.engine.reporting import pictures
from fusiform.engine.responses.discrimination import discriminate

from . import flat, made
from .test_report import data_of

CATEGORIES = ("blobs", "noise", "stripes")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    """Folder with ``stimuli``, ``a.zarr`` of a small network and its ``a.responses.zarr``."""
    folder = tmp_path_factory.mktemp("scanned")
    draw_stimuli(folder / "stimuli", each=8)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU())
    own = {"layers": "1", "device": "cpu", "preprocessing": {"resize": 72, "crop": 64}}
    flat.scan(network, folder / "stimuli", folder / "a.zarr", **own)
    flat.record(
        network, folder / "stimuli", folder / "a.responses.zarr", store=folder / "a.zarr",
        top=5, device="cpu",
    )  # fmt: skip
    return folder


def report(folder: Path, output: Path, **asked: Any) -> dict[str, Any]:
    fusiform.report(
        [folder / "a.zarr"], output, recordings=[folder / "a.responses.zarr"], resamples=5, **asked
    )
    return data_of(output.read_text(encoding="utf-8"))


def test_the_strongest_units_are_shown_with_the_pictures_that_drive_them(
    scanned: Path, tmp_path: Path
) -> None:
    """The first fold chooses them; their AUC and pictures are of the other fold."""
    data = report(scanned, tmp_path / "a.html")
    best, stimuli = data["stores"][0]["tables"]["best"], data["stimuli"]
    recording = open_recording(scanned / "a.responses.zarr")
    assert len(best["auc"]) == 2 * len(CATEGORIES)
    held_out = recording.fold_of == 1
    named = (best[name] for name in ("contrast", "place", "auc", "lowest", "most", "least"))
    places: dict[int, list[tuple[int, ...]]] = {}
    for contrast, place, auc, lowest, most, least in zip(*named, strict=True):
        along = tuple(int(number) for number in re.findall("[0-9]+", place))
        places.setdefault(contrast, []).append(along)
        (layer,) = recording.layers
        responses = recording.unit("1", int(np.ravel_multi_index(along, layer.shape)))
        own = responses[held_out]
        assert lowest == np.count_nonzero(own == own.min())
        is_target = recording.labels[held_out] == contrast
        a, b = own[is_target, np.newaxis], own[~is_target]
        assert auc == pytest.approx((np.mean(a > b) + np.mean(a == b) / 2), rel=1e-3)
        for listed, expected in ((most, -np.sort(-own)), (least, np.sort(own))):
            shown = [one["response"] for one in listed]
            assert shown == pytest.approx(expected[: len(shown)].tolist(), rel=1e-3, abs=1e-6)
            for one in listed:
                said = stimuli[one["stimulus"]]
                row = recording.stimulus_column("stimulus_path").tolist().index(said["name"])
                assert responses[row] == pytest.approx(one["response"], rel=1e-3, abs=1e-6)
                assert held_out[row]
                assert said["name"].startswith(said["category"])
    for one in discriminate(recording):
        first, second = places[CATEGORIES.index(one.contrast)]
        assert first[0] != second[0]
        chosen = np.unravel_index(one.units[np.nanargmax(one.auc_fold[0])], layer.shape)
        assert first == chosen
    assert set(best["held_out"]) == set(best["selected"]) == {True}
    for said in stimuli:
        head, content = said["image"].split(",")
        assert head == "data:image/jpeg;base64"
        picture = np.asarray(Image.open(BytesIO(b64decode(content))).convert("L"), float)
        own = Image.open(scanned / "stimuli" / said["name"]).convert("L").resize((112, 112))
        assert np.abs(picture - np.asarray(own, float)).mean() < 8


def test_units_of_one_fold_are_measured_on_the_stimuli_that_choose_them(
    scanned: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU())
    own = {"layers": "1", "device": "cpu", "preprocessing": {"resize": 72, "crop": 64}}
    stimuli = scanned / "stimuli"
    flat.scan(network, stimuli, tmp_path / "a.zarr", folds=1, **own)
    flat.record(
        network, stimuli, tmp_path / "a.responses.zarr", store=tmp_path / "a.zarr", random=20,
        device="cpu",
    )  # fmt: skip
    best = report(tmp_path, tmp_path / "a.html")["stores"][0]["tables"]["best"]
    assert set(best["held_out"]) == set(best["selected"]) == {False}
    recording = open_recording(tmp_path / "a.responses.zarr")
    largest = [np.nanmax(one.auc) for one in discriminate(recording)]
    assert best["auc"][::2] == pytest.approx(largest, rel=1e-3)


def test_pictures_are_shown_of_recorded_units_only(scanned: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(scanned / "stimuli", tmp_path / "changed")
    for path in changed.glob("blobs/*"):
        Image.new("RGB", (72, 72)).save(path)
    notes: list[str] = []
    data = report(scanned, tmp_path / "a.html", stimuli=changed, note=notes.append)
    shown = {said["category"]: said["image"] is not None for said in data["stimuli"]}
    assert shown == {"blobs": False, "noise": True, "stripes": True}
    assert any("named and not shown" in note for note in notes)


def test_a_report_is_written_without_its_stimuli(scanned: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    data = report(scanned, tmp_path / "a.html", stimuli=tmp_path / "gone", note=notes.append)
    assert data["stimuli"]
    assert {said["image"] for said in data["stimuli"]} == {None}
    assert any("gone does not exist" in note and "`stimuli`" in note for note in notes)


def test_stimuli_named_by_a_relative_path_are_found_from_anywhere(
    scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside the recording if both were moved; the page does not reveal the path."""
    first = tmp_path / "first"
    shutil.copytree(scanned / "stimuli", first / "set" / "stimuli")
    (first / "results").mkdir()
    monkeypatch.chdir(first / "results")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU())
    own = {"layers": "1", "device": "cpu", "preprocessing": {"resize": 72, "crop": 64}}
    stimuli = Path("..") / "set" / "stimuli"
    flat.scan(network, stimuli, "a.zarr", **own)
    flat.record(network, stimuli, "a.responses.zarr", store="a.zarr", top=5, device="cpu")
    monkeypatch.chdir(tmp_path)

    def shown(folder: Path) -> bool:
        data = report(folder / "results", tmp_path / "a.html")
        assert str(tmp_path) not in (tmp_path / "a.html").read_text(encoding="utf-8")
        return all(one["image"] for one in data["stimuli"])

    assert shown(first)
    (tmp_path / "elsewhere").mkdir()
    first.rename(tmp_path / "elsewhere" / "second")
    assert shown(tmp_path / "elsewhere" / "second")
    (tmp_path / "elsewhere" / "second" / "set" / "stimuli").rename(tmp_path / "gone")
    assert not shown(tmp_path / "elsewhere" / "second")
    recording = open_recording(tmp_path / "elsewhere" / "second" / "results" / "a.responses.zarr")
    assert recording.provenance["stimuli"] == str(stimuli)
    assert recording.provenance["source"]["store"] == str(first / "results" / "a.zarr")
    told = dict(facts(info_of(recording), whole_paths=False))
    assert str(tmp_path) not in str(told)


def test_the_pictures_of_a_report_are_limited_in_total(
    scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [len(said["image"]) for said in report(scanned, tmp_path / "a.html")["stimuli"]]
    monkeypatch.setattr(pictures, "MOST", sum(whole) // 2)
    part = [said["image"] for said in report(scanned, tmp_path / "a.html")["stimuli"]]
    assert None in part
    assert 0 < sum(len(image) for image in part if image) <= sum(whole) // 2


def test_a_recording_is_shown_with_the_store_of_its_network(
    scanned: Path, made_path: Path, tmp_path: Path
) -> None:
    output, recording = tmp_path / "a.html", scanned / "a.responses.zarr"
    fusiform.report([made_path, scanned / "a.zarr"], output, recordings=[recording], resamples=5)
    first, second = data_of(output.read_text(encoding="utf-8"))["stores"]
    assert "best" not in first["tables"]
    assert second["tables"]["best"]["auc"]
    with pytest.raises(UserError, match="beside the store of its network"):
        fusiform.report([made_path], output, recordings=[recording], resamples=5)


def test_a_weighted_sum_has_no_strongest_units(scanned: Path, tmp_path: Path) -> None:
    shutil.copytree(scanned / "a.zarr", tmp_path / "a.zarr")
    shutil.copytree(scanned / "a.responses.zarr", tmp_path / "a.responses.zarr")
    asked = {"stimuli": scanned / "stimuli"}
    contrasts = ["blobs - (noise + stripes)/2", "stripes"]
    data = report(tmp_path, tmp_path / "a.html", contrasts=contrasts, **asked)
    assert set(data["stores"][0]["tables"]["best"]["contrast"]) == {1}
    data = report(tmp_path, tmp_path / "a.html", contrasts=contrasts[:1], **asked)
    assert data["stimuli"] == []


# Figures for print


@pytest.mark.smoke
def test_figures_are_written_as_svg_and_pdf_the_same_every_time(
    made_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        fusiform.report([made_path], tmp_path / "a.html", figures=folder, resamples=5)
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert first == second
    assert {name.split(".")[0] for name in first} == {
        "share-by-depth", "csi-by-depth", "d-prime-by-depth", "spread-over-feature-maps",
        "gini-over-feature-maps", "activation-strength", "csi-in-layer", "maps",
        "preferred-category-fold-by-fold", "consistency",
    }  # fmt: skip
    for name, content in first.items():
        assert content.startswith(b"%PDF" if name.endswith("pdf") else b"<?xml")
    text = first["share-by-depth.svg"].decode()
    for category in made.CATEGORIES:
        assert category.replace("<", "&lt;").replace(">", "&gt;") in text
    assert "q &lt;= 0.05" in text


def test_stores_with_one_fold_and_other_layers_have_figures(
    made_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(made, "CATEGORIES", (r"$\frac$", "a_b^c", "x$y", "d"))
    monkeypatch.setattr(made, "COUNTS", made.COUNTS[:, :1])
    made.fill(tmp_path / "one.zarr", made.LAYERS[1:])
    output = tmp_path / "a.html"
    fusiform.report([tmp_path / "one.zarr", made_path], output, figures=tmp_path / "f", resamples=5)
    assert len(list((tmp_path / "f").iterdir())) == 20
    page = output.read_text(encoding="utf-8")
    assert "A: the scan had one fold" in page
    assert "B differs from A in stimuli, categories, folds:" in page
    text = (tmp_path / "f" / "share-by-depth.svg").read_text()
    assert r"$\frac$" in text  # a name is not a formula
    assert "a_b^c" in text


def test_a_missing_matplotlib_raises_one_line(
    made_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'fusiform\[figures\]'"):
        fusiform.report([made_path], tmp_path / "a.html", figures=tmp_path / "f", resamples=5)
    assert list(tmp_path.iterdir()) == []


# The command line


def test_the_report_command_writes_a_page(
    scanned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "a.html"
    asked = ["report", str(scanned / "a.zarr"), "-o", str(output), "--test", "rest", "--where",
             "t > 2", "--contrast", "blobs > noise", "--contrast", "stripes", "--layers", "1",
             "--recording", str(scanned / "a.responses.zarr"), "--resamples", "5"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["fusiform", *asked])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    said = capsys.readouterr().err
    assert f"wrote {output}" in said
    page = output.read_text(encoding="utf-8")
    data = data_of(page)
    assert data["criterion"] == "Welch t against the pooled baseline; t > 2"
    assert [one["name"] for one in data["contrasts"]] == ["blobs > noise", "stripes"]
    assert "What drives them" in page
    assert json.dumps(data)
