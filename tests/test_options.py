"""Command-line options: every repeated name counts, and mistakes raise before any work."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest

import fusiform
from fusiform.cli import main
from fusiform.commands.parsing import names, numbers, paths

from .fuzz.options import options

Run = Callable[..., tuple[int, str, str]]
LAYERS = ("layer4.1", "avgpool")
TWICE = ("--layers", "layer4.1", "--layers", "avgpool")
# Options that take one text; a new option with several names must be repeatable instead.
SINGLE = {
    "by", "device", "for", "from", "histogram", "interpolation", "memory-budget", "model",
    "output", "preset", "quantiles", "readout", "save", "saved", "scheduler", "units", "weights",
    "where",
}  # fmt: skip


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fusiform", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture(scope="module")
def folder(two_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``two_stores`` that commands may change."""
    return shutil.copytree(two_stores, tmp_path_factory.mktemp("options") / "scanned")


# Several names


def test_an_option_that_takes_several_names_can_be_repeated() -> None:
    found = list(options())
    assert len(found) > 150
    for command, flag, kind, said in found:
        is_list = kind in (list[str], list[str] | None)
        takes_several = re.search(r"commas|repeatable|,\.\.\.", said) is not None
        assert takes_several == is_list, f"{command} {flag}: {said}"
        assert not is_list or re.search(r"commas|,\.\.\.", said), f"{command} {flag}: {said}"
        assert not is_list or "repeatable" in said.lower(), f"{command} {flag}: {said}"
        assert kind not in (str, str | None) or flag in SINGLE, f"{command} {flag}: several names?"


def test_an_option_means_one_thing_in_every_command() -> None:
    def plain(kind: Any) -> Any:
        (one,) = set(get_args(kind)) - {NoneType} if NoneType in get_args(kind) else (kind,)
        return str if one is Path else one  # a path may also be a URL

    kinds: dict[str, set[Any]] = {}
    commands: dict[str, set[str]] = {}
    for command, flag, kind, _ in options():
        kinds.setdefault(flag, set()).add(plain(kind))
        commands.setdefault(flag, set()).add(command)
    assert not {flag: own for flag, own in kinds.items() if len(own) > 1}
    asking = {"summary", "select", "analyse", "compare", "lesion", "plot", "report", "responses"}
    assert commands["contrast"] == asking  # a query has a language of its own
    assert commands["units"] == {"layers", "plan", "scan", "record"}
    assert commands["by"] == {"record", "query"}
    assert commands["against"] == {"compare"}
    showing = {"plan", "scan", "record", "lesion"}
    assert commands["groups"] == showing | {"stimuli check", "stimuli pack"}


def test_repeated_and_joined_names_are_all_taken() -> None:
    assert names(["a", " b, c"], "z") == ["a", "b", "c"]
    assert names(None, "y", "z") == ["y", "z"]
    assert numbers(["8", "32,128"], 1) == [8, 32, 128]


def test_paths_that_exist_may_have_commas(tmp_path: Path) -> None:
    (tmp_path / "a,b").touch()
    given = f"{tmp_path}/a,b"
    assert paths([given, "c, d", "e"]) == [given, "c", "d", "e"]
    assert paths(None) == []


@pytest.mark.parametrize(
    "command",
    [
        "summary a.zarr --format json", "select a.zarr --contrast blobs --format json",
        "analyse a.zarr shares --format json", "query a.zarr t>-1e9 --format json",
        "compare a.zarr b.zarr --resamples 5 --format json",
        "responses r.zarr tuning --format json", "responses r.zarr units --format json",
    ],
)  # fmt: skip
def test_repeated_layers_are_all_in_the_answer(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder)
    code, out, _ = run(*command.split(), *TWICE)
    assert code == 0
    assert all(f'"layer": "{layer}"' in out for layer in LAYERS)
    assert run(*command.split(), "--layers", ",".join(LAYERS))[1] == out
    alone = run(*command.split(), "--layers", "avgpool")[1]
    assert '"layer": "layer4.1"' not in alone


@pytest.mark.parametrize(
    "command",
    [
        "summary a.zarr --format json", "select a.zarr --format json",
        "analyse a.zarr shares --format json",
        "compare a.zarr b.zarr --resamples 5 --format json", "responses r.zarr auc --format json",
    ],
)  # fmt: skip
def test_contrasts_are_given_alike_in_every_command(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder)
    asked = ("blobs > noise", "stripes")
    code, out, err = run(*command.split(), "--contrast", asked[0], "--contrast", asked[1])
    assert code == 0, err
    assert set(re.findall(r'"contrast": "(.*?)"', out)) == set(asked)
    assert run(*command.split(), "--contrast", ", ".join(asked))[1] == out


