"""Pictures from recordings in a report, and its figures for print."""

from __future__ import annotations

import copy
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
from fusiform import UserError, open_recording, open_store
from fusiform.cli import main
from fusiform.engine.contrasts.language.criterion import DEFAULT
from fusiform.engine.plotting import axes, curves, figures, matrices, overview
from fusiform.engine.plotting.tuning import details
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
def test_figures_are_written_as_svg_pdf_and_png_the_same_every_time(
    made_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        fusiform.report([made_path], tmp_path / "a.html", figures=folder, resamples=5)
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert [name for name in first if first[name] != second[name]] == []
    assert {name.split(".")[0] for name in first} == {
        "share-by-depth", "csi-by-depth", "d-prime-by-depth", "spread-over-feature-maps",
        "gini-over-feature-maps", "activation-strength", "csi-in-layer", "maps",
        "preferred-category-fold-by-fold", "consistency", "overview",
    }  # fmt: skip
    begin = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}
    for name, content in first.items():
        assert content.startswith(begin[name.rpartition(".")[2]])
    with Image.open(BytesIO(first["share-by-depth.png"])) as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    text = first["share-by-depth.svg"].decode()
    for category in made.CATEGORIES:
        assert category.replace("<", "&lt;").replace(">", "&gt;") in text
    assert "q &lt;= 0.05" in text


