"""The command line: mistakes are one line and write nothing; results are readable."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import xarray
import zarr
from safetensors.torch import save_file

from fusiform.cli import main
from fusiform.commands import notes
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.summary import Row, summary
from fusiform.engine.querying.store import open_store

from .flat import load_backbone
from .records import rows_of

# An untrained network at 64 x 64 pixels, two layers: a scan takes about a second.
SMALL = [
    "--weights", "none", "--resize", "64", "--crop", "64",
    "--layers", "layer4.1,avgpool", "--device", "cpu",
]  # fmt: skip


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def fusiform(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Run the command line in ``tmp_path``."""

    def run(*arguments: Any) -> Answer:
        monkeypatch.setattr(sys, "argv", ["fusiform", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return Answer(left.value.code or 0, *capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    """A finished store."""
    from .flat import scan

    root = tmp_path_factory.mktemp("scanned")
    scan(
        "resnet18",
        draw_stimuli(root / "stimuli"),
        root / "store.zarr",
        weights="none",
        layers=["layer4.1", "avgpool"],
        preprocessing={"resize": 64, "crop": 64},
        device="cpu",
    )
    return root / "store.zarr"


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything under ``folder``, to see whether it changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def in_subprocess(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


# Users' mistakes


def assert_refused(answer: Answer, *fragments: str) -> None:
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert answer.err.endswith("\n")
    for fragment in fragments:
        assert fragment in answer.err


def _empty_category(folder: Path) -> None:
    (folder / "stimuli/vacant").mkdir()  # an empty one would be ignored
    (folder / "stimuli/vacant/list.txt").touch()


def _one_image(folder: Path) -> None:
    (folder / "stimuli/lonely").mkdir()
    shutil.copy(folder / "stimuli/blobs/blobs-1.png", folder / "stimuli/lonely/1.png")


def _not_an_image(folder: Path) -> None:
    (folder / "stimuli/noise/zzz.png").write_text("not an image")


def _existing(folder: Path) -> None:
    (folder / "out.zarr").mkdir()
    (folder / "out.zarr/thesis.txt").write_text("two years of work")


def _existing_file(folder: Path) -> None:
    (folder / "out.zarr").write_text("two years of work")


def _foreign_store(folder: Path) -> None:
    zarr.create_group(folder / "out.zarr", attributes={"schema": "another"})


def _cut_weights(folder: Path) -> None:
    torch.save(load_backbone("timm:test_resnet", "none").model.state_dict(), folder / "w.pth")
    whole = (folder / "w.pth").read_bytes()
    (folder / "w.pth").write_bytes(whole[: len(whole) // 2])


def _other_weights(folder: Path) -> None:
    save_file(
        load_backbone("timm:test_resnet", "none").model.state_dict(), folder / "w.safetensors"
    )


def _nothing(_: Path) -> None:
    pass


MISTAKES: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "empty category": (_empty_category, "", ["vacant in stimuli has none"]),
    "one image": (_one_image, "", ["lonely has 1", "add images"]),
    "one image, one fold": (_one_image, "--folds 1", ["lonely has 1", "add images"]),
    "too few for the folds": (_nothing, "--folds 4", ["blobs has 6", "--folds 3"]),
    "not an image": (_not_an_image, "", ["stimuli/noise/zzz.png is not an image", "stimuli check"]),
    "unknown layer": (_nothing, "--layers layer4.2", ["'layer4.2'", "did you mean layer4.1"]),
    "layer called twice": (_nothing, "--layers layer4.1.relu", ["layer4.1.relu is called 2 times"]),
    "no layer": (_nothing, "--layers=", ["no layer matches ''"]),
    "output exists": (_existing, "", ["out.zarr does", "--overwrite"]),
    "output is a file": (_existing_file, "--overwrite", ["out.zarr is none"]),
    "overwriting no store": (_existing, "--overwrite", ["out.zarr is none", "remove it yourself"]),
    "overwriting another store": (_foreign_store, "--overwrite", ["out.zarr is none"]),
    "no folder for the output": (_nothing, "-o gone/out.zarr", ["gone does not: create it"]),
    "missing weights": (_nothing, "--weights w.pth", ["w.pth does not"]),
    "unreadable weights": (_cut_weights, "--weights w.pth", ["cannot read w.pth"]),
    "other architecture": (
        _other_weights,
        "--weights w.safetensors",
        ["w.safetensors does not fit torchvision:resnet18", "missing", "choose the model"],
    ),
    "unknown tag": (_nothing, "--weights IMAGENET21K", ["IMAGENET1K_V1", "'IMAGENET21K'"]),
    "group without folders": (_nothing, "--groups x=", ["CATEGORY=FOLDER", "'x='"]),
    "group without equals": (_nothing, "--groups blobs", ["CATEGORY=FOLDER", "'blobs'"]),
    "group without category": (_nothing, "--groups =blobs", ["CATEGORY=FOLDER", "'=blobs'"]),
    "group of an unknown folder": (
        _nothing,
        "--groups x=blob --groups y=noise",
        ["x names 'blob'", "did you mean blobs?"],
    ),
    "group given twice": (
        _nothing,
        "--groups x=blobs --groups x=noise",
        ["x has two", "join them"],
    ),
    "folder in two groups": (
        _nothing,
        "--groups x=blobs --groups y=noise,blobs",
        ["blobs is in the groups x and y"],
    ),
    "one group": (_nothing, "--groups x=blobs", ["stimuli has x", "--groups"]),
    "crop above resize": (_nothing, "--crop 65", ["crop 65 of 64", "raise --resize"]),
    "crop of nothing": (_nothing, "--crop 0", ["at least 1", "crop 0"]),
    "unknown interpolation": (_nothing, "--interpolation area", ["bicubic", "'area'"]),
    "std of nothing": (_nothing, "--std 1 0 1", ["std above 0"]),
    "no folds": (_nothing, "--folds 0", ["at least 1", "got 0 and 32"]),
    "no batch": (_nothing, "--batch-size 0", ["at least 1", "got 2 and 0"]),
    "no decoders": (_nothing, "--decode-workers -1", ["at least 1 thread", "got -1"]),
    "unknown device": (_nothing, "--device nonsense", ["'nonsense'", "--device cpu"]),
    "device without memory": (_nothing, "--device meta", ["'meta'", "--device cpu"]),
    "seed out of range": (_nothing, f"--seed {2**64}", [f"got {2**64}"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_scan_is_one_line_and_writes_nothing(
    fusiform: Command, stimuli: Path, mistake: str
) -> None:
    prepare, options, fragments = MISTAKES[mistake]
    folder = stimuli.parent
    prepare(folder)
    before = contents(folder)
    scan = ["scan", "resnet18", "stimuli", "-o", "out.zarr", "-q", *SMALL]
    answer = fusiform(*scan, *options.split())
    assert_refused(answer, *fragments)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("model", "source", "fragments"),
    [
        ("resnet81", "stimuli", ["'resnet81'", "did you mean resnet18"]),
        ("clip:RN5", "stimuli", ["'RN5'", "did you mean RN50"]),
        ("no.module:here", "stimuli", ["cannot import 'no.module:here'"]),
        ("resnet18", "stimulus", ["stimulus does not exist"]),
        ("resnet18", "stimuli/blobs", ["blobs has none", "one folder per category"]),
        ("vit_b_16", "stimuli", ["[batch, 3, 64, 64]", "--crop"]),
    ],
)
def test_an_unusable_model_or_source_is_one_line_and_writes_nothing(
    fusiform: Command, stimuli: Path, model: str, source: str, fragments: list[str]
) -> None:
    before = contents(stimuli.parent)
    answer = fusiform("scan", model, source, "-o", "out.zarr", "-q", *SMALL)
    assert_refused(answer, *fragments)
    assert contents(stimuli.parent) == before


def test_an_image_that_fails_in_the_scan_is_named(fusiform: Command, stimuli: Path) -> None:
    path = stimuli / "noise/noise-3.png"
    path.write_bytes(path.read_bytes()[:2000])
    answer = fusiform("scan", "resnet18", stimuli, "-o", "out.zarr", "-q", *SMALL)
    assert_refused(answer, str(path), "restore it, or leave it out with --on-error skip")


def test_skipped_stimuli_are_in_the_summary(fusiform: Command, stimuli: Path) -> None:
    damaged, gone = stimuli / "noise/noise-3.png", stimuli / "blobs/blobs-2.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    gone.write_bytes(b"")
    scan = ("scan", "resnet18", stimuli, "-o", "out.zarr", "--folds", "1", *SMALL)
    assert_refused(fusiform(*scan), "1 of 18 are not", f"{gone} is empty", "stimuli check")
    answer = fusiform(*scan, "--on-error", "skip")
    assert answer.code == 0
    assert f"skipped: {gone} is empty" in answer.err
    assert f"skipped: {damaged} cannot be decoded" in answer.err
    said = "out.zarr: 2 stimuli could not be shown (blobs 1, noise 1), 16 were"
    assert said in fusiform("summary", "out.zarr").out
    assert fusiform("summary", "out.zarr", "--format", "csv").err == f"{said}\n"


def test_a_folder_with_a_comma_is_quoted(fusiform: Command, stimuli: Path) -> None:
    (stimuli / "noise").rename(stimuli / "noise, white")
    check = ("stimuli", "check", stimuli, "--groups")
    assert "12 stimuli, 2" in fusiform(*check, 'x="noise, white"', "--groups", "y=blobs").out
    assert "18 stimuli, 2" in fusiform(
        *check, 'x= "noise, white",blobs', "--groups", "y=stripes"
    ).out  # fmt: skip
    assert_refused(fusiform(*check, "x=noise, white", "--groups", "y=blobs"), "names 'noise'")


def test_reading_commands_describe_an_unfinished_scan(
    fusiform: Command, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiform.engine.scanning.work import Work

    scan = ("scan", "resnet18", stimuli, "-o", "out.zarr", *SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(Work, "contrast", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        answer = fusiform(*scan)
    assert answer.code == 130
    assert "stopped; what was done is kept in" in answer.err
    for command in ("info", "summary"):
        assert_refused(fusiform(command, "out.zarr"), "out.zarr.partial", "the same command")
    checked = fusiform("check", "out.zarr")
    assert checked.code == 1
    assert "out.zarr: not finished" in checked.out
    assert (
        "18 of 18 stimuli were shown, 2 of 2 layers are finished; the same command" in checked.out
    )
    assert "out.zarr.partial" in checked.out
    assert "has not finished" in fusiform("info", "out.zarr.partial").out
    assert "resuming an unfinished scan: 18 of 18" in fusiform(*scan).err


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan", "resnet18", "stimuli"],
        ["scan", "resnet18", "stimuli", "-o", "out.zarr", "--folds", "two"],
        ["scan", "resnet18", "stimuli", "-o", "out.zarr", "--mean", "0.5"],
        ["scan", "resnet18", "stimuli", "-o", "out.zarr", "--fold", "2"],
        ["summary", "out.zarr", "--test", "all"],
        ["summary"],
        ["scrutinise"],
    ],
)
def test_unparsable_command_lines_are_usage_errors(
    fusiform: Command, stimuli: Path, arguments: list[str]
) -> None:
    before = contents(stimuli.parent)
    answer = fusiform(*arguments)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert "--help" in answer.err
    assert contents(stimuli.parent) == before


def test_a_summary_of_anything_but_a_finished_store_is_refused(
    fusiform: Command, scanned: Path, tmp_path: Path
) -> None:
    assert_refused(fusiform("summary", "gone.zarr"), "no store at gone.zarr", "fusiform scan")
    (tmp_path / "folder").mkdir()
    assert_refused(fusiform("summary", "folder"), "folder is not a zarr v3 store")
    (tmp_path / "file").touch()
    assert_refused(fusiform("summary", "file"), "file is not a zarr v3 store")
    zarr.create_group(tmp_path / "foreign.zarr")
    assert_refused(fusiform("summary", "foreign.zarr"), "foreign.zarr is a zarr store, but not of")
    shutil.copytree(scanned, tmp_path / "half.zarr")
    half = zarr.open_group(tmp_path / "half.zarr", mode="r+", use_consolidated=False)
    half.attrs["status"] = "scanning"
    before = contents(tmp_path)
    assert_refused(
        fusiform("summary", "half.zarr"),
        "half.zarr has not finished",
        "the same command resumes it",
    )
    assert_refused(
        fusiform("summary", "half.zarr", "-o", "x.csv", "--where", "t > 2"), "has not finished"
    )
    assert contents(tmp_path) == before


def test_a_criterion_out_of_range_is_refused(fusiform: Command, scanned: Path) -> None:
    assert_refused(fusiform("summary", scanned, "--sides", "3"), "one of 1, 2", "got 3")
    assert_refused(fusiform("summary", scanned, "--preset", "prince"), "did you mean prince2024")
    said = "got unexpected extra argument(s) (blobs), quote names that contain spaces: see"
    assert_refused(fusiform("select", scanned, "blobs"), said)  # the bracket is closed
    assert_refused(fusiform("summary", scanned, "--where", "p_null < 1"), "--null 100")
    assert "stripes" in fusiform("select", scanned).out
    assert_refused(
        fusiform("select", scanned, "--contrast", "blobs,noise", "--save", "x"), "one by one"
    )


def test_a_caret_points_at_a_syntax_error(fusiform: Command, scanned: Path) -> None:
    answer = fusiform("select", scanned, "--contrast", "blobs > nose + stripes")
    assert answer.code == 2
    assert answer.err.splitlines() == [
        "error: a contrast names categories of the store (did you mean noise?); got 'nose'",
        "  blobs > nose + stripes",
        "          ^",
    ]
    answer = fusiform("summary", scanned, "--where", "t > 5 and cs > 0.3")
    assert answer.err.splitlines()[1:] == ["  t > 5 and cs > 0.3", "            ^"]


def test_a_demo_needs_a_new_folder(fusiform: Command, tmp_path: Path) -> None:
    _existing(tmp_path)
    before = contents(tmp_path)
    assert_refused(fusiform("demo", "out.zarr"), "out.zarr exists", "name another")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["layers", "resnet81"], "did you mean resnet18"),
        (["layers", "timm:test_vit", "--crop", "72"], "--crop"),
        (["stimuli", "make", "new", "--per-category", "0"], "at least 1"),
        (["stimuli", "scramble", "gone", "-o", "new"], "gone"),
    ],
)
def test_mistakes_in_other_commands_are_one_line(
    fusiform: Command, tmp_path: Path, arguments: list[str], fragment: str
) -> None:
    assert_refused(fusiform(*arguments), fragment)
    assert contents(tmp_path) == {}


# Results


def test_a_scan_reports_progress_and_the_next_command(fusiform: Command, stimuli: Path) -> None:
    (stimuli / "noise/list.txt").touch()
    answer = fusiform("scan", "resnet18", "stimuli", "-o", "out.zarr", *SMALL)
    assert answer.code == 0
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert lines[0] == "noise: passed over 1 files that are not images by name: list.txt"
    assert lines[1] == (
        "torchvision:resnet18 (untrained, seed 0): 2 layers, 2,560 units; "
        "18 stimuli, 3 categories, 2 folds"
    )
    assert "resize 64 (bilinear), crop 64" in lines[2]
    assert "scan 18/18, " in answer.err
    assert lines[-2:] == [
        "next: fusiform summary out.zarr",
        "      fusiform report out.zarr -o out.html",
    ]
    store = open_store("out.zarr")
    assert store.categories == ("blobs", "noise", "stripes")
    assert store.counts.tolist() == [[3, 3]] * 3
    assert store.provenance["status"] == "complete"


def test_a_scan_ends_with_the_layer_in_which_each_category_peaks(
    fusiform: Command, stimuli: Path
) -> None:
    answer = fusiform("scan", "resnet18", "stimuli", "-o", "out.zarr", *SMALL)
    *_, end = answer.err.partition("wrote out.zarr\n")
    rows = {line.split()[0]: line.split() for line in end.splitlines() if line}
    assert rows["category"][1:3] == ["peaks", "in"]
    found = summary("out.zarr")
    for category in ("blobs", "noise", "stripes"):
        own = [row for row in found if row.contrast == category]
        peak = max(own, key=lambda row: row.share)
        share = f"{100 * peak.share:.2f}"
        assert rows[category][1:] == (
            [peak.layer, share, f"{peak.units:,}", *_held_out(peak)]
            if peak.selective
            else ["no", "layer", share, f"{peak.units:,}", "-", "-"]
        )
    assert any(row.selective for row in found)


def test_the_commands_that_follow_a_scan_can_be_copied(fusiform: Command, stimuli: Path) -> None:
    answer = fusiform("scan", "resnet18", "stimuli", "-o", "my scan.zarr", *SMALL)
    assert answer.err.splitlines()[-2:] == [
        "next: fusiform summary 'my scan.zarr'",
        "      fusiform report 'my scan.zarr' -o 'my scan.html'",
    ]


def _held_out(row: Row) -> list[str]:
    replicated = "-" if row.replicated is None else f"{100 * row.replicated:.2f}"
    return [replicated, "-" if row.csi is None else f"{row.csi:.2f}"]


def test_quiet_prints_nothing(fusiform: Command, stimuli: Path) -> None:
    (stimuli / "noise/list.txt").touch()
    answer = fusiform("scan", "resnet18", "stimuli", "-o", "out.zarr", "--quiet", *SMALL)
    assert answer == (0, "", "")
    assert open_store("out.zarr").provenance["status"] == "complete"


def test_options_of_a_scan_reach_the_store(fusiform: Command, stimuli: Path) -> None:
    lines = [f"blobs/blobs-{i}.png,b" for i in (1, 2, 3)]
    lines += [f"noise/noise-{i}.png,n" for i in (1, 2)] + [
        f"stripes/stripes-{i}.png,s" for i in (1, 2)
    ]
    (stimuli / "set.csv").write_text("\n".join(["path,category", *lines]))
    answer = fusiform(
        "scan", "timm:test_resnet", "stimuli/set.csv", "-o", "out.zarr", "-q",
        "--weights", "none", "--seed", "7", "--folds", "1", "--batch-size", "5",
        "--groups", "rest = n , s", "--groups", "blob=b",
        "--layers", "layer?, fc", "--layers", "conv1.0",
        "--resize", "48", "--crop", "40", "--interpolation", "lanczos", "--decode-workers", "1",
        "--mean", "0.1", "0.2", "0.3", "--std", "1", "2", "3",
    )  # fmt: skip
    assert answer == (0, "", "")
    store = open_store("out.zarr")
    assert store.categories == ("rest", "blob")
    assert store.counts.tolist() == [[4], [3]]
    found = [layer.name for layer in store.layers]
    assert found[0] == "conv1.0"
    assert found[-1] == "fc"
    assert {"layer1", "layer2", "layer3", "layer4"} < set(found)
    assert len(found) == 6
    assert store.provenance["model"] == "timm:test_resnet"
    assert store.provenance["weights"] == "untrained, seed 7"
    assert store.provenance["batch_size"] == 5
    assert store.provenance["preprocessing"] == {
        "resize": 48, "crop": 40, "interpolation": "lanczos",
        "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0], "squash": False,
    }  # fmt: skip


def test_overwrite_replaces_a_store(fusiform: Command, stimuli: Path, scanned: Path) -> None:
    shutil.copytree(scanned, "out.zarr")
    arguments = ["scan", "resnet18", stimuli, "-o", "out.zarr", "-q", *SMALL, "--seed", "1"]
    assert_refused(fusiform(*arguments), "--overwrite")
    assert fusiform(*arguments, "--overwrite").code == 0
    replaced, earlier = open_store("out.zarr").provenance, open_store(scanned).provenance
    assert replaced["weights"] == "untrained, seed 1"
    assert replaced["fingerprint"] != earlier["fingerprint"]


def test_summary_json_agrees_with_the_store(fusiform: Command, scanned: Path) -> None:
    answer = fusiform("summary", scanned, "--format", "json")
    assert answer.code == 0
    assert answer.err == ""
    rows = rows_of(answer.out)
    store = open_store(scanned)
    assert {row["store"] for row in rows} == {str(scanned)}
    assert {row["criterion"] for row in rows} == {str(Criterion())}
    assert [(row["layer"], row["contrast"]) for row in rows] == [
        (layer, category) for layer in ("layer4.1", "avgpool") for category in store.categories
    ]
    for row in rows:
        layer = store.layer(row["layer"])
        selective = store.read(layer, "selective")[store.categories.index(row["contrast"])]
        assert row["units"] == layer.units
        assert row["selective"] == np.count_nonzero(selective)
        assert row["share"] == row["selective"] / row["units"]
        assert row["nonfinite"] == 0
    assert sum(row["selective"] for row in rows) > 100


def test_summary_criteria_are_nested(fusiform: Command, scanned: Path) -> None:
    def selective(*options: str) -> np.ndarray:
        rows = rows_of(fusiform("summary", scanned, "--format", "json", *options).out)
        return np.array([row["selective"] for row in rows])

    strict, lenient = (selective("--where", f"q <= {q}") for q in ("0.001", "0.2"))
    assert (strict <= lenient).all()
    assert strict.sum() < lenient.sum()
    assert (selective("--where", "t > 9") <= selective("--where", "t > 2")).all()
    assert selective("--where", "t > 9").sum() < selective("--where", "t > 2").sum()
    assert not selective("--where", "t > 1e9").any()
    rest = selective("--test", "rest", "--where", "t > 2")
    assert (rest != selective("--where", "t > 2")).any()
    assert (selective("--correction", "by") <= selective("--correction", "bh")).all()
    floc = selective("--preset", "floc")
    assert (floc == selective("--test", "glm", "--where", "t > 3")).all()
    assert (selective("--preset", "floc", "--where", "t > 9") <= floc).all()


def test_summary_is_a_table_for_people(fusiform: Command, scanned: Path) -> None:
    answer = fusiform("summary", scanned, "--where", "t > 3")
    assert answer.code == 0
    assert answer.err == ""
    assert f"{scanned}: torchvision:resnet18 (untrained, seed 0)\n" in answer.out
    assert "selective: Welch t against each baseline category; t > 3\n" in answer.out
    head, _, *rows = (line.split() for line in answer.out.splitlines()[3:])
    assert head[:4] == ["layer", "category", "%", "CSI"]
    assert ["avgpool", "blobs", "512"] in [[*row[:2], row[-3]] for row in rows if len(row) == 10]
    assert ["layer4.1", "blobs", "2,048"] in [[*row[:2], row[-3]] for row in rows if len(row) == 10]
    assert ["stripes", "512"] in [[row[0], row[-3]] for row in rows if len(row) == 9]
    assert "replicated, CSI, d', response: of the units selected on one fold" in answer.out


def test_a_summary_of_several_stores_puts_them_side_by_side(
    fusiform: Command, scanned: Path, stimuli: Path
) -> None:
    fusiform(
        "scan", "resnet18", stimuli, "-o", "other.zarr", "-q", *SMALL[:-4],
        "--layers", "avgpool,layer3.0", "--seed", "1", "--device", "cpu",
    )  # fmt: skip
    answer = fusiform("summary", scanned, "other.zarr", "--test", "rest")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[:2] == [
        f"1  {scanned}: torchvision:resnet18 (untrained, seed 0)",
        "2  other.zarr: torchvision:resnet18 (untrained, seed 1)",
    ]
    rows = {(row.layer, row.contrast): row for row in _rows(scanned, "--test", "rest", fusiform)}
    others = {(r.layer, r.contrast): r for r in _rows("other.zarr", "--test", "rest", fusiform)}
    table = [line.split() for line in lines if line.split()[:1] == ["avgpool"]]
    one, two = rows["avgpool", "blobs"], others["avgpool", "blobs"]
    assert table[0][:4] == ["avgpool", "blobs", f"{100 * one.share:.2f}", f"{100 * two.share:.2f}"]
    # A value of one store only stands alone.
    assert any(line.startswith("layer4.1") for line in lines)
    assert any(line.startswith("layer3.0") for line in lines)


def _rows(store: Path | str, *rest: Any) -> list[SimpleNamespace]:
    *options, fusiform = rest
    found = rows_of(fusiform("summary", store, "--format", "json", *options).out)
    return [SimpleNamespace(**row) for row in found]


def test_select_answers_any_contrast(fusiform: Command, scanned: Path) -> None:
    contrasts = ["blobs", "blobs > noise + stripes", "blobs - (noise + stripes)/2"]
    asked = ["--contrast", ", ".join(contrasts[:2]), "--contrast", contrasts[2]]
    options = ["--test", "rest", "--where", "q <= 0.05 and csi > 0.1", "--layers", "avgpool"]
    answer = fusiform("select", scanned, *asked, *options)
    assert answer.code == 0
    assert answer.err == f"{contrasts[2]} is a weighted sum: by its t of weighted category means\n"
    for contrast in contrasts:
        assert f" {contrast} " in answer.out
    out = fusiform("select", scanned, *asked, *options, "--format", "json").out
    first, second, third = rows_of(out)
    assert first["selective"] == second["selective"] > 0  # two spellings of the same contrast
    assert third["selective"] != first["selective"]
    assert rows_of(out, fold=1)[0]["selected"] > 0
    assert fusiform("summary", scanned, *asked, *options) == answer
    rows = rows_of(fusiform("select", scanned, *options, "--format", "json").out)
    assert [row["contrast"] for row in rows] == ["blobs", "noise", "stripes"]
    assert rows[0] == first


def test_analyses_are_tables_for_people_and_json(fusiform: Command, scanned: Path) -> None:
    options = ["--test", "rest", "--where", "t > 2", "--resamples", "20"]
    answer = fusiform("analyse", scanned, *options)
    assert answer.code == 0
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert lines[:2] == [
        f"{scanned}: torchvision:resnet18 (untrained, seed 0)",
        "selective: Welch t against the pooled baseline; t > 2",
    ]
    names = ["shares", "specificity", "spread", "localisation", "strength", "overlap", "confusion"]
    for name in names:
        assert any(line.startswith(f"{name}: ") for line in lines)
    assert sum(line.startswith("consistency") for line in lines) == 4
    found = json.loads(fusiform("analyse", scanned, *options, "--format", "json").out)
    for name in names:
        own = [row for row in found if row["analysis"] == name]
        assert {row["layer"] for row in own} == {"layer4.1", "avgpool"}
    assert sum(row["quantity"] == "cka" for row in found) == 3  # pairs of two layers
    shares = [row for row in found if row["analysis"] == "shares"]
    selective, share = (
        [row["value"] for row in shares if row["quantity"] == name]
        for name in ("selective", "share")
    )
    row = next(line.split() for line in lines if line.startswith("layer4.1  blobs"))
    assert row[2] == f"{100 * share[0]:.4g}"
    assert row[6:8] == [f"{selective[0]:,.0f}", "2,048"]
    assert "no overlap" not in answer.out
    said = fusiform("analyse", scanned, "overlap").out
    assert "no overlap (-): no unit responds more to each of two categories" in said
    assert "--test rest" in said
    assert selective == [one.selective for one in _rows(scanned, *options[:4], fusiform)]


def test_some_analyses_of_a_contrast(fusiform: Command, scanned: Path) -> None:
    contrast = "blobs > noise + stripes"
    options = ["--contrast", contrast, "--layers", "avgpool", "--agreement", "floc,margalit2024"]
    answer = fusiform("analyse", scanned, "shares", "spread", *options, "--where", "t > 2")
    assert answer.code == 0
    assert [line.partition(":")[0] for line in answer.out.splitlines() if ": " in line][2:5] == [
        "shares", "spread", "agreement",
    ]  # fmt: skip
    rows = [line for line in answer.out.splitlines() if contrast in line]
    assert len(rows) == 1 + 1 + 3  # every pair of three criteria
    assert_refused(fusiform("analyse", scanned, "share"), "did you mean shares")
    assert_refused(fusiform("analyse", scanned, "--agreement", "flock"), "did you mean floc")
    assert "did you mean blobs" in fusiform("analyse", scanned, "--contrast", "blob").err


def test_analyses_say_that_one_fold_leaves_nothing_held_out(
    fusiform: Command, stimuli: Path
) -> None:
    fusiform("scan", "resnet18", stimuli, "-o", "out.zarr", "-q", *SMALL, "--folds", "1")
    answer = fusiform("analyse", "out.zarr", "--resamples", "5")
    assert answer.code == 0
    said = "out.zarr: no held-out stimuli: no specificity, strength or confusion"
    assert f"{said}: the scan had --folds 1" in answer.out


def test_a_contrast_is_saved_beside_the_moments(fusiform: Command, scanned: Path) -> None:
    shutil.copytree(scanned, "own.zarr")
    answer = fusiform(
        "select",
        "own.zarr",
        "--contrast",
        "blobs > noise",
        "--save",
        "mine",
        "--measures",
        "t,csi_strongest",
    )
    assert answer.code == 0
    assert answer.err == "saved mine in every layer of own.zarr\n"
    dataset = xarray.open_datatree("own.zarr", engine="zarr")["avgpool/mine"]
    masks = {"selective", "selective_fold"}
    assert set(dataset.data_vars) == {"t", "csi_strongest", "extremes", *masks}
    assert fusiform("select", "own.zarr", "--save", "every").code == 0
    store = open_store("own.zarr")
    assert set(store.saved) == {"mine", "every"}
    layer = store.layer("avgpool")
    np.testing.assert_array_equal(store.read(layer, "every/q"), store.read(layer, "q_each"))
    np.testing.assert_array_equal(store.read(layer, "every/csi"), store.read(layer, "csi"))


def test_a_scan_computes_a_null_in_the_same_pass(
    fusiform: Command, stimuli: Path, scanned: Path
) -> None:
    answer = fusiform(
        "scan", "resnet18", stimuli, "-o", "null.zarr", *SMALL, "--null", "20", "--null-units", "50"
    )
    assert answer.code == 0
    price = "null: 20 shuffles of the labels, on 50 units of every layer (all of a smaller one): "
    assert any(line.startswith(price) for line in answer.err.splitlines())
    assert answer.err.index(price) < answer.err.index("scan 18/18")
    store, other = open_store("null.zarr"), open_store(scanned)
    assert store.provenance["null"] == {"shuffles": 20, "units": 50, "seed": 0}
    assert store.provenance["fingerprint"] != other.provenance["fingerprint"]
    for layer in store.layers:  # the scan itself is the same without it
        np.testing.assert_array_equal(store.read(layer, "m2"), other.read(layer, "m2"))
    answer = fusiform("summary", "null.zarr", "--test", "rest", "--where", "p_null <= 0.05")
    assert "chance %" in answer.out
    assert "chance: the mean share selected under shuffled labels" in answer.out
    asked = ("summary", "null.zarr", "--format", "json", "--where", "t > 0")
    rows = rows_of(fusiform(*asked).out)
    assert rows
    assert all(0 < row["chance"] <= row["chance_95"] < 1 for row in rows)
    refused = fusiform("scan", "resnet18", stimuli, "-o", "n.zarr", *SMALL, "--null", "-1")
    assert_refused(refused, "-1 shuffles")


def test_summary_says_when_one_fold_allows_no_replication(fusiform: Command, stimuli: Path) -> None:
    fusiform("scan", "resnet18", stimuli, "-o", "out.zarr", "-q", *SMALL, "--folds", "1")
    answer = fusiform("summary", "out.zarr")
    assert (
        "out.zarr: the scan had --folds 1: replication and unbiased measures need two folds"
        in answer.out
    )
    rows = rows_of(fusiform("summary", "out.zarr", "--format", "json").out)
    assert {row["replicated"] for row in rows} == {None}
    assert {row["csi"] for row in rows} == {None}
    # An option that equals the default of a scan, but not this scan, is refused as any other.
    follow = ("record", "resnet18", stimuli, "--from", "out.zarr", "-o", "r.zarr", "--random", "1")
    assert_refused(fusiform(*follow, "--folds", "2"), "with folds 1, and 2 is asked for")
    assert_refused(fusiform(*follow, "--weights", "default"), "with weights none, and default")


def test_layers_lists_the_recordable_layers(fusiform: Command) -> None:
    answer = fusiform("layers", "resnet18", "--crop", "64", "--json")
    assert answer.code == 0
    assert answer.err == ""
    found = json.loads(answer.out)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["layer1.0"] == {
        "name": "layer1.0", "kind": "BasicBlock", "dims": ["channel", "y", "x"],
        "shape": [64, 16, 16], "dtype": "float32", "units": 16384, "state_bytes": 327680,
        "default": True,
    }  # fmt: skip
    assert [name for name, layer in layers.items() if layer["default"]] == [
        "maxpool",
        *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)),
        "avgpool",
    ]
    assert "is called 2 times" in found["refused"]["layer1.0.relu"]


def test_layers_is_a_table_for_people(fusiform: Command) -> None:
    answer = fusiform("layers", "resnet18", "--crop", "64")
    rows = [line.split("  ") for line in answer.out.splitlines()]
    (block,) = [[cell.strip() for cell in row if cell] for row in rows if row[0] == "layer1.0"]
    assert block == [
        "layer1.0", "default", "16,384", "64 x 16 x 16", "channel, y, x", "BasicBlock", "320 KiB",
    ]  # fmt: skip
    assert "--layers blocks (the default): 10 layers" in answer.out
    assert "not recordable: layer1.0.relu is called 2 times in a forward pass" in answer.out


def test_stimuli_can_be_made_and_scrambled(fusiform: Command) -> None:
    answer = fusiform("stimuli", "make", "made", "--per-category", "2", "--size", "48")
    assert answer == (0, "drew 12 stimuli in made\n", "")
    assert len(list(Path("made").glob("*/*.png"))) == 12
    answer = fusiform("stimuli", "scramble", "made/faces", "-o", "scrambled", "--method", "blocks")
    assert answer == (0, "scrambled 2 images into scrambled\n", "")
    assert len(list(Path("scrambled").rglob("*.png"))) == 2


# Querying, merging, checking


def test_a_query_counts_and_shows_units(fusiform: Command, scanned: Path) -> None:
    store = open_store(scanned)
    answer = fusiform("query", scanned, "blobs: t > 2 and csi > 0.01", "--layers", "layer4.*")
    head, _, row = answer.out.splitlines()
    assert head.split() == ["layer", "contrast", "matching", "%", "units"]
    layer = store.layer("layer4.1")
    t, csi = store.read(layer, "t")[0], store.read(layer, "csi")[0]
    matching = int(((t > 2) & (csi > 0.01)).sum())
    share = f"{100 * matching / layer.units:.4g}"
    assert row.split() == ["layer4.1", "blobs", f"{matching:,}", share, f"{layer.units:,}"]
    answer = fusiform("query", scanned, "blobs: t > 2", "--top", "3", "--layers", "layer4.1")
    assert answer.out.splitlines()[0].split() == [
        "layer", "contrast", "channel", "y", "x", "t", "t_each", "q_each", "csi", "d_prime",
        "mean", "blobs", "mean", "noise", "mean", "stripes",
    ]  # fmt: skip
    assert len(answer.out.splitlines()) == 5
    assert f"{np.sort(t)[-1]:.4g}" in answer.out.splitlines()[2]
    every = ("dead", "--list", "--columns", "dead,t", "--all")
    flags = fusiform("query", scanned, *every).out.splitlines()
    assert all(line.split()[-2:] == ["yes", "0"] for line in flags[2:])


def test_a_query_is_written_in_every_format(fusiform: Command, scanned: Path) -> None:
    query = ("query", scanned, "t > 1", "--list", "--columns", "t")
    rows = json.loads(fusiform(*query, "--format", "json").out)
    assert len(rows) > 10
    lines = fusiform(*query, "--format", "csv").out.splitlines()
    assert len(lines) == len(rows) + 1
    for form in ("csv", "json", "parquet", "npz"):
        answer = fusiform(*query, "--format", form, "-o", f"units.{form}")
        assert (answer.code, answer.out) == (0, "")
        assert answer.err == f"wrote {len(rows):,} rows to units.{form}\n"
    assert Path("units.csv").read_text().splitlines() == lines
    with np.load("units.npz", allow_pickle=False) as columns:
        assert columns["t"].tolist() == np.array([row["t"] for row in rows], "f4").tolist()


def test_a_query_of_several_stores_names_them(fusiform: Command, scanned: Path) -> None:
    stores = (scanned, scanned)
    answer = fusiform("query", *stores, "blobs: t > 1", "--per", "contrast")
    assert [line.split()[0] for line in answer.out.splitlines()] == [
        "store", "-" * len(str(scanned)), str(scanned), str(scanned),
    ]  # fmt: skip
    answer = fusiform("query", *stores, "t > 1", "--top", "4", "--columns", "t")
    values = [line.split()[-1] for line in answer.out.splitlines()[2:]]
    assert len(values) == 4
    assert values[0] == values[1]


def test_a_query_gives_distributions(fusiform: Command, scanned: Path) -> None:
    answer = fusiform("query", scanned, "t > 1", "--quantiles", "csi", "--per", "layer")
    assert answer.out.split()[:7] == ["layer", "units", "q5", "q25", "q50", "q75", "q95"]
    answer = fusiform("query", scanned, "t > 1", "--histogram", "t", "--bins", "3")
    assert answer.out.split()[:5] == ["layer", "contrast", "from", "to", "units"]
    assert len(answer.out.splitlines()) == 2 + 2 * 3 * 3


def test_mistakes_in_a_query_are_one_line(fusiform: Command, scanned: Path) -> None:
    answer = fusiform("query", scanned, "blobs: t > 5 an csi > 0.3")
    assert answer.err.splitlines() == [
        "error: a rule continues where it should end; got 'an'",
        "  blobs: t > 5 an csi > 0.3",
        "               ^",
    ]
    for stores in ((scanned,), (scanned, scanned), ("t > 1",)):
        assert_refused(fusiform("query", *stores), "stores and, last, a query")
    assert_refused(fusiform("query", scanned, "t > 1", "--top", "3", "--list"), "one table")
    assert_refused(fusiform("query", scanned, "t > 1", "-o", "x.txt"), "choose --format")
    assert_refused(fusiform("query", scanned, "t > 1", "--format", "npz"), "name one with --output")
    assert_refused(fusiform("query", "gone.zarr", "t > 1"), "no store at gone.zarr")
    assert_refused(fusiform("query", scanned, "t > 1", "--saved", "x"), "nothing is saved")


def test_a_query_needs_neither_torch_nor_dask(scanned: Path) -> None:
    out = in_subprocess(
        f"import sys; sys.argv = ['fusiform', 'query', {str(scanned)!r}, 't > 5 and csi > 0.3']\n"
        "from fusiform.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'dask', 'xarray', 'pandas', 'numba') if m in sys.modules])"
    )
    assert out.splitlines()[-1] == "[]"


def test_stores_are_merged_and_checked(fusiform: Command, scanned: Path, stimuli: Path) -> None:
    for layer in ("layer4.1", "avgpool"):
        small = [layer if option == "layer4.1,avgpool" else option for option in SMALL]
        assert fusiform("scan", "resnet18", stimuli, "-o", f"{layer}.zarr", *small).code == 0
    answer = fusiform("merge", "layer4.1.zarr", "avgpool.zarr", "-o", "both.zarr")
    assert answer == (0, "", "wrote both.zarr: 2 layers, 3 categories, 18 stimuli\n")
    both, whole = open_store("both.zarr"), open_store(scanned)
    for layer in whole.layers:
        np.testing.assert_array_equal(both.read(layer, "mean"), whole.read(layer, "mean"))
    assert_refused(
        fusiform("merge", "both.zarr", "both.zarr", "-o", "again.zarr"), "both have layer4.1"
    )
    answer = fusiform("check", "both.zarr", "avgpool.zarr")
    assert answer.code == 0
    assert [line.split(" (")[0] for line in answer.out.splitlines()] == [
        "both.zarr: whole", "avgpool.zarr: whole",
    ]  # fmt: skip
    (chunk,) = Path("both.zarr/avgpool/t").glob("c.*")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    answer = fusiform("check", "avgpool.zarr", "both.zarr")
    assert answer.code == 1
    assert answer.out.splitlines()[1] == "both.zarr: damaged"
    assert answer.out.splitlines()[2].startswith("  avgpool/t: file c.0.0.0.0 is cut short")
    assert_refused(fusiform("query", "both.zarr", "t > 1"), "cannot read avgpool/t")


# Start-up


HEAVY = ["torch", "torchvision", "numba", "dask", "zarr", "xarray", "scipy", "numpy", "PIL"]


@pytest.mark.parametrize(
    "code",
    [
        "import fusiform",
        "import fusiform.cli",
        "import sys; sys.argv = ['fusiform', '--help']; from fusiform.cli import main; main()",
        "import sys; sys.argv = ['fusiform', 'scan', '-h']; from fusiform.cli import main; main()",
    ],
)
def test_starting_imports_no_heavy_library(code: str) -> None:
    loaded = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    out = in_subprocess(f"try:\n    {code}\nexcept SystemExit:\n    pass\n{loaded}")
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["summary", "analyse"])
def test_reading_commands_do_not_import_torch(scanned: Path, command: str) -> None:
    out = in_subprocess(
        f"import sys; sys.argv = ['fusiform', {command!r}, {str(scanned)!r}]\n"
        "from fusiform.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('torch' in sys.modules)"
    )
    assert "avgpool" in out
    assert out.splitlines()[-1] == "False"


def test_help_names_every_command(fusiform: Command) -> None:
    answer = fusiform("--help")
    assert answer.code == 0
    for command in ("demo", "layers", "scan", "summary", "analyse", "select", "query", "merge",
                    "check", "doctor", "bench", "stimuli"):  # fmt: skip
        assert f"\n  {command} " in answer.out
    assert answer.out == fusiform("-h").out


def test_the_version_is_that_of_the_package(fusiform: Command) -> None:
    assert fusiform("--version") == (0, version("fusiform") + "\n", "")
    module = subprocess.run(
        [sys.executable, "-m", "fusiform", "--version"], capture_output=True, text=True, check=True
    )
    assert module.stdout == version("fusiform") + "\n"
    assert module.stderr == ""


def test_a_folder_that_hides_the_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "fusiform").mkdir()
    code = """if True:
        import sys
        import fusiform.cli
        sys.modules["fusiform"].__file__ = None  # as of a folder without __init__.py
        sys.modules["fusiform"].__path__ = ["fusiform"]
        sys.argv = ["fusiform", "info", "x.zarr"]
        fusiform.cli.main()
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    hiding = (tmp_path / "fusiform").resolve()
    said = f"the folder {hiding} hides the package fusiform: start elsewhere"
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip().endswith(said)
    assert len(done.stderr.splitlines()) == 1


# Non-finite activations

_NUMBERS = """
import torch
from torch import nn

class Poisoned(nn.Module):
    def __init__(self, poison=True):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.layer, self.poison = nn.Conv2d(3, 8, 8, stride=8), nn.Identity(), poison

    def forward(self, images):
        values = self.conv(images)
        if self.poison and len(images) > 2:  # for some stimuli, in units of one map each
            values[1, 0, 0, 0] = torch.nan
            values[0, 1, 0, 0] = torch.inf
            values[2, 2, 0, 0] = -torch.inf
            values[0, 3, 0, 0], values[1, 3, 0, 0] = torch.inf, -torch.inf
        return self.layer(values)

def poisoned():
    return Poisoned()

def sound():
    return Poisoned(poison=False)

def half():
    model = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU())
    with torch.no_grad():
        model[0].bias.zero_()
        model[0].weight[0] = 1e4  # sums of 192 inputs of about 1
    return model.half()
