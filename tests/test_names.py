"""Arbitrary names of folders, files and stores are kept unchanged and displayed safely."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fusiform
from fusiform import cli
from fusiform.engine.store.store_reader import StoreReader
from fusiform.engine.texts import printable

from . import flat
from .records import rows_of

# Used as category folders and at the start of file names.
NASTY = (
    "<script>alert('1')",
    "<b>&amp;",
    "\x1b[31mred",
    "\x9b2J",
    "two\nlines",
    "back\rwards\tand\bforth",
    "\u202etxt.exe",
    'one, "two"; three',
    "-rf *",
    "🙂",
    "e\u0301",
    "x" * 255,
    "%s {0} $HOME",
)
LAYER = "conv"


class Nasty(nn.Sequential):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.add_module(LAYER, nn.Conv2d(3, 4, 3, stride=5))


def draw(folder: Path, names: tuple[str, ...] = NASTY, each: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for index, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for image in range(each):
            pixels = rng.integers(0, 100 + 10 * index, (20, 20, 3), dtype=np.uint8)
            file = f"{os.fsdecode(os.fsencode(name)[:240])}-{image}.png"
            Image.fromarray(pixels).save(folder / name / file)
    return folder


def scan(stimuli: Path, output: Path) -> StoreReader:
    size = {"resize": 20, "crop": 20}
    layers = [LAYER]
    return flat.scan(
        Nasty(), stimuli, output, layers=layers, preprocessing=size, batch_size=8, device="cpu"
    )


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("stimuli"))


@pytest.fixture(scope="module")
def store(stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    # The store's own name holds control characters too.
    return scan(stimuli, tmp_path_factory.mktemp("store") / "\x1b]0;title\x07\u202e.zarr")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line; returns exit code, stdout, stderr."""

    def answer(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fusiform", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code or 0, *capsys.readouterr()  # type: ignore[return-value]

    return answer


def obeyed(printed: str) -> list[str]:
    """Control and invisible characters of a text."""
    return [c for c in printed if c != "\n" and not c.isprintable()]


def escaped(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def test_names_are_stored_unchanged(store: StoreReader, stimuli: Path) -> None:
    reopened = fusiform.open_store(store.path)
    assert sorted(reopened.categories) == sorted(NASTY)
    kept = [str(name) for name in reopened.stimulus_column("stimulus_path")]
    there = [f"{p.parent.name}/{p.name}" for p in stimuli.rglob("*.png")]
    assert sorted(kept) == sorted(there)


@pytest.mark.parametrize(
    "command",
    [
        ["summary"],
        ["summary", "--where", "t > 0"],
        ["select"],
        ["check"],
        ["query", "t > 0"],
        ["query", "t > -1e9", "--top", "30"],
        ["query", "t > -1e9", "--list", "--columns", "means"],
    ],
)
def test_no_command_prints_control_characters_of_names(
    run: Run, store: StoreReader, command: list[str]
) -> None:
    name, *rest = command
    code, out, err = run(name, store.path, *rest)
    assert code == 0
    assert obeyed(out + err) == []
    if name in ("summary", "select"):
        lines = out.splitlines()
        for category in NASTY:
            assert sum(escaped(category) in line for line in lines) == 1
        assert "\\x1b]0;title\\x07\\u202e.zarr" in lines[0]


def test_a_summary_of_two_stores_prints_no_control_characters(run: Run, store: StoreReader) -> None:
    code, out, err = run("summary", store.path, store.path)
    assert (code, obeyed(out + err)) == (0, [])


def test_scanning_prints_no_control_characters_of_names(
    run: Run, stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module("from torch import nn\ndef make(): return nn.Conv2d(3, 4, 3, stride=5)\n")
    output = tmp_path / "\x1b[2J\n.zarr"
    code, out, err = run(
        "scan", f"{module}:make", stimuli, "-o", output, "--resize", "20", "--crop", "20",
        "--layers", "output", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert obeyed(out + err) == []
    assert "\\x1b[2J\\n.zarr" in err
    assert sorted(fusiform.open_store(output).categories) == sorted(NASTY)


@pytest.mark.parametrize("name", NASTY)
def test_every_category_name_can_be_queried(run: Run, store: StoreReader, name: str) -> None:
    quoted = f"'{name}'" if '"' in name else f'"{name}"'
    code, out, err = run("select", store.path, "--contrast", quoted)
    assert code == 0, err
    assert obeyed(out + err) == []
    code, out, err = run("query", store.path, f"{quoted}: t > -1e9", "--format", "csv")
    assert code == 0, err
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["contrast"].strip("'\"") == name.strip("'\"")


@pytest.mark.parametrize("name", NASTY)
def test_every_displayed_name_is_accepted_as_a_contrast(
    run: Run, store: StoreReader, name: str
) -> None:
    code, out, err = run("query", "--format", "json", "--", store.path, f"{name}: t > -1e9")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["contrast"] == name
    code, out, err = run("select", "--format", "json", store.path, f"--contrast={name}")
    assert code == 0, err
    assert [row["contrast"] for row in rows_of(out)] == [name]


def test_csv_and_json_keep_names_unchanged(run: Run, store: StoreReader) -> None:
    for form, read in (
        ("csv", lambda text: list(csv.DictReader(io.StringIO(text, newline="")))),
        ("json", json.loads),
    ):
        code, out, _ = run("query", store.path, "t > -1e9", "--format", form)
        assert code == 0
        assert sorted(row["contrast"] for row in read(out)) == sorted(NASTY)
    code, out, _ = run("summary", store.path, "--format", "json")
    assert code == 0
    assert obeyed(out) == []
    assert sorted(row["contrast"] for row in rows_of(out)) == sorted(NASTY)


def test_json_escapes_names_to_ascii(run: Run, store: StoreReader) -> None:
    _, out, _ = run("query", store.path, "t > -1e9", "--format", "json")
    assert out.isascii()  # for any encoding of stdout


@pytest.mark.parametrize(
    "command",
    [
        ["summary", "nowhere\x1b[31m\n\u202e"],
        ["check", "\ud800"],
        ["scan", "resnet18", "no\x9bstimuli", "-o", "x.zarr"],
        ["query", "gone\n", "t > 0"],
        ["query", "gone", "x" * 5000],
        ["stimuli", "scramble", "gone\x07", "-o", "out"],
    ],
)
def test_errors_about_any_name_are_one_line(
    run: Run, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*command)
    assert code in (1, 2)
    assert obeyed(out + err) == []
    assert command[0] == "check" or err.count("\n") == 1  # check lists one problem per line
    assert "Traceback" not in err


def test_a_name_in_a_syntax_error_adds_no_line(run: Run, store: StoreReader) -> None:
    code, _, err = run("select", store.path, "--contrast", "'two\nline'")
    assert code == 2
    assert obeyed(err) == []
    assert err.count("\n") == 3  # the mistake, the text, the caret


def test_a_locale_that_cannot_encode_names_does_not_crash(
    store: StoreReader, tmp_path: Path
) -> None:
    path = shutil.copytree(store.path, tmp_path / "plain.zarr")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    for form in ("table", "json", "csv"):
        done = subprocess.run(
            [sys.executable, "-m", "fusiform", "query", path, "t > -1e9", "--format", form],
            capture_output=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert (b"\\U0001f642" in done.stdout) == (form != "json")
        if form == "json":
            assert "🙂" in [row["contrast"] for row in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain é 🙂 e\u0301", "plain é 🙂 e\u0301"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\u202e\u200b\u2028\ufeff", "\\u202e\\u200b\\u2028\\ufeff"),
        ("\udcff\x00\x7f\x9b", "\\udcff\\x00\\x7f\\x9b"),
        ("\\n", "\\n"),
    ],
)
def test_unprintable_characters_are_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_kept_as_escapes(run: Run, tmp_path: Path) -> None:
    names = tuple(map(os.fsdecode, (b"caf\xe9", b"\xff\xfe", b"plain")))
    output = tmp_path / "out.zarr"
    found = scan(draw(tmp_path / "stimuli", names), output)
    assert sorted(found.categories) == sorted(["caf\\xe9", "\\xff\\xfe", "plain"])
    paths = [str(name) for name in found.stimulus_column("stimulus_path")]
    assert "caf\\xe9/caf\\xe9-0.png" in paths
    code, out, err = run("summary", output)
    assert code == 0
    assert obeyed(out + err) == []
    assert "caf\\xe9" in out
