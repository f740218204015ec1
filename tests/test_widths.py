"""Tables, notes and help fit terminals of 60 to 200 columns; --wide and files have everything."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.commands import demo, notes
from fusiform.commands.fitting import continued, fit, shorten, width_as, width_of, wrap
from fusiform.commands.summaries import print_peaks
from fusiform.engine.bench.measure import Measurement
from fusiform.engine.doctor.checks import Finding
from fusiform.engine.errors import UserError
from fusiform.engine.responses.driving import driven

from . import flat
from .fuzz.options import LINES

WIDTHS = (60, 80, 120, 200)
NETWORK = '''
from collections import OrderedDict

from torch import nn
from fusiform import Preprocessing


def block():
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.Identity())


def make():
    """A network whose layers have long names; the last has one position."""
    encoder = nn.Sequential(OrderedDict(residual_block_1=block(), residual_block_2=block()))
    pooling = nn.AdaptiveAvgPool2d(1)
    net = nn.Sequential(OrderedDict(convolutional_encoder=encoder, average_pooling=pooling))
    return net, Preprocessing(resize=12, crop=12, mean=(0, 0, 0), std=(1, 1, 1))
'''
CATEGORIES = ("photographs_of_blobs", "photographs_of_noise", "photographs_of_stripes")
FOLDER = "folder_of_a_long_name/of_stores_that_were_scanned_and_are_compared_here"
A, B, R = (f"{FOLDER}/{name}.zarr" for name in ("trained", "untrained", "recorded"))
LAYER = "convolutional_encoder.residual_block_1"
CONTRAST = f"{CATEGORIES[0]} + {CATEGORIES[1]} > {CATEGORIES[2]}"
# Commands that print, and headings that stand at every width.
TABLES: dict[str, tuple[str, ...]] = {
    "layers long_names:make": ("layer", "units"),
    "plan long_names:make stimuli -q": ("layer", "units"),
    "stimuli check stimuli": (),
    f"info {A}": ("layer", "units"),
    f"info {R}": ("layer", "units", "recorded"),
    f"check {A} {R}": (),
    f"summary {A} --layers *pooling,*_1": ("layer", "category", "%", "CSI"),
    f"summary {A} {B} --layers *1,*pooling": ("layer", "category", "% 1", "% 2", "CSI 1", "CSI 2"),
    f"summary {A} {B} {A} {B} {A} {B} {A} --layers *pooling": (
        "layer",
        "category",
        "% 1",
        "% 7",
        "CSI 1",
        "CSI 7",
    ),
    f"select {A} --contrast|{CONTRAST}": ("layer", "contrast", "%", "CSI"),
    f"query {A}|t > 0": ("layer", "contrast", "matching", "%"),
    f"query {A} {B}|t > 0": ("store", "layer", "contrast", "matching"),
    f"query {A}|t > 0|--top 9": ("layer", "contrast", "channel", "t"),
    f"query {A} {B}|t > 0|--list": ("store", "layer", "contrast", "channel", "t"),
    f"query {A}|t > 0|--quantiles csi": ("layer", "contrast", "units"),
    f"query {A}|t > 0|--histogram csi": ("layer", "contrast", "from"),
    f"responses {R}": ("layer", "units"),
    f"responses {R} best": ("layer", "contrast", "unit", "AUC"),
    f"responses {R} auc": ("layer", "contrast", "AUC mean"),
    f"responses {R} tuning": ("layer", "chosen by", "units"),
    f"responses {R} rdm": ("layer", "between/within"),
    f"responses {R} ceiling": ("layer", "tuning"),
    f"responses {R} layers": ("layer",),
    f"analyse {A} --resamples 2": ("layer", "contrast", "%"),
    f"compare {A} {B} --resamples 2": ("layer", "contrast", "1", "2", "2 - 1"),
    f"compare {A} {B} {A} --resamples 2": ("layer", "contrast", "1", "2", "3"),
    f"compare {A} {B} {A} --at 0,5,143000 --resamples 2": ("layer", "contrast", "checkpoint 0"),
    f"compare {A} --roi regions.csv": ("region", "population", "layer", "r"),
    f"compare {A} {A} --localizers --resamples 2": ("layer", "contrast"),
    f"compare {A} {B} --roi regions.csv --control-units --where csi>0": (
        "region",
        "population",
        "layer",
        "r",
    ),
    f"compare {R} --roi images.csv": ("region", "population", "layer", "r"),
    "doctor -q": ("what", "found"),
    "bench -q": ("part", "what", "setting"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, draw_stimuli) -> Iterator[Path]:
    """Stimuli, stores and a recording with long names; the working directory."""
    root = tmp_path_factory.mktemp("widths")
    draw_stimuli(root / "stimuli", each=8)
    groups = {name: [name.rpartition("_")[2]] for name in CATEGORIES}
    (root / "long_names.py").write_text(NETWORK)
    rows = [f"region_of_interest_{n},{name},{k * n % 3}" for n in (1, 2)
            for k, name in enumerate(CATEGORIES)]  # fmt: skip
    (root / "regions.csv").write_text("\n".join(["region,category,response", *rows]))
    rows = [f"region_of_interest,{path.stem},{n % 5}"
            for n, path in enumerate(sorted((root / "stimuli").rglob("*.png")))]  # fmt: skip
    (root / "images.csv").write_text("\n".join(["region,stimulus,response", *rows]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.syspath_prepend(root)
        settings = {"device": "cpu", "groups": groups}
        for seed, path in enumerate((A, B)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            flat.scan("long_names:make", "stimuli", path, seed=seed, layers=["all"], **settings)
        flat.record("long_names:make", "stimuli", R, store=A, random=3, **settings)
        findings = [Finding("memory", "so much of it is free " * 9, "ask for less at once " * 9)]
        patch.setattr(fusiform, "doctor", lambda *_, **__: findings)
        row = Measurement("kernels", "a whole batch", "8 stimuli", 3.0, "GB/s", {"of memory": 0.5},
                          "with a note that is longer than any line would be " * 3)  # fmt: skip
        patch.setattr(fusiform, "bench", lambda *_, **__: [row])
        yield root
    sys.modules.pop("long_names", None)


def printed(line: str, width: int | None, *more: str) -> str:
    """What a command prints on a terminal of a width, or into a file."""
    words, *texts = line.split("|")
    asked = [*words.split(), *(texts[:1] if len(texts) else [])]
    asked += [word for text in texts[1:] for word in text.split()]
    environment = {"COLUMNS": None if width is None else str(width)}
    found = CliRunner().invoke(app, [*asked, *more], env=environment)
    assert found.exit_code in (0, 1), found.output
    assert found.exception is None or isinstance(found.exception, SystemExit), found.output
    return found.output


def heads(text: str) -> list[list[str]]:
    """The headings of every table: what stands above its dashes."""
    lines = text.splitlines()
    return [
        [above[start:stop].strip() for start, stop in
         (dashes.span() for dashes in re.finditer(r"-+", below))]
        for above, below in pairwise(lines)
        if re.fullmatch(r"-+(  -+)*", below)
    ]  # fmt: skip


def unnamed(text: str) -> str:
    """A text in one line, so that what is named in it can be found."""
    return " ".join(text.split())


@pytest.mark.parametrize("line", TABLES)
def test_lines_fit_and_what_is_left_out_is_named(folder: Path, line: str) -> None:
    whole = None if line.startswith("check") else printed(line, 60, "--wide")
    if whole is not None:
        assert "not shown" not in whole
        assert "shortened" not in whole
    for width in WIDTHS:
        text = printed(line, width)
        assert max(map(len, text.splitlines())) <= width
        assert whole is None or _is_named(whole, text, TABLES[line])


def _is_named(whole: str, text: str, needed: tuple[str, ...]) -> bool:
    """Whether what a narrow terminal lacks is named below the tables, and none that is needed."""
    narrow = unnamed(text)
    for every, some in zip(heads(whole), heads(text), strict=True):
        if "store" in set(some) - set(every):  # stores stand below one another
            needed = tuple(name.partition(" ")[0] for name in needed)
            assert "CSI, d', response: " in text
        elif "..." not in "".join(some):  # headings that are names may be shortened
            assert some == every[: len(some)]
            assert all(name in narrow for name in every[len(some) : len(some) + 8])
            assert len(some) == len(every) or "columns not shown: " in narrow
    if needed:
        assert set(needed) <= set(heads(text)[0])
    if LAYER in whole and LAYER not in narrow:
        assert "names shortened" in narrow
    assert "columns not shown" not in narrow or "--wide shows all" in narrow
    return True


@pytest.mark.parametrize("line", ["layers long_names:make", f"summary {A} {B}", f"info {A}"])
def test_output_for_files_and_pipes_is_complete(folder: Path, line: str) -> None:
    assert printed(line, None) == printed(line, 60, "--wide")
    assert LAYER in printed(line, None)


def test_a_hundred_percent_everywhere(folder: Path) -> None:
    text = printed(f"query {A}|csi > -9|--per contrast", 120)
    assert "share" not in text
    shares = [float(row.split()[2]) for row in text.splitlines()[2:5]]
    assert max(shares) > 1
    counted = fusiform.open_store(A).query("csi > -9").counts("contrast")
    assert shares == pytest.approx(100 * counted["share"], rel=1e-3)
    file = printed(f"query {A}|csi > -9|--per contrast --format csv", 60).splitlines()
    assert file[0] == "contrast,matching,units,share"
    assert float(file[1].split(",")[-1]) == counted["share"][0]


def test_one_position_is_no_place(folder: Path) -> None:
    text = printed(f"query {A}|t > -9|--top 99 --layers average*", 200)
    head, _, *rows = text.splitlines()
    assert head.split()[2:5] == ["channel", "y", "x"]
    assert all(row.split()[2] in "012" and row.split()[3:5] == ["-", "-"] for row in rows)
    best = printed(f"responses {R} best --layers average*", 200)
    assert re.search(r" channel [012]  ", best)
    assert " y 0" not in best
    assert re.search(r" channel \d y \d x \d  ", printed(f"responses {R} best", 200))
    assert {one.place["y"] for one in driven(fusiform.open_recording(R), layers="average*")} == {0}


def test_layers_that_do_nothing_are_explained(folder: Path) -> None:
    assert "Identity (passes on what it takes)" in printed("layers long_names:make", None)
    said = "residual_block_1.1, convolutional_encoder.residual_block_2.1: of type Identity"
    assert said in printed(f"summary {A}", None)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_demo_ends_in_lines_that_fit(
    folder: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    demo._print_answer([A, B], is_trained=True)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width or FOLDER in line for line in lines)
    assert any(line.startswith("layer ") for line in lines)


def test_notes_and_errors_break_at_words_and_carets_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    notes.note("a note of many words " * 9)
    query = f"{CATEGORIES[0]}: t > 1 and csi > 2 and {'t > 1 and ' * 5}nothing > 3"
    with pytest.raises(UserError) as refused:
        fusiform.open_store(A).query(query)
    notes.say("a mistake of many words " * 9, *refused.value.lines[1:])
    *wrapped, text, caret = capsys.readouterr().err.splitlines()
    assert max(map(len, wrapped)) <= 60
    assert len(wrapped) > 6
    assert query in text
    assert caret.strip() == "^"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_scan_ends_in_lines_that_fit(
    folder: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_peaks(fusiform.open_store(A), A)
    said = capsys.readouterr().err
    table, _, commands = said.partition("next: ")
    assert max(map(len, table.splitlines())) <= width
    assert heads(said)[0][:3] == ["category", "peaks in", "selective %"]
    assert unnamed(commands.replace("\\\n", "")) == (
        f"fusiform summary {A} fusiform report {A} -o {A.removesuffix('.zarr')}.html"
    )


# Help


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ["", "stimuli", *LINES])
def test_help_fits_and_is_whole(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    app([*command.split(), "--help"], standalone_mode=False)
    text = capsys.readouterr().out
    longest = max(map(len, text.splitlines()))
    assert longest <= min(width, 120)
    assert longest > 0.75 * min(width, 80)
    if command == "scan":
        assert longest > 0.9 * min(width, 120)
    if command in ("", "stimuli"):
        said = unnamed(text)
        assert "..." not in said.replace("[ARGS]...", "")
        for one in app_commands(command):
            assert one.help.partition("\n")[0].rstrip(".") in said


def app_commands(group: str) -> list[Any]:
    """The commands of the program, or of one of its groups."""
    found: Any = typer.main.get_command(app)
    return list((found.commands[group] if group else found).commands.values())


# The parts


def test_the_end_of_a_name_is_kept() -> None:
    assert shorten("vision_model.encoder.layers.11.mlp", 20) == "visio...ayers.11.mlp"
    assert shorten("avgpool", 7) == "avgpool"
    assert [len(shorten("a" * 40, width)) for width in (0, 3, 4, 39)] == [0, 3, 4, 39]


def test_lines_break_at_words_and_lose_nothing() -> None:
    text = "one two three four/five/six/seven/eight"
    assert wrap(text, None) == wrap(text, 99) == text
    assert wrap(text, 12) == "one two\n  three\n  four/five/\n  six/seven/\n  eight" or (
        wrap(text, 12).replace("\n  ", "").replace(" ", "") == text.replace(" ", "")
    )
    assert max(map(len, wrap(text, 12).splitlines())) <= 12


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_a_command_on_several_lines_is_one_to_a_shell() -> None:
    command = "fusiform summary a/long/path/of/a/store.zarr b.zarr c.zarr"
    lines = continued(command, 24, 4)
    assert lines == ("fusiform summary \\\n    a/long/path/of/a/store.zarr \\\n    b.zarr c.zarr")
    said = subprocess.run(["sh", "-c", f"echo {lines}"], capture_output=True, text=True, check=True)
    assert said.stdout == f"{command}\n"


def test_names_still_differ_where_they_can() -> None:
    names = [f"encoder.block{n}.attention.projection" for n in range(9)]
    table = [["layer", "%"], *([name, "1"] for name in names)]
    found = fit(table, {1}, (), 30)
    assert found.is_shortened
    assert found.left_out == []
    wider = [["layer", "%"], *([f"{n}{'x' * 9}{n % 2}{'y' * 20}", "1"] for n in range(9))]
    assert len(set(fit(wider, {1}, (), 60).columns[0])) == 10


def test_groups_of_columns_are_dropped_together() -> None:
    head = ["layer", "% 1", "% 2", "CSI 1", "CSI 2", "d' 1", "d' 2"]
    table = [head, ["conv", *(["1234567"] * 6)]]
    assert fit(table, range(1, 7), (), 50, 2).left_out == ["d' 1", "d' 2"]
    assert fit(table, range(1, 7), (), 50).left_out == ["d' 2"]
    assert fit(table, range(1, 7), (), 9, 2).left_out == head[3:]


def test_any_table_fits() -> None:
    drawn = random.Random(0)
    for _ in range(300):
        names, numbers = drawn.randint(1, 3), drawn.randint(1, 12)
        rows = [
            ["".join(drawn.choices("ab./", k=drawn.randint(0, 60))) for _ in range(names)]
            + ["9" * drawn.randint(1, 12) for _ in range(numbers)]
            for _ in range(drawn.randint(1, 6))
        ]
        head = ["".join(drawn.choices("hij", k=drawn.randint(0, 30))) for _ in rows[0]]
        width = drawn.choice((60, 80, 120, 200))
        right = range(names, names + numbers)
        found = fit([head, *rows], right, (), width)
        assert sum(found.widths) + 2 * (len(found.widths) - 1) <= width
        assert all(len(cell) <= own for cells, own in zip(found.columns, found.widths, strict=True)
                   for cell in cells)  # fmt: skip
        assert len(found.columns) + len(found.left_out) == len(head)
        for place in right[: len(found.columns) - names]:
            assert found.columns[place][1:] == [row[place] for row in rows]


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with (tmp_path / "out.txt").open("w") as file:
        assert width_of(file) is None
        monkeypatch.setenv("COLUMNS", "72")
        assert width_of(file) == 72
        with width_as(True):
            assert width_of(file) is None
        for odd in ("", "0", "x", "-3", "²"):
            monkeypatch.setenv("COLUMNS", odd)
            assert width_of(file) is None


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_a_terminal_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import os
    import pty
    import struct
    import termios

    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 97, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        assert width_of(terminal) == 97
    os.close(ours)