"""
_TINY = ["--resize", "32", "--crop", "32", "--device", "cpu", "-q"]


def test_overflow_of_half_precision_is_named(
    fusiform: Command, stimuli: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module(_NUMBERS)
    answer = fusiform("scan", f"{module}:half", stimuli, "-o", "h.zarr", "--layers", "1", *_TINY)
    assert answer.code == 0, answer.err
    store = open_store("h.zarr")
    layer = store.layer("1")
    assert layer.dtype == "float16"
    nonfinite = store.read(layer, "nonfinite")
    maps = nonfinite.reshape(layer.shape)
    assert maps[0].any()  # only the first map overflows
    assert not maps[1:].any()
    assert not store.read(layer, "selective")[:, nonfinite].any()
    said = [line for line in fusiform("summary", "h.zarr").out.splitlines() if "warning" in line]
    assert said == [
        f"warning: {nonfinite.sum()} units of 1 in h.zarr gave NaN or infinity: float16 holds "
        "nothing above 65,504, this is most likely overflow: scan in bfloat16 or float32"
    ]


def test_non_finite_activations_poison_their_own_unit_only(
    fusiform: Command, stimuli: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module(_NUMBERS)
    for name in ("poisoned", "sound"):
        scan = ["scan", f"{module}:{name}", stimuli, "-o", f"{name}.zarr", "--layers", "layer"]
        assert fusiform(*scan, *_TINY).code == 0
    poisoned, sound = open_store("poisoned.zarr"), open_store("sound.zarr")
    layer = sound.layer("layer")
    maps = np.zeros(layer.shape, bool)
    maps[:4, 0, 0] = True
    bad = maps.ravel()
    np.testing.assert_array_equal(poisoned.read(layer, "nonfinite"), bad)
    for name in ("mean", "m2", "t", "t_each", "csi", "dead"):
        found, there = poisoned.read(layer, name), sound.read(layer, name)
        assert found[..., ~bad].tobytes() == there[..., ~bad].tobytes(), name

    answer = fusiform("summary", "poisoned.zarr", "--where", "t > -1e9")
    assert answer.out.splitlines()[-1] == (
        "warning: 4 units of layer in poisoned.zarr gave NaN or infinity"
    )
    assert "warning" not in fusiform("summary", "sound.zarr").out
    rules = ("t > -1e9", "t > 0 or t <= 0", "top 100% by csi", "preferred")
    for name, rule in zip("abcd", rules, strict=True):
        saved = fusiform(
            *("select", "poisoned.zarr", "--contrast", "blobs", "--where", rule, "--save", name),
            *("--format", "json"),
        )
        assert saved.code == 0, saved.err
        (row,) = rows_of(saved.out)
        assert row["nonfinite"] == 4
        masks = open_store("poisoned.zarr").tree()[f"layer/{name}"]
        for mask in ("selective", "selective_fold"):
            assert masks[mask].values.any()
            assert not masks[mask].values[..., maps].any(), (rule, mask)


def test_a_note_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    stream = SimpleNamespace(write=written.append, flush=lambda: None)
    monkeypatch.setattr(sys, "stderr", stream)
    notes.note("skipped: a.jpg")
    assert written == ["skipped: a.jpg\n"]
