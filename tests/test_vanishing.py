"""Outputs that vanish while written raise one line; nothing wrong is published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fusiform
from fusiform.engine.errors import UserError, explain_disk_errors
from fusiform.engine.scanning.progress import Listener, Progress

from . import flat
from .fuzz import small

PARTS = [
    *("", "zarr.json", "count", "stimulus_path/zarr.json", "stimulus_sha256/c.0"),
    *("body", "body/zarr.json", "body/mean", "body/m2/zarr.json", "body/mean/c.0.0.0.0.0"),
]


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]
) -> list[Path]:
    """Two stores that can be merged."""
    folder = tmp_path_factory.mktemp("parts")
    drawn = [draw_stimuli(folder / "one"), draw_stimuli(folder / "other", each=7)]
    for path in drawn[1].rglob("*-[1-6].png"):  # the others are new
        path.unlink()
    for path in list(drawn[1].rglob("*.png")):
        with Image.open(path) as image:
            for n, turn in enumerate(Image.Transpose):
                image.transpose(turn).save(path.with_name(f"{n}.png"))
    return [small.scan(one, folder / f"{one.name}.zarr") for one in drawn]


def remove(place: Path) -> None:
    """Remove a file or folder if it exists, as a cleaner does."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def drafts_of(output: Path) -> list[Path]:
    """Path of the draft of an output."""
    found = output.parent.glob(f"{output.name}.partial*")
    return [one / "new" if (one / "new").is_dir() else one for one in found]


def removing(part: str, at: int, of: Path) -> Listener:
    """A listener that removes part of the draft of ``of`` at a given stage."""
    seen = 0

    def progress(_: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            for draft in drafts_of(of):
                remove(draft / part)

    return Listener(progress=progress)


def refused_or_whole(work: Callable[[], Any], output: Path) -> bool:
    """Whether the work ended with a whole store; otherwise it raised one line."""
    try:
        work()
    except UserError as error:
        said = str(error)
    else:
        assert not fusiform.check(output).problems
        return True
    assert "\n" not in said
    assert not output.exists()
    return False


@pytest.mark.parametrize(
    ("part", "at"), [*((part, 3) for part in PARTS), ("", 2), ("", 5), ("head", 5)]
)
def test_a_scan_whose_output_vanishes_says_so_and_starts_anew(
    stimuli: Path, tmp_path: Path, part: str, at: int
) -> None:
    output = tmp_path / "out" / "o.zarr"
    output.parent.mkdir()
    if refused_or_whole(lambda: small.scan(stimuli, output, removing(part, at, output)), output):
        return
    try:
        small.scan(stimuli, output)
    except UserError as error:
        assert "`restart=True`" in str(error)  # noqa: PT017  progress was kept
        shutil.rmtree(output.with_name("o.zarr.partial"))
        small.scan(stimuli, output)
    assert not fusiform.check(output).problems
    assert [one.name for one in output.parent.iterdir()] == ["o.zarr"]


def test_the_part_that_vanished_is_named(stimuli: Path, tmp_path: Path) -> None:
    for part, said in (("body/mean", "its body/mean is gone"), ("zarr.json", "is gone: scan")):
        with pytest.raises(UserError, match=f"o.zarr.partial was being filled and .*{said}"):
            small.scan(stimuli, tmp_path / "o.zarr", removing(part, 2, tmp_path / "o.zarr"))
        shutil.rmtree(tmp_path / "o.zarr.partial", ignore_errors=True)


def test_a_store_with_a_vanished_moments_file_is_not_whole(stimuli: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.zarr"
    found = []

    def last(event: Progress) -> None:
        if event.stage == "contrasts" and event.done == event.total:
            found.append(event)
            remove(output.with_name("o.zarr.partial") / "pool" / "m2" / "c.0.0.0.0.0")

    with pytest.raises(UserError, match=r"pool/m2/c.0.0.0.0.0 is gone") as caught:
        small.scan(stimuli, output, Listener(progress=last))
    assert found
    assert "the same command resumes it" not in "".join(getattr(caught.value, "__notes__", ()))
    assert not output.exists()


@pytest.mark.parametrize("how", ["folder above", "a file instead", "a link instead"])
def test_a_scan_ends_in_one_line_however_its_output_vanishes(
    stimuli: Path, tmp_path: Path, how: str
) -> None:
    output = tmp_path / "above" / "o.zarr"
    output.parent.mkdir()
    draft = output.with_name("o.zarr.partial")

    def progress(event: Progress) -> None:
        if event.stage == "scan" and draft.is_dir() and not draft.is_symlink():
            # In one step: other threads go on writing, and removing file by file would meet them.
            (output.parent if how == "folder above" else draft).rename(tmp_path / "removed")
            if how == "a file instead":
                draft.write_text("not ours")
            if how == "a link instead":
                draft.symlink_to(tmp_path / "nowhere")

    with pytest.raises(UserError, match="is gone"):
        small.scan(stimuli, output, Listener(progress=progress))
    if how == "a file instead":
        assert draft.read_text() == "not ours"


@pytest.mark.parametrize("part", ["", "body", "body/unit", "body/response/zarr.json", "count"])
def test_a_recording_whose_output_vanishes_says_so(
    stimuli: Path, tmp_path: Path, part: str
) -> None:
    output = tmp_path / "r.zarr"

    def work() -> None:
        flat.record(
            small.Net(), stimuli, output, layers=["body", "head"], batch_size=8, commit_every=0,
            preprocessing=fusiform.Preprocessing(40, 32), progress=removing(part, 2, output),
        )  # fmt: skip

    assert not refused_or_whole(work, output)


@pytest.mark.parametrize(
    "part", ["", "body", "head/mean", "count/zarr.json", "pool/m2/c.0.0.0.0.0"]
)
def test_a_merged_store_that_vanishes_is_not_published(
    parts: list[Path], tmp_path: Path, part: str
) -> None:
    output, merged = tmp_path / "m.zarr", []

    def progress(_: Any) -> None:
        merged.append(1)
        for draft in drafts_of(output):
            remove(draft / part)

    def work() -> None:
        fusiform.merge(parts, output, progress=progress)

    assert not refused_or_whole(work, output)
    assert merged
    assert not list(tmp_path.glob("m.zarr*"))


@pytest.mark.parametrize("part", ["", "pictures", "pictures/c/0/0/0/0"])
def test_a_packed_set_that_vanishes_is_not_published(
    stimuli: Path, tmp_path: Path, part: str
) -> None:
    output = tmp_path / "p.zarr"
    with pytest.raises(UserError, match="is gone") as caught:
        flat.pack_stimuli(
            stimuli, output, preprocessing={"resize": 16, "crop": 16},
            progress=removing(part, 1, output),
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("p.zarr*"))


def test_a_vanished_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UserError, match=r"cannot write .*Stale file handle\): its file system is"),
        explain_disk_errors(tmp_path / "o.zarr"),
    ):
        raise OSError(116, "Stale file handle")