def test_every_other_list_option_takes_all_repeated_names(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    query = ("query", "a.zarr", "blobs: t > -1e9", "--format", "json", "--layers", "avgpool")
    (row, *_) = json.loads(run(*query, "--per", "layer", "--per", "contrast")[1])
    assert {"layer", "contrast"} <= row.keys()
    (row, *_) = json.loads(run(*query, "--list", "--columns", "t", "--columns", "csi")[1])
    assert {"t", "csi"} <= row.keys()
    compared = ("compare", "a.zarr", "b.zarr", "--resamples", "5", "--format", "json")
    out = json.loads(run(*compared, "--measures", "share", "--measures", "gini")[1])
    measured = {one["quantity"].removesuffix("_difference") for one in out}
    assert measured == {"share", "gini"}
    analysed = ("analyse", "a.zarr", "shares", "--format", "json", "--resamples", "5")
    out = json.loads(run(*analysed, "--agreement", "floc", "--agreement", "prince2024")[1])
    agreed = [one for one in out if (one["analysis"], one["quantity"]) == ("agreement", "jaccard")]
    assert len(agreed) == 2 * 3 * 3  # layers, categories, pairs of three criteria
    page = tmp_path / "page.html"
    assert run("report", "a.zarr", "-o", page, "--resamples", "5", "-q", *TWICE)[0] == 0
    block = re.search(r'id="findings">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert block
    assert set(json.loads(block[1])["stores"][0]["layers"]) == set(LAYERS)


# Errors before any work

BEFORE_WORK = {
    "report a.zarr -o nodir/x.html": "nodir is none: make it",
    "report a.zarr -o .": "is a folder: name a file",
    "report a.zarr -o x.html --layers nosuch": "no layer",
    "report a.zarr -o x.html --contrast nosuch": "nosuch",
    "report a.zarr -o x.html --figures a.zarr/zarr.json": "figures are written into a folder",
    "report a.zarr -o x.html --figures loop": "figures are written into a folder",
    "query a.zarr t>0 --list --format csv -o nodir/x.csv": "nodir is none: make it",
    "query a.zarr t>0 --list --format csv -o a.zarr": "is a folder: name a file",
    "query a.zarr t>0 --list --format parquet": "name one with --output",
    "query a.zarr t>0 --list --format npz": "name one with --output",
    "query a.zarr t>0 -o x.txt": "choose --format",
    "query a.zarr b.zarr t>0 --top 3 -o x": "choose --format",
    "query a.zarr t>0 -o x.csv --format json": "got json for x.csv: leave out --format",
    "summary a.zarr -o x.csv --format table": "a table is printed",
    "select a.zarr --contrast blobs -o x.csv --format parquet": "end the file in .parquet",
    "analyse a.zarr -o nodir/x.csv": "nodir is none: make it",
    "compare a.zarr b.zarr --format parquet": "name one with --output",
    "summary a.zarr --guard-formulas": "formulas are guarded in csv only",
    "responses r.zarr rdm -o nodir/x.npz": "nodir is none: make it",
    "responses r.zarr auc -o x.txt": "choose --format",
    "select a.zarr --contrast blobs --save mine --layers nosuch": "no layer",
    "select a.zarr --contrast blobs --save bad/name": "letters, digits",
    "select a.zarr --contrast blobs --save mine --measures p_null": "--null 100",
    "select a.zarr --contrast blobs --measures t": "--measures is for --save",
    "query a.zarr t>0 --by csi": "--by is for --top",
    "query a.zarr t>0 --bins 5": "--bins is for --histogram",
    "query a.zarr t>0 --columns t": "--columns is for --top or --list",
    "query a.zarr t>0 --list --per layer": "--per is for counts",
    "responses r.zarr auc --top 2": "--top is for best",
    "responses r.zarr units --similarity cka": "--similarity is for layers",
    "merge a.zarr b.zarr -o nodir/m.zarr": "must exist",
    "scan resnet18 stimuli -o nodir/s.zarr": "must exist",
    "record resnet18 stimuli --from a.zarr -o nodir/r.zarr": "must exist",
    "stimuli pack stimuli -o nodir/p.zarr": "must exist",
    "stimuli scramble stimuli -o a.zarr": "new or empty folder",
    "stimuli make a.zarr": "a.zarr",
}


@pytest.mark.parametrize("command", BEFORE_WORK)
def test_invalid_options_are_refused_before_any_work(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from fusiform.engine.querying.search import Search
    from fusiform.engine.store.recording_reader import RecordingReader
    from fusiform.engine.store.store_reader import StoreReader

    def worked(*_: Any, **__: Any) -> None:
        raise AssertionError("it worked before it refused")

    monkeypatch.chdir(folder)
    if not (folder / "loop").is_symlink():
        (folder / "loop").symlink_to("loop")
    for place, name in (
        (StoreReader, "stacked_moments"),
        (StoreReader, "read_slab"),
        (Search, "map"),
    ):
        monkeypatch.setattr(place, name, worked)
    monkeypatch.setattr(RecordingReader, "part", worked, raising=False)
    before = sorted(os.listdir(folder))  # noqa: PTH208
    code, out, err = run(*command.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert BEFORE_WORK[command] in err
    assert sorted(os.listdir(folder)) == before  # noqa: PTH208


def test_a_refused_query_leaves_earlier_files_alone(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    kept = tmp_path / "kept.csv"
    kept.write_text("two years of work")
    for form in ("csv", "json"):
        asked = ("query", "a.zarr", "t > 0", "--list", "--columns", "nosuch", "--format", form)
        assert run(*asked, "-o", kept)[0] == 2
        assert run(*asked)[1] == ""
    assert kept.read_text() == "two years of work"


def test_saved_contrasts_stay_when_a_later_one_is_refused(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run("select", "b.zarr", "--contrast", "blobs", "--save", "mine")[0] == 0
    again = ("select", "b.zarr", "--contrast", "blobs - noise", "--save", "mine")
    assert run(*again, "--pairwise")[0] == 2
    assert run(*again, "--where", "p_null < 1")[0] == 2
    assert "mine" in fusiform.open_store(folder / "b.zarr").saved
    assert run("query", "b.zarr", "t > 0", "--saved", "mine")[0] == 0
