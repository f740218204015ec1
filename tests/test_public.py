"""Public functions accept one text for a list, and a path for a store."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pandas.testing import assert_frame_equal

import fusiform
from fusiform import UserError

from . import flat

FUNCTIONS = {
    name: getattr(fusiform, name)
    for name in fusiform.__all__
    if inspect.isfunction(getattr(fusiform, name))
}


@pytest.fixture(scope="module")
def folder(two_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``two_stores``, with a table of regions."""
    root = shutil.copytree(two_stores, tmp_path_factory.mktemp("public") / "scanned")
    rows = ["region,category,response", "V1,blobs,1", "V1,noise,2", "V1,stripes,0"]
    (root / "regions.csv").write_text("\n".join(rows) + "\n")
    return root


def test_list_parameters_take_one_text_and_store_parameters_a_path() -> None:
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            said = str(parameter.annotation)
            single = set(re.sub(r"\[.*\]", "", said).split(" | "))
            several = re.search(r"(?:Sequence|Iterable)\[(.*)\]", said)
            if several and "Callable" not in said:
                assert set(several[1].split(" | ")) <= single, f"{name}({parameter})"
            if single & {"Store", "Recording"}:
                assert {"str", "Path"} <= single, f"{name}({parameter})"


def test_one_text_equals_a_list_of_it_when_reading(folder: Path, tmp_path: Path) -> None:
    store, path = fusiform.open_store(folder / "a.zarr"), str(folder / "a.zarr")
    few = {"resamples": 5}
    same: list[tuple[Any, Any]] = [
        (
            fusiform.summary(path, layers="avgpool", contrasts="blobs"),
            fusiform.summary(store, layers=["avgpool"], contrasts=["blobs"]),
        ),
        (
            fusiform.analyse(path, layers="avgpool", analyses="shares", agreement="floc", **few),
            fusiform.analyse(
                store, layers=["avgpool"], analyses=["shares"],
                agreement=[fusiform.Criterion("glm", "t > 3")], **few,
            ),
        ),
        (
            fusiform.compare([path, folder / "b.zarr"], layers="avgpool", measures="share",
                             allow="stimuli", **few),
            fusiform.compare([store, fusiform.open_store(folder / "b.zarr")], layers=["avgpool"],
                             measures=["share"], allow=["stimuli"], **few),
        ),
        (
            fusiform.compare_localizers([path, path], layers="avgpool", contrasts="blobs",
                                        categories="blobs,noise", allow="preprocessing", **few),
            fusiform.compare_localizers([store, folder / "a.zarr"], layers=["avgpool"],
                                        contrasts=["blobs"], categories=["blobs", "noise"],
                                        allow=["preprocessing"], **few),
        ),
        (
            fusiform.compare_regions(path, folder / "regions.csv", layers="avgpool",
                                     contrasts="blobs"),
            fusiform.compare_regions(store, folder / "regions.csv", layers=["avgpool"],
                                     contrasts=["blobs"]),
        ),
    ]  # fmt: skip
    for one, several in same:
        assert len(one.frame())
        assert_frame_equal(one.frame(), several.frame())
    asked = store.query("blobs: t > -1e9", "avgpool")
    assert list(asked.units("t").columns) == list(asked.units(["t"]).columns)
    assert list(asked.counts("layer").rows()) == list(asked.counts(["layer"]).rows())
    assert list(asked.quantiles("t", 0.5, "layer").rows()) == list(
        asked.quantiles("t", [0.5], ["layer"]).rows()
    )
    assert list(store.select("blobs", layers="avgpool")) == ["avgpool"]
    assert [layer.name for layer in store.layers_named("avgpool")] == ["avgpool"]
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    recording = folder / "r.zarr"
    fusiform.report(path, pages[0], layers="avgpool", recordings=str(recording), **few)
    fusiform.report([store], pages[1], layers=["avgpool"],
                          recordings=[fusiform.open_recording(recording)], **few)  # fmt: skip
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_one_text_equals_a_list_of_it_when_writing(folder: Path, tmp_path: Path) -> None:
    own = flat.scan(
        "resnet18", folder / "stimuli", tmp_path / "own.zarr", weights="none", layers="avgpool",
        groups={"blobs": "blobs", "others": ["noise", "stripes"]}, device="cpu",
        preprocessing={"resize": 64, "crop": 64},
    )  # fmt: skip
    assert [layer.name for layer in own.layers] == ["avgpool"]
    assert own.categories == ("blobs", "others")
    fusiform.save_contrast(str(tmp_path / "own.zarr"), "mine", measures="csi")
    assert fusiform.open_store(tmp_path / "own.zarr").saved["mine"]["measures"] == ["csi"]
    recording = flat.record(
        "resnet18", folder / "stimuli", tmp_path / "r.zarr", store=str(tmp_path / "own.zarr"),
        select="blobs", criterion=fusiform.Criterion(where="t > -1e9"), top=2, layers="avgpool",
        device="cpu",
    )  # fmt: skip
    assert recording.choices == ("blobs",)
    groups = {"a": "blobs", "b": "noise"}
    assert flat.check_stimuli(folder / "stimuli", groups).stimuli == 12
    packed = flat.pack_stimuli(folder / "stimuli", tmp_path / "packed", groups=groups)
    assert packed == 12
    found = flat.plan(
        "resnet18", folder / "stimuli", groups=groups, layers="avgpool", device="cpu",
        preprocessing={"resize": 64, "crop": 64},
    )  # fmt: skip
    assert [layer.name for layer in found.layers] == ["avgpool"]
    assert found.categories == ("a", "b")
    (row, *_) = flat.bench(parts="kernels", array_units=100_000, batch_sizes=8, repeats=1)
    assert row.part == "kernels"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a, _: fusiform.compare([a]), "at least two stores; got 1"),
        (lambda a, _: fusiform.compare(a), "at least two stores; got 1"),
        (lambda a, out: fusiform.merge(a, out / "m.zarr"), "two stores; got 1"),
        (lambda a, _: fusiform.analyse(a, analyses="share"), "did you mean shares"),
        (lambda a, _: fusiform.analyse(a, agreement="flock"), "did you mean floc"),
        (lambda a, _: fusiform.summary(a, layers="avg"), "'avg'"),
        (lambda a, _: fusiform.summary([a]), "a store or its path is needed here; got list"),
        (lambda a, _: fusiform.summary(None), "got NoneType"),
        (lambda a, out: fusiform.report("nosuch.zarr", out / "x.html"), "nosuch.zarr"),
        (lambda a, _: next(flat.bench(parts="kernel")), "did you mean kernels"),
        (lambda a, _: fusiform.compare([a, a], measures="shares"), "did you mean share"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_quoted_whole(
    folder: Path, tmp_path: Path, call: Callable[..., Any], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        call(str(folder / "a.zarr"), tmp_path)
    assert said in str(refused.value)


def test_regions_take_the_path_of_a_recording(folder: Path) -> None:
    recording = fusiform.open_recording(folder / "r.zarr")
    paths = recording.stimulus_column("stimulus_path").tolist()
    lines = ["region,first,second,distance"]
    lines += [f"IT,{a},{b},{(i * j) % 7}" for j, b in enumerate(paths[:5])
              for i, a in enumerate(paths[:j])]  # fmt: skip
    (folder / "stimuli.csv").write_text("\n".join(lines) + "\n")
    found = fusiform.compare_regions(folder / "r.zarr", folder / "stimuli.csv", rearrangements=20)
    assert found.compared == "dissimilarity of stimuli"
    assert found.source == str(folder / "r.zarr")


# Wrong types


def test_groups_and_dims_of_a_wrong_type_raise(folder: Path, tmp_path: Path) -> None:
    small = {"weights": "none", "device": "cpu", "preprocessing": {"resize": 64, "crop": 64}}
    wrong: Any
    for wrong in ("blobs", ["a=blobs", 3], 3, {"a": None}, {"a": [3]}, {None: "blobs"}):
        for function, more in (
            (flat.scan, ("resnet18", folder / "stimuli", tmp_path / "x.zarr")),
            (flat.check_stimuli, (folder / "stimuli",)),
        ):
            asked = {**small, "layers": "avgpool"} if function is flat.scan else {}
            with pytest.raises(UserError, match=r"^groups are CATEGORY=FOLDER,.*; got .*$"):
                function(*more, groups=wrong, **asked)
    for wrong in ("channel,y,x", ["avgpool=channel"], {"avgpool": None}, {3: "channel"}):
        with pytest.raises(UserError, match="dimensions"):
            flat.scan("resnet18", folder / "stimuli", tmp_path / "x.zarr", layers="avgpool",
                          dims=wrong, **small)  # fmt: skip


def test_wrong_types_of_criterion_layer_and_contrast_raise(folder: Path, tmp_path: Path) -> None:
    store, regions, page = folder / "a.zarr", folder / "regions.csv", tmp_path / "page.html"
    asks: list[Callable[..., Any]] = [
        lambda **asked: fusiform.summary(store, **asked),
        lambda **asked: fusiform.analyse(store, resamples=5, **asked),
        lambda **asked: fusiform.compare([store, folder / "b.zarr"], allow="stimuli", **asked),
        lambda **asked: fusiform.compare_localizers([store, store], **asked),
        lambda **asked: fusiform.compare_regions(store, regions, **asked),
        lambda **asked: fusiform.report(store, page, resamples=5, **asked),
    ]
    for ask in asks:
        for wrong in ("blobs", None, 3):
            with pytest.raises(UserError, match=r"^a criterion is fusiform.Criterion\(...\); got"):
                ask(criterion=wrong)
        for wrong in (3, None, [None], ["avgpool", 3]):
            with pytest.raises(UserError, match=r"^layers are names or globs; got"):
                ask(layers=wrong)
        for wrong in (3, [None]):
            with pytest.raises(UserError, match=r"^a contrast is a string"):
                ask(contrasts=wrong)
    for wrong in ("blobs", None):
        with pytest.raises(UserError, match=r"^a criterion is"):
            fusiform.save_contrast(store, "x1", wrong)
    with pytest.raises(UserError, match=r"^a contrast is a string"):
        fusiform.save_contrast(store, "x1", contrast=3)
    with pytest.raises(UserError, match=r"^a criterion is"):
        flat.record("resnet18", folder / "stimuli", tmp_path / "r.zarr", store=store,
                        select="blobs", criterion="blobs", device="cpu")  # fmt: skip
    for wrong in (3, [None]):
        with pytest.raises(UserError, match=r"^layers are names or globs; got"):
            flat.scan("resnet18", folder / "stimuli", tmp_path / "x.zarr", weights="none",
                          device="cpu", layers=wrong)  # fmt: skip


def test_a_report_must_be_named_html(folder: Path, tmp_path: Path) -> None:
    for name in ("x.pdf", "x.csv", "x.svg"):
        with pytest.raises(UserError, match=r"^a report is an HTML page; got .*: name it x.html"):
            fusiform.report(folder / "a.zarr", tmp_path / name)
        assert not (tmp_path / name).exists()
    fusiform.report(folder / "a.zarr", tmp_path / "x.HTM", resamples=5)