@pytest.fixture(scope="module")
def drawn(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Figures of two networks, the second untrained, by name."""
    rc_context = pytest.importorskip("matplotlib").rc_context
    folder = tmp_path_factory.mktemp("drawn")
    untrained = shutil.copytree(made_path, folder / "b.zarr")
    made.annotate(untrained, weights="untrained, seed 0")
    kept: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda *asked: kept.update(asked=asked))
        asked = {"figures": folder / "f", "resamples": 5}
        fusiform.report([made_path, untrained], folder / "a.html", **asked)
    found, _, details, *_ = kept["asked"]
    with rc_context(axes.STYLE):
        shown = dict(figures._figures(found, details))
    return {
        **shown,
        "found": found, "details": details, "stores": [made_path, untrained],
    }  # fmt: skip


def test_lines_of_figures_differ_without_colour_and_share_an_axis(drawn: dict[str, Any]) -> None:
    for name in ("share-by-depth", "activation-strength", "spread-over-feature-maps", "overview"):
        panels = [axis for axis in drawn[name].get_axes() if len(axis.get_lines()) > 1]
        assert panels
        for axis in panels:
            lines = [line for line in axis.get_lines() if line.get_marker() not in ("None", None)]
            styles = {
                (
                    str(line.get_marker()),
                    line.get_linestyle(),
                    line.get_markerfacecolor() == "white",
                )
                for line in lines
            }
            assert len(styles) == len(lines) > 1
    first, second = drawn["share-by-depth"].axes
    assert first.get_ylim() == second.get_ylim()


def redrawn(
    found: dict[str, Any], table: str, names: str, changed: Callable[[int, int], float]
) -> Any:
    """The findings with other numbers in columns of a table, by layer and contrast."""
    found = copy.deepcopy(found)
    for store in found["stores"]:
        rows = store["tables"][table]
        for name in names.split():
            rows[name] = list(map(changed, rows["layer"], rows["contrast"]))
    return found


def test_a_layer_without_positions_does_not_flatten_the_others_in_print(
    drawn: dict[str, Any],
) -> None:
    """Its shares are 90 and 80 %, theirs 2 %: markers at the edge of the axis, with an arrow."""
    (store, _), details = drawn["found"]["stores"], drawn["details"]
    assert [store["layers"][place] for place in store["placeless"]] == ["head"]
    (head,) = store["placeless"]
    shares = [0.9, 0.8, 0.03, 0.02]
    found = redrawn(drawn["found"], "shares", "share low high",
                    lambda at, k: shares[k] if at == head else 0.02)  # fmt: skip
    figures = curves.over_layers(found, curves.SHARE), overview.overview(found, details)
    for figure in figures:
        panels = [axis for axis in figure.get_axes() if "selective units" in axis.get_ylabel()]
        assert panels
        for axis in panels:
            low, high = axis.get_ylim()
            assert low < 0
            assert 0.03 < high < 0.035
            texts = [text.get_text() for text in axis.texts]
            assert "\N{UPWARDS ARROW} 90, 80" in texts
            edge = [line for line in axis.get_lines() if line.get_label() == "_beyond"]
            assert [line.get_xydata().tolist() for line in edge] == [[[head, high]]] * 2
            assert not any(line.get_clip_on() for line in edge)
            ends = {text.get_text(): text.xy for text in axis.texts if text.xy != (head, high)}
            assert len(ends) == len(shares) - 2
        words = " ".join(text.get_text() for text in figure.findobj(match=type(axis.title)))
        assert "Not joined: layers without positions (head)." in words.replace("\n", " ")
    small = redrawn(
        drawn["found"], "shares", "share low high", lambda at, _: 0.04 if at == head else 0.02
    )
    assert curves.SHARE.limits(small) == pytest.approx((-0.002, 0.042))


def test_means_of_few_units_part_a_line_and_are_not_drawn(drawn: dict[str, Any]) -> None:
    found, (store, _) = drawn["found"], drawn["found"]["stores"]
    some = redrawn(found, "specificity", "units", lambda at, k: 7 if at == 1 and k == 0 else 20)
    rows = curves.CSI.rows({**some["stores"][0], "placeless": []}, 0)
    known = [(row["layer"], row["mean"] is not None) for row in rows]
    assert known == [(0, True), (2, False), (2, True)]
    some = {**some, "layer": store["layers"][1]}
    figure = curves.distributions(some, "csi")
    axis = figure.get_axes()[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == [f"{name}, n = 20" for name in made.CATEGORIES[:0:-1]]
    said = figure._supxlabel.get_text()
    assert "no or too few selective units: faces in" in said.replace("\n", " ")


def test_figures_say_nothing_of_categories_that_a_network_was_not_asked_for(
    drawn: dict[str, Any],
) -> None:
    found = redrawn(drawn["found"], "specificity", "units", lambda *_: 20)
    for columns in found["stores"][1]["tables"].values():
        if "contrast" in columns:
            kept = [k != 0 for k in columns["contrast"]]
            for name, values in columns.items():
                columns[name] = [v for v, keep in zip(values, kept, strict=True) if keep]
    for figure in (curves.distributions(found, "csi"), matrices.maps(found)):
        assert "faces" not in figure._supxlabel.get_text()
    titles = [axis.get_title().partition("\n")[0] for axis in figure.get_axes()]
    assert "faces, A" in titles
    assert "faces, B" not in titles


def test_all_layers_have_room_on_an_axis() -> None:
    pytest.importorskip("matplotlib")
    _, (axis,) = axes.panels(1, 1)
    axis.plot([2], [1], "o")
    axes.name_ticks(axis, list("abc"))
    assert axis.get_xlim() == (-0.5, 2.5)


def test_a_point_apart_has_a_bar_for_its_interval() -> None:
    pytest.importorskip("matplotlib")
    _, (axis,) = axes.panels(1, 1)
    nothing = {"y": None, "low": None, "high": None}
    rows = [{"y": y, "low": y - 1, "high": y + 1} for y in (1, 2, 4)]
    rows.insert(2, nothing)
    axes.draw_line(axis, [0, 1, 2, 2], rows, ("y", "low", "high"), {"color": "red"})
    (bars,) = [one for one in axis.collections if hasattr(one, "get_segments")]
    assert [bar.tolist() for bar in bars.get_segments()] == [[[2, 3], [2, 5]]]


def test_untrained_networks_are_named_in_titles(drawn: dict[str, Any]) -> None:
    titles = [axis.get_title("left") for axis in drawn["share-by-depth"].axes]
    assert titles[0] == "A: made"
    assert titles[1] == "B: b (untrained)"


def test_maps_print_their_largest_share(drawn: dict[str, Any]) -> None:
    (store, _), layer = drawn["found"]["stores"], drawn["found"]["layer"]
    rows = store["tables"]["localisation"]
    cells = [
        np.nanmax(np.array(values, float))
        for at, values in zip(rows["layer"], rows["map"], strict=True)
        if store["layers"][at] == layer
    ]
    shown = [axis.get_title("left").rpartition("\n")[2] for axis in drawn["maps"].axes]
    assert shown[: len(cells)] == [f"0 to {100 * most:.3g} %" for most in cells if most]


def test_the_composed_figure_has_tuning_curves_rdms_shares_and_csi(drawn: dict[str, Any]) -> None:
    """Curves are the held-out means of selective units by category, standardised in the layer."""
    store, (detail, _) = open_store(drawn["stores"][0]), drawn["details"]
    assert list(detail["layers"]) == [layer.name for layer in store.layers]
    found = fusiform.analyse(store, resamples=5)
    for row in found.strength:
        curves, every = detail["layers"][row.layer]["tuning"]
        curve = curves[found.contrasts.index(row.contrast)]
        if row.units < 10:
            assert not any(isinstance(value, float) for value in curve)
            continue
        own = store.categories.index(row.contrast)
        assert curve[own] == pytest.approx(row.preferred, rel=1e-3)
        others = [value for k, value in enumerate(curve) if k != own]
        assert np.mean(others) == pytest.approx(row.others, rel=1e-3, abs=1e-3)
        assert max(map(abs, every)) < 1
    assert detail["layers"]["head"]["rdm"] == found.consistency.rdms[2].rdm
    assert detail["chance"] is None
    text = " ".join(
        text.get_text()
        for text in drawn["overview"].findobj(pytest.importorskip("matplotlib.text").Text)
    )
    for word in (*"abcd", "all living units", "selective units (%)", "CSI, held out"):
        assert word in text
    assert "chance is unknown" in text.replace("\n", " ")


def test_chance_is_drawn_where_labels_were_shuffled(scanned: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    network = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU())
    own = {"layers": "1", "device": "cpu", "preprocessing": {"resize": 72, "crop": 64}}
    flat.scan(network, scanned / "stimuli", tmp_path / "n.zarr", **own, null=9)
    fusiform.report(tmp_path / "n.zarr", tmp_path / "a.html", figures=tmp_path / "f", resamples=5)
    text = (tmp_path / "f" / "overview.svg").read_text()
    assert "5 % of shuffled labels reach" in text
    store = open_store(tmp_path / "n.zarr")
    found = fusiform.analyse(store, resamples=5)
    (chance,) = details(store, found, DEFAULT, ["1"])["chance"]
    assert chance == pytest.approx(max(row.chance_95 for row in fusiform.summary(store)))


def test_names_at_the_ends_of_lines_do_not_touch() -> None:
    pytest.importorskip("matplotlib")
    _, (axis,) = axes.panels(1, 1)
    labels = [f"line {k}" for k in range(9)]
    for k, label in enumerate(labels):
        axis.plot([0, 1], [1, 1 + k / 1000], label=label)
    axis.plot([0, 1], [0, 0], label="zero")
    axes.name_lines(axis, dict.fromkeys([*labels, "zero"], "a name"), 1.5)
    places = [text.xyann[1] for text in axis.texts]
    assert len(places) == len(labels)
    assert min(np.diff(sorted(places))) * 1.5 * 72 >= 6
    assert max(places) <= 1


@pytest.mark.parametrize("number", [18, 40, 400])
def test_names_below_an_axis_do_not_touch(number: int) -> None:
    pytest.importorskip("matplotlib")
    _, (axis,) = axes.panels(1, 1)
    axes.name_ticks(axis, [f"layer{k}.block" for k in range(number)])
    places, size = axis.get_xticks(), axis.get_xticklabels()[0].get_fontsize()
    across = np.diff(places).min() / number * 0.8 * axes.COLUMN * 72 * np.sin(np.radians(60))
    assert across >= size >= 4.5
    assert len(places) >= min(number, 15)


def test_stores_with_one_fold_and_other_layers_have_figures(
    made_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(made, "CATEGORIES", (r"$\frac$", "a_b^c", "x$y", "d"))
    monkeypatch.setattr(made, "COUNTS", made.COUNTS[:, :1])
    made.fill(tmp_path / "one.zarr", made.LAYERS[1:])
    output = tmp_path / "a.html"
    fusiform.report([tmp_path / "one.zarr", made_path], output, figures=tmp_path / "f", resamples=5)
    assert len(list((tmp_path / "f").iterdir())) == 3 * 11
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
