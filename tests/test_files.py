"""Output files are written under a temporary name and renamed when complete."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import fusiform
from fusiform import UserError, open_recording, open_store
from fusiform.cli import main
from fusiform.engine import files
from fusiform.engine.files import new_file
from fusiform.engine.localizer import make_stimuli
from fusiform.engine.plotting import axes, figures
from fusiform.engine.querying import formats
from fusiform.engine.responses.geometry import write_matrices

from .fuzz import small

Write = Callable[[Path], object]
OLD = b"earlier"
KINDS = {
    "csv": "q.csv", "json": "q.json", "parquet": "q.parquet", "npz": "q.npz",
    "report": "r.html", "figures": "maps.svg", "matrices": "m.npz",
}  # fmt: skip


@pytest.fixture(scope="module")
def writers(
    made_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Write]]:
    """Every writer of a file, by kind; each takes the output path."""
    folder = tmp_path_factory.mktemp("recorded")
    make_stimuli(folder / "stimuli", per_category=4, size=48)
    recording = open_recording(small.record(folder / "stimuli", folder / "r.zarr"))
    query = open_store(made_path).query("t > -9")

    def write_table(form: Any) -> Write:
        return lambda output: formats.write(query.parts(["t"]), form, output, sys.stdout)

    def few(*_: object) -> Iterator[tuple[str, Any]]:
        yield "maps", axes.panels(2, 2)[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_figures", few)
        yield {
            **{form: write_table(form) for form in ("csv", "json", "parquet", "npz")},
            "report": lambda output: fusiform.report(
                [made_path], output, resamples=1, layers="head"
            ),
            "figures": lambda output: figures.write_figures({"layer": ""}, output.parent),
            "matrices": lambda output: write_matrices(recording, output, "head"),
        }


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, writers: dict[str, Write]) -> tuple[Write, str]:
    """A writer, and the name of its file."""
    return writers[request.param], KINDS[request.param]


def names(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if path.name not in ("maps.pdf", "maps.png")
    )


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Success


def test_a_new_file_has_the_permissions_of_new_files(
    written: tuple[Write, str], tmp_path: Path
) -> None:
    write, name = written
    before = os.umask(0o026)
    try:
        write(tmp_path / name)
    finally:
        os.umask(before)
    assert names(tmp_path) == [name]
    assert permissions(tmp_path / name) == 0o640
    assert (tmp_path / name).stat().st_size > 100


def test_a_file_that_is_replaced_keeps_its_permissions(
    written: tuple[Write, str], tmp_path: Path
) -> None:
    write, name = written
    (tmp_path / name).write_bytes(OLD)
    (tmp_path / name).chmod(0o604)
    write(tmp_path / name)
    assert names(tmp_path) == [name]
    assert permissions(tmp_path / name) == 0o604
    first = (tmp_path / name).read_bytes()
    assert len(first) > 100
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def test_a_file_that_is_replaced_keeps_its_owner_if_possible(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    output = tmp_path / "a.csv"
    output.write_bytes(OLD)
    os.chown(output, 1234, 4321)
    output.chmod(0o4755)
    write_bytes(output, b"new")
    assert (output.stat().st_uid, output.stat().st_gid) == (1234, 4321)
    assert permissions(output) == 0o755


@pytest.mark.parametrize("dangling", [False, True])
def test_writing_through_a_link_replaces_its_target(
    written: tuple[Write, str], tmp_path: Path, dangling: bool
) -> None:
    write, name = written
    (tmp_path / "away").mkdir()
    target, link = tmp_path / "away" / "target", tmp_path / name
    if not dangling:
        target.write_bytes(OLD)
    link.symlink_to("away/target")
    write(link)
    assert link.is_symlink()
    assert target.is_file()
    assert not target.is_symlink()
    assert target.stat().st_size > 100
    assert (names(tmp_path), names(tmp_path / "away")) == (["away", name], ["target"])


def write_bytes(output: Path, content: bytes) -> None:
    with new_file(output, "a table") as file:
        file.write(content)


@pytest.mark.parametrize(
    "name",
    ["é" * 125 + ".csv", "x" * 251 + ".csv", "😀" * 62 + ".npz", "日本 語\n'\"*[a].csv",
     "bytes\udcff.csv", ".hidden", "-o"],
)  # fmt: skip
def test_any_name_the_file_system_accepts_can_be_written(name: str, tmp_path: Path) -> None:
    with new_file(tmp_path / name, "a table", text=True) as file:
        file.write("é")
        file.flush()
        (under_way,) = names(tmp_path)
        assert len(os.fsencode(under_way)) <= 255
        assert ".fusiform-" in under_way
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == "é".encode()


def test_a_file_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(os, "fsync", lambda _: order.append("flushed"))
    monkeypatch.setattr(Path, "replace", lambda *to: (order.append("renamed"), replace(*to)))
    write_bytes(tmp_path / "a.csv", b"a")
    assert order == ["flushed", "renamed", "flushed"]  # then the folder


# Refused outputs


@pytest.fixture
def odd_places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "odd").mkdir()
    os.mkfifo(tmp_path / "odd" / "pipe")
    (tmp_path / "odd" / "to_pipe").symlink_to("pipe")
    (tmp_path / "odd" / "round").symlink_to("round")
    (tmp_path / "odd" / "to_nowhere").symlink_to(tmp_path / "nowhere" / "x")
    return {
        "is a folder: name a file": tmp_path / "odd",
        "is none: make it": tmp_path / "nowhere" / "x.html",
        "nowhere is none": tmp_path / "odd" / "to_nowhere",
        "pipe is a device or pipe": tmp_path / "odd" / "pipe",
        "to_pipe is a device or pipe": tmp_path / "odd" / "to_pipe",
        "/dev/null is a device or pipe": Path("/dev/null"),
        "/dev/stdout is a device or pipe": Path("/dev/stdout"),
        "/dev/fd/1 is a device or pipe": Path("/dev/fd/1"),
        "Too many levels of symbolic links": tmp_path / "odd" / "round",
        "File name too long": tmp_path / ("x" * 256),
    }


def test_unusable_output_paths_raise_one_line(
    odd_places: dict[str, Path], tmp_path: Path, writers: dict[str, Write]
) -> None:
    before = names(tmp_path / "odd")
    for said, place in odd_places.items():
        for kind in ("csv", "report"):
            with pytest.raises(UserError, match=re.escape(said)) as caught:
                writers[kind](place)
            assert len(caught.value.lines) == 1
    assert (names(tmp_path), names(tmp_path / "odd")) == (["odd"], before)


def test_standard_output_is_refused_as_output_even_if_it_is_a_file(
    made_path: Path, tmp_path: Path
) -> None:
    with (tmp_path / "a.csv").open("wb") as output:
        command = ("query", made_path, "t > 1", "--format", "csv", "-o", "/dev/stdout")
        done = subprocess.run(
            [sys.executable, "-m", "fusiform", *command], stdout=output, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert b"/dev/stdout is a device or pipe: name a file, or leave out --output" in done.stderr
    assert names(tmp_path) == ["a.csv"]


def test_an_unwritable_folder_raises_one_line(
    written: tuple[Write, str], small_disk: Callable[[str], Path]
) -> None:
    write, name = written
    place = small_disk("64k")
    (place / name).write_bytes(OLD)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    with pytest.raises(UserError, match=r"cannot write .*(read-only|Read-only file system)"):
        write(place / name)
    assert (place / name).read_bytes() == OLD
    assert names(place) == [name]


def test_a_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(OLD)
    monkeypatch.setattr(os, "access", lambda *_: False)  # true for root
    with pytest.raises(UserError, match=r"cannot write .*a\.csv \(it is read-only\): name another"):
        write_bytes(tmp_path / "a.csv", b"new")
    assert (tmp_path / "a.csv").read_bytes() == OLD


# Failures


@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_leaves_the_earlier_file_and_nothing_beside_it(
    written: tuple[Write, str], small_disk: Callable[[str], Path], earlier: bool
) -> None:
    write, name = written
    place = small_disk("4k")
    (place / (name if earlier else "other")).write_bytes(OLD)  # takes all there is
    with pytest.raises(UserError, match=r"cannot write .*No space left on device.*make room"):
        write(place / name)
    assert names(place) == [name if earlier else "other"]
    assert next(place.iterdir()).read_bytes() == OLD


def test_a_write_that_fails_at_its_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writers: dict[str, Write]
) -> None:
    (tmp_path / "q.csv").write_bytes(OLD)
    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, _refusing(errno.EIO))
            with pytest.raises(UserError, match=r"cannot write .*Input/output error"):
                writers["csv"](tmp_path / "q.csv")
        assert names(tmp_path) == ["q.csv"]
        assert (tmp_path / "q.csv").read_bytes() == OLD


def _refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "of the store")])
def test_other_write_errors_are_raised_unchanged_and_leave_nothing(
    error: BaseException, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(OLD)

    def write() -> None:
        with new_file(tmp_path / "a.csv", "a table") as file:
            file.write(b"half of it")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert names(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_bytes() == OLD


def test_figures_and_page_are_written_together_or_not_at_all(
    made_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = count()

    def some(*_: object) -> Iterator[tuple[str, Any]]:
        yield "first", axes.panels(1, 1)[0]
        if next(drawn) == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        yield "second", axes.panels(1, 1)[0]

    monkeypatch.setattr(figures, "_figures", some)
    (tmp_path / "r.html").write_bytes(OLD)
    asked = {"resamples": 1, "layers": "head", "figures": tmp_path / "new" / "f"}
    with pytest.raises(OSError, match="No space left"):
        fusiform.report([made_path], tmp_path / "r.html", **asked)
    assert names(tmp_path) == ["r.html"]
    assert (tmp_path / "r.html").read_bytes() == OLD
    fusiform.report([made_path], tmp_path / "r.html", **asked)
    assert names(tmp_path / "new" / "f") == [
        f"{name}.{kind}" for name in ("first", "second") for kind in ("pdf", "png", "svg")
    ]
    assert (tmp_path / "r.html").stat().st_size > 1000


def killed_before_the_rename(output: Path) -> None:
    child = os.fork()
    if not child:
        Path.replace = lambda *_: os._exit(9)  # type: ignore[assignment,method-assign]
        write_bytes(output, b"never whole")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_leftovers_of_killed_programs_are_removed(
    written: tuple[Write, str], tmp_path: Path
) -> None:
    write, name = written
    (tmp_path / name).write_bytes(OLD)
    for _ in range(2):
        killed_before_the_rename(tmp_path / name)
    assert (tmp_path / name).read_bytes() == OLD
    assert len(names(tmp_path)) == 2  # the second run has removed the leftovers of the first
    killed_before_the_rename(tmp_path / f"another.{name}")
    write(tmp_path / name)
    left = [path for path in names(tmp_path) if path != name]
    assert len(left) == 1
    assert left[0].startswith(f".another.{name}.fusiform-")
    assert (tmp_path / name).stat().st_size > 100


def test_a_file_another_program_is_writing_stays(tmp_path: Path) -> None:
    output = tmp_path / "a.csv"
    with new_file(output, "a table") as first:
        first.write(b"first")
        with new_file(output, "a table") as second:
            second.write(b"second")
            assert len(names(tmp_path)) == 2
        assert output.read_bytes() == b"second"
    assert output.read_bytes() == b"first"
    assert names(tmp_path) == ["a.csv"]


def test_without_locks_only_old_leftovers_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", _refusing(errno.ENOLCK))
    output = tmp_path / "a.csv"
    killed_before_the_rename(output)
    write_bytes(output, b"new")
    (left,) = [name for name in names(tmp_path) if name != "a.csv"]
    os.utime(tmp_path / left, (time.time() - 4000,) * 2)
    write_bytes(output, b"newer")
    assert names(tmp_path) == ["a.csv"]
    assert output.read_bytes() == b"newer"


def test_files_that_only_resemble_leftovers_stay(tmp_path: Path) -> None:
    output, digits = tmp_path / "a.csv", "0123456789abcdef"
    kept = [f".a.csv.fusiform-{name}" for name in ("notes", digits[:-1], f"{digits}0")]
    for name in kept:
        (tmp_path / name).write_bytes(OLD)
    (tmp_path / f".a.csv.fusiform-{digits}").mkdir()
    (tmp_path / f".a.csv.fusiform-{digits[::-1]}").symlink_to(tmp_path / kept[0])
    before = names(tmp_path)
    write_bytes(output, b"new")
    assert names(tmp_path) == sorted([*before, "a.csv"])
    assert (tmp_path / kept[0]).read_bytes() == OLD


def test_a_file_mistaken_for_a_leftover_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = files._lock, []

    def late(file: Any) -> bool | None:
        if not taken:  # another program cleans up between creation and lock
            taken.append(file.name)
            Path(file.name).unlink()
        return lock(file)

    monkeypatch.setattr(files, "_lock", late)
    write_bytes(tmp_path / "a.csv", b"new")
    assert len(taken) == 1
    assert (tmp_path / "a.csv").read_bytes() == b"new"
    assert names(tmp_path) == ["a.csv"]


def test_a_command_reports_an_unwritable_output_in_one_line(
    made_path: Path, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = small_disk("4k") / "q.csv"
    output.write_bytes(OLD)
    asked = ["query", str(made_path), "t > -9", "--list", "--format", "csv", "-o", str(output)]
    monkeypatch.setattr(sys, "argv", ["fusiform", *asked])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert files.__name__ not in line
    assert output.read_bytes() == OLD
