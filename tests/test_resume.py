"""A stopped scan resumes with the same call and ends with the same bits."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind_from_stats
from torch import nn

import fusiform
from fusiform.engine import waiting
from fusiform.engine.decoding import ahead as decode
from fusiform.engine.decoding.pictures import prepare
from fusiform.engine.disk import locked
from fusiform.engine.errors import UserError, explain_disk_errors
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning import loop as passes
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener, Progress
from fusiform.engine.scanning.rounding import changed
from fusiform.engine.stimuli.images import open_image
from fusiform.engine.store.files import durable
from fusiform.engine.store.files.durable import DurableFolder
from fusiform.engine.store.writing.commits import Commit, CommitLog
from fusiform.engine.store.writing.store_draft import StoreDraft
from fusiform.kernels.moments import merge

from . import flat
from .fuzz import disks
from .fuzz.small import contents
from .made import moments_of

SMALL = Preprocessing(resize=16, crop=16)
CATEGORIES = ("blobs", "noise", "stripes")


class Net(nn.Module):
    """Two layers; ``sees`` is called with every batch before the forward pass."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 3, 5, stride=5, dtype=dtype)
        self.head = nn.Linear(27, 4, dtype=dtype)
        self.sees: Callable[[torch.Tensor], None] = lambda _: None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sees(images)
        return self.head(self.body(images).flatten(1))


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("set") / "stimuli", each=5)


def scanned(stimuli: Path, output: Path, net: nn.Module | None = None, **options: Any) -> Any:
    given = {"layers": ["body", "head"], "batch_size": 4, "commit_every": 0, **options}
    return flat.scan(net or Net(), stimuli, output, preprocessing=SMALL, **given)


@pytest.fixture(autouse=True, scope="module")
def groups_per_file() -> Iterator[None]:
    """A file of moments holds one group."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "_MOMENT_VALUES", 1)
        yield


@pytest.fixture(scope="module")
def undisturbed(stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Files of an undisturbed scan."""
    return contents(scanned(stimuli, tmp_path_factory.mktemp("whole") / "o.zarr").path)


def stopping_after(events: int, stage: str = "scan", how: Any = signal.SIGINT) -> Listener:
    """A listener that sends a signal or raises after ``events`` events of a stage."""

    def progress(event: Progress) -> None:
        nonlocal events
        events -= event.stage == stage
        if events == 0 and event.stage == stage:
            if isinstance(how, signal.Signals):
                os.kill(os.getpid(), how)
                time.sleep(0.1)  # it arrives in the main thread, whichever this one is
            else:
                raise how

    return Listener(progress=progress)


# Stopped scans


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [{}, {"null": 3, "null_units": 5}, {"folds": 1}])
@pytest.mark.parametrize("values", [1, 60, 1000])  # per file of moments
def test_a_scan_stopped_at_every_batch_resumes_to_the_same_bits(
    stimuli: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    how: signal.Signals,
    values: int,
) -> None:
    monkeypatch.setattr(waiting, "_MOMENT_VALUES", values)
    whole = contents(scanned(stimuli, tmp_path / "whole.zarr", **options).path)
    output = tmp_path / "o.zarr"
    for _ in range(4):  # as many batches
        with pytest.raises(Interrupted) as stopped:
            scanned(
                stimuli, output, progress=stopping_after(1, how=how), commit_every=1e9, **options
            )
        assert stopped.value.signal == how
        assert not output.exists()
    scanned(stimuli, output, **options)
    assert contents(output) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.zarr", "whole.zarr"]


def test_a_scan_stopped_among_the_contrasts_resumes_after_the_written_ones(
    stimuli: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    with pytest.raises(Interrupted):
        scanned(stimuli, tmp_path / "o.zarr", progress=stopping_after(1, "contrasts"))
    notes: list[str] = []
    events: list[Progress] = []
    scanned(stimuli, tmp_path / "o.zarr", progress=Listener(notes.append, events.append))
    assert any("15 of 15 stimuli were shown" in note and "1 of 2 layers" in note for note in notes)
    assert [event.stage for event in events] == ["contrasts"]
    assert contents(tmp_path / "o.zarr") == undisturbed


def test_a_resumed_scan_reports_progress_and_shows_only_the_rest(
    stimuli: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    with pytest.raises(Interrupted) as caught:
        scanned(stimuli, tmp_path / "o.zarr", progress=stopping_after(2))
    assert "the same command resumes it" in caught.value.__notes__[0]
    notes: list[str] = []
    shown: list[Progress] = []
    net, seen = Net(), []
    net.sees = lambda images: seen.append(len(images))
    scanned(stimuli, tmp_path / "o.zarr", net, progress=Listener(notes.append, shown.append))
    assert any("8 of 15 stimuli were shown, 3 of 6 groups are finished" in note for note in notes)
    assert len(seen) == 6 + 2  # trial, probe and two of four batches
    assert [(e.done, e.before) for e in shown if e.stage == "scan"] == [(12, 8), (15, 8)]
    assert contents(tmp_path / "o.zarr") == undisturbed


@pytest.mark.smoke
def test_a_second_sigint_exits_at_once_and_loses_only_uncommitted_work(
    stimuli: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    net, batches = Net(), 0

    def twice(_: torch.Tensor) -> None:
        nonlocal batches
        batches += 1
        if batches == 5 + 3:  # after trial and probe
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    net.sees, before = twice, signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        scanned(stimuli, tmp_path / "o.zarr", net)
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is before
    scanned(stimuli, tmp_path / "o.zarr")
    assert contents(tmp_path / "o.zarr") == undisturbed


def test_an_error_within_a_batch_loses_that_batch_only(
    stimuli: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    net = Net()
    calls = 0

    def fails(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5 + 3:  # between the two layers, after trial and probe
            raise ZeroDivisionError

    net.body.register_forward_hook(fails, prepend=False)
    with pytest.raises(ZeroDivisionError):
        scanned(stimuli, tmp_path / "o.zarr", net, commit_every=1e9)
    # No checkpoint yet: nothing is left.
    assert list(tmp_path.iterdir()) == []
    calls = 0
    with pytest.raises(ZeroDivisionError):
        scanned(stimuli, tmp_path / "o.zarr", net)
    scanned(stimuli, tmp_path / "o.zarr")
    assert contents(tmp_path / "o.zarr") == undisturbed


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_accumulators_of_any_precision_and_memory_layout_resume(
    stimuli: Path, tmp_path: Path, dtype: str
) -> None:
    net = Net(getattr(torch, dtype))
    whole = contents(scanned(stimuli, tmp_path / "whole.zarr", net).path)
    for batches in (1, 2):
        with pytest.raises(Interrupted):
            scanned(stimuli, tmp_path / "o.zarr", net, progress=stopping_after(batches))
    assert contents(scanned(stimuli, tmp_path / "o.zarr", net).path) == whole


def test_outside_the_main_thread_a_scan_leaves_signals_alone(stimuli: Path, tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(scanned(stimuli, tmp_path / "o.zarr")))
    thread.start()
    thread.join()
    assert found[0].provenance["status"] == "complete"


def test_an_interrupted_overwriting_keeps_the_earlier_store_until_the_end(
    stimuli: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    output = tmp_path / "o.zarr"
    scanned(stimuli, output, folds=1)
    with pytest.raises(Interrupted):
        scanned(stimuli, output, overwrite=True, progress=stopping_after(2))
    assert fusiform.open_store(output).folds == 1
    scanned(stimuli, output, overwrite=True)
    assert contents(output) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


# The same scan, or another


@pytest.fixture
def begun(stimuli: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A stimulus set, and the output of a scan of it that was stopped half way."""
    own = shutil.copytree(stimuli, tmp_path / "set")
    with pytest.raises(Interrupted):
        scanned(own, tmp_path / "o.zarr", progress=stopping_after(2))
    return own, tmp_path / "o.zarr"


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"batch_size": 5}, "batch size: 4 and 5"),
        ({"folds": 1}, "folds: 2 and 1"),
        ({"layers": "body"}, "layers: only one has head"),
        ({"null": 2}, "shuffled labels: None and {"),
        ({"store_dtype": "float32"}, "precision of the store: float64 and float32"),
        ({"groups": {"a": ["blobs"], "b": ["noise"]}}, "categories: "),
    ],
)
def test_another_scan_cannot_resume_and_says_what_differs(
    begun: tuple[Path, Path], options: dict[str, Any], difference: str
) -> None:
    before = contents(begun[1].with_name("o.zarr.partial"))
    with pytest.raises(UserError, match=rf"differ in their {difference}.*`restart=True`"):
        scanned(*begun, **options)
    assert contents(begun[1].with_name("o.zarr.partial")) == before


def test_other_weights_or_stimuli_cannot_resume(begun: tuple[Path, Path]) -> None:
    stimuli, _ = begun
    other = Net()
    with torch.no_grad():
        other.head.bias += 1
    with pytest.raises(UserError, match="differ in their weights: as given"):
        scanned(*begun, other)
    image = stimuli / "blobs" / "blobs-2.png"
    content = image.read_bytes()
    shutil.copyfile(stimuli / "blobs" / "blobs-1.png", image)
    with pytest.raises(UserError, match=r"stimuli: blobs/blobs-2.png has changed, and was shown"):
        scanned(*begun)
    image.unlink()
    with pytest.raises(UserError, match=r"stimuli: blobs/blobs-2.png is not there any more"):
        scanned(*begun)
    image.write_bytes(content)
    scanned(*begun)


def test_a_draft_of_another_version_cannot_resume(
    begun: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusiform.engine.store.writing.creating.version", lambda name: "99")
    with pytest.raises(UserError, match=r"was begun with fusiform 0.*install them"):
        scanned(*begun)


def test_restart_discards_earlier_progress(
    begun: tuple[Path, Path], undisturbed: dict[str, Any]
) -> None:
    notes: list[str] = []
    stimuli, output = begun
    scanned(stimuli, output, restart=True, batch_size=5, progress=Listener(notes.append))
    assert any("is discarded" in note for note in notes)
    assert fusiform.open_store(output).provenance["batch_size"] == 5
    assert sorted(path.name for path in output.parent.iterdir()) == ["o.zarr", "set"]


def test_checkpoints_of_another_version_are_refused_until_restart(begun: tuple[Path, Path]) -> None:
    commits = CommitLog(DurableFolder(begun[1].with_name("o.zarr.partial")))
    commit, _ = latest(commits) or (Commit(), {})
    before = commits._write
    commits._write = lambda key, content: before(  # type: ignore[method-assign]
        key, _summed(bytes(content).partition(b" ")[2].replace(b"batches", b"shown"))
    )
    for number in (1, 2):
        commits.write_live(commit.number + number, {})
        commits.write(replace(commit, number=commit.number + number))
    with pytest.raises(UserError, match=r"another version of fusiform.*`restart=True`"):
        scanned(*begun)
    scanned(*begun, restart=True)


def _summed(text: bytes) -> np.ndarray:
    return np.frombuffer(b"%08x %b" % (zlib.crc32(text), text), np.uint8)


def test_resuming_with_more_threads_is_noted(
    begun: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "machine", lambda: {"threads": 99, "instructions": "X"})
    notes: list[str] = []
    scanned(*begun, progress=Listener(notes.append))
    assert any("continues with 99 threads and X instructions" in note for note in notes)


def test_settings_that_change_last_bits_are_named(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage, name in (("scan", "MKL_CBWR"), ("contrasts", "NUMBA_CPU_NAME")):
        output, notes = tmp_path / f"{stage}.zarr", list[str]()
        with pytest.raises(Interrupted):
            scanned(stimuli, output, progress=stopping_after(1, stage))
        monkeypatch.setenv(name, "x")
        scanned(stimuli, output, progress=Listener(notes.append))
        said = (
            f"the run began with {name} unset and continues with {name}=x: the last bits may differ"
        )
        assert any(note.startswith(said) for note in notes)
        assert sum("the last bits" in note for note in notes) == 1


def test_checkpoints_without_machine_details_give_no_warning() -> None:
    now = passes.machine()
    assert changed({}, now) is None
    assert changed({name: now[name] for name in ("threads", "instructions")}, now) is None
    assert changed({**now, "threads": -1}, now) == ("-1 threads", f"{now['threads']} threads")


def test_two_scans_cannot_write_one_output_at_once(begun: tuple[Path, Path]) -> None:
    with (
        locked(begun[1].with_name("o.zarr.partial")),
        pytest.raises(UserError, match="one scan at a time"),
    ):
        scanned(*begun)
    scanned(*begun)


def latest(commits: CommitLog) -> tuple[Commit, dict[str, Any]] | None:
    """The last whole checkpoint, with its accumulators."""
    whole = (one for one in commits.found() if one.commit and not one.fault)
    return next(((one.commit, one.live) for one in whole if one.commit), None)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def left_with(tmp_path: Path, *damaged: str) -> Path:
    """Copy the draft of ``several_commits`` beside an output, with some files damaged."""
    draft = Path(shutil.copytree(tmp_path / "kept", tmp_path / "o.zarr.partial"))
    for name in damaged:
        flip(draft / name)
    return tmp_path / "o.zarr"


@pytest.fixture(scope="module")
def several_commits(stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``kept``, the draft of a scan stopped after 12 of 15 stimuli."""
    folder = tmp_path_factory.mktemp("commits")
    with pytest.raises(Interrupted):
        scanned(stimuli, folder / "o.zarr", progress=stopping_after(3))
    (folder / "o.zarr.partial").rename(folder / "kept")
    return folder


def test_a_recording_killed_while_its_commits_are_removed_is_published(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(output: Path) -> Path:
        options = {"layers": ["body", "head"], "batch_size": 4, "commit_every": 0}
        return Path(flat.record(Net(), stimuli, output, preprocessing=SMALL, **options).path)

    def remove_some(log: CommitLog) -> None:
        last, before = last_and_before(output.with_name("o.zarr.partial"))
        folder = output.with_name("o.zarr.partial")
        (folder / f"{last}.json").unlink()
        (folder / f"{before}.live").write_bytes(b"x")
        raise KeyboardInterrupt

    output = tmp_path / "o.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(CommitLog, "remove", remove_some)
        with pytest.raises(KeyboardInterrupt):
            recorded(output)
    assert contents(recorded(output)) == contents(recorded(tmp_path / "undisturbed.zarr"))


def last_and_before(draft: Path) -> tuple[str, str]:
    """Paths of the last checkpoint and the one before."""
    last, before = CommitLog(DurableFolder(draft)).found()
    assert last.number == before.number + 1
    return f".commits/{last.slot}", f".commits/{before.slot}"


def test_a_damaged_checkpoint_is_named_and_skipped_on_request(
    several_commits: Path, stimuli: Path, undisturbed: dict[str, Any]
) -> None:
    last, before = last_and_before(several_commits / "kept")
    ends = {f"{last}.json": "up to 7 of 15", f"{last}.live": "4 of 15"}
    for damaged, again in ends.items():
        output = left_with(several_commits, damaged)
        for place in (output, output.with_name("o.zarr.partial")):
            found = fusiform.check(place)
            assert found.unfinished
            assert found.problems[0].startswith("the scan that fills it has not finished: commit 2")
            assert found.problems[1] == f"{damaged}: is not what was written"
            assert f"`go_back=True` ({again} stimuli are shown again)" in found.problems[2]
        with pytest.raises(
            UserError, match=rf"{damaged} \(is not .*`go_back=True` \({again}"
        ) as caught:
            scanned(stimuli, output)
        assert not hasattr(caught.value, "__notes__")
        notes: list[str] = []
        with pytest.raises(Interrupted):  # and resumes from there when stopped again
            scanned(stimuli, output, go_back=True, progress=stopping_after(1))
        scanned(stimuli, output, progress=Listener(notes.append))
        assert any("12 of 15 stimuli were shown" in note for note in notes)
        assert contents(output) == undisturbed
        shutil.rmtree(output)
    # Losing or damaging the checkpoint before the last costs nothing.
    for damaged in (f"{before}.json", f"{before}.live"):
        output = left_with(several_commits, damaged)
        assert fusiform.check(output).problems == (
            "the scan that fills it has not finished: commit 3, 12 of 15 stimuli were shown to 2 "
            "layers, 0 of 2 layers are finished; the same command resumes what is in "
            f"{output}.partial",
        )
        scanned(stimuli, output)
        assert contents(output) == undisturbed
        shutil.rmtree(output)


def test_without_a_whole_checkpoint_only_a_restart_helps(
    several_commits: Path, stimuli: Path, undisturbed: dict[str, Any]
) -> None:
    output = left_with(several_commits, ".commits/0.json", ".commits/1.live")
    told = fusiform.check(output).problems
    assert {one.partition(": ")[0] for one in told[1:3]} == {".commits/0.json", ".commits/1.live"}
    for options in ({}, {"go_back": True}):
        with pytest.raises(
            UserError, match=r"no earlier commit is whole: discard it with `restart=True`"
        ):
            scanned(stimuli, output, **options)
    with pytest.raises(UserError, match="`go_back=True` and `restart=True`: choose one"):
        scanned(stimuli, output, go_back=True, restart=True)
    scanned(stimuli, output, restart=True)
    assert contents(output) == undisturbed
    shutil.rmtree(output)


def test_damaged_moments_are_recomputed_from_the_checkpoint_before(
    several_commits: Path, stimuli: Path, undisturbed: dict[str, Any]
) -> None:
    # Groups of 3 and 2: the fourth ends between the last two checkpoints.
    output = left_with(several_commits, "head/mean/c.1.1.0")
    damage = r"head/mean: chunk 0 of file c.1.1.0 is not what was written: its checksum differs"
    assert any(re.fullmatch(damage, one) for one in fusiform.check(output).problems)
    with pytest.raises(UserError, match="cannot read head/mean") as caught:
        scanned(stimuli, output)  # found when the contrasts are computed
    (note,) = caught.value.__notes__
    assert "resumes it" not in note
    assert "discard it with `restart=True`" in note  # both checkpoints are later by now
    shutil.rmtree(output.with_name("o.zarr.partial"))
    output = left_with(several_commits, "head/mean/c.1.1.0")
    scanned(stimuli, output, go_back=True)
    assert contents(output) == undisturbed
    shutil.rmtree(output)


def test_missing_moments_are_noticed(begun: tuple[Path, Path]) -> None:
    for file in (begun[1].with_name("o.zarr.partial") / "head" / "mean").glob("c.*"):
        file.unlink()
    with pytest.raises(UserError, match=r"damaged \(cannot read head/mean .*`restart=True`"):
        scanned(*begun)


def test_an_output_that_vanishes_is_noticed(stimuli: Path, tmp_path: Path) -> None:
    net, batches = Net(), 0

    def vanishing(_: torch.Tensor) -> None:
        nonlocal batches
        batches += 1
        if batches == 5 + 2:  # after trial and probe
            (tmp_path / "o.zarr.partial").rename(
                tmp_path / "gone"
            )  # at once, also for the background writer

    net.sees = vanishing
    with pytest.raises(UserError, match=r"o.zarr.partial was being filled and is gone"):
        scanned(stimuli, tmp_path / "o.zarr", net)


def test_a_vanished_output_is_named_whichever_write_fails_first(tmp_path: Path) -> None:
    draft = tmp_path / "o.zarr.partial"
    draft.mkdir()

    def written(into: Path) -> None:
        with explain_disk_errors(tmp_path / "o.zarr", draft):
            (into / "zarr.json").write_bytes(b"{}")

    with pytest.raises(UserError, match=r"cannot write .*o.zarr \(No such file"):
        written(draft / "none")
    draft.rmdir()
    with pytest.raises(UserError, match=rf"{draft.name} was being filled and is gone: scan again"):
        written(draft)


# Disks


@pytest.mark.parametrize("how", disks.WAYS)
def test_a_scan_resumes_to_the_same_bits_whichever_write_fails(how: str) -> None:
    # ``python -m tests.fuzz.disks`` lets every one fail.
    trial = disks.run(how, every=37)
    assert trial.writes > 140
    assert trial.failed >= trial.writes // 37 > 3
    assert not trial.wrong


@pytest.mark.parametrize("number", [1, 2, 6])
def test_moments_that_could_not_be_written_are_in_no_checkpoint(
    stimuli: Path,
    tmp_path: Path,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    calls, write = 0, StoreDraft.write_groups

    def fails(self: StoreDraft, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(5, "Input/output error")
        write(self, *arguments)

    monkeypatch.setattr(StoreDraft, "write_groups", fails)
    with pytest.raises(UserError, match="Input/output error"):
        scanned(stimuli, tmp_path / "o.zarr")
    assert contents(scanned(stimuli, tmp_path / "o.zarr").path) == undisturbed


@pytest.mark.parametrize("most", [3, 2048])
def test_a_store_is_flushed_before_it_is_published(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(durable, "_MAX_UNFLUSHED", most)
    synchronised: set[int] = set()
    place = tmp_path / "o.zarr"

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor).st_ino
        assert not place.exists() or found == tmp_path.stat().st_ino  # after the renaming
        synchronised.add(found)

    monkeypatch.setattr(os, "fsync", note)
    scanned(stimuli, place)
    assert {path.stat().st_ino for path in (tmp_path, place, *place.rglob("*"))} <= synchronised


def test_unflushed_writes_are_bounded(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    flush = DurableFolder.flush

    def counted(self: DurableFolder) -> None:
        waiting.append(len(self._unflushed))
        flush(self)

    monkeypatch.setattr(DurableFolder, "flush", counted)
    scanned(stimuli, tmp_path / "all.zarr")
    assert max(waiting) > 8
    waiting.clear()
    monkeypatch.setattr(durable, "_MAX_UNFLUSHED", 8)
    scanned(stimuli, tmp_path / "few.zarr")
    assert max(waiting) == 8


def test_an_unwritable_output_folder_raises_one_line(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "o.zarr.partial")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(UserError, match=r"cannot write .*o.zarr \(Permission denied\)"):
        scanned(stimuli, tmp_path / "o.zarr")


# Checkpoints


def test_a_checkpoint_round_trips_and_a_torn_one_is_refused(tmp_path: Path) -> None:
    commits = CommitLog(DurableFolder(tmp_path))
    assert latest(commits) is None
    live = {"a": np.arange(9, dtype=np.uint8), "b": np.empty(0, np.uint8)}
    first = Commit(1, 3, 0, {5: "gone"}, {"a": {"count": 2}}, {"threads": 2})
    commits.write_live(1, live)
    commits.write(first)
    found, content = latest(commits) or (None, {})
    assert found == first
    assert {name: part.tolist() for name, part in content.items()} == {"a": [*range(9)], "b": []}
    commits.write_live(2, live)
    commits.write(Commit(2, 4))
    assert (latest(commits) or (Commit(),))[0].number == 2
    for name in ("0.json", "0.live"):
        path = tmp_path / ".commits" / name
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert (latest(commits) or (Commit(),))[0].number == 1
        path.write_bytes(whole)
    commits.remove()
    assert latest(commits) is None


# Stimuli that fail during a scan


@pytest.fixture
def own(stimuli: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stimuli, tmp_path / "set")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_a_scan_stopped_by_an_undecodable_stimulus_resumes_when_it_is_restored(
    own: Path, tmp_path: Path, stimuli: Path, undisturbed: dict[str, Any]
) -> None:
    net, image = Net(), own / "stripes" / "stripes-2.png"
    seen = 0

    def vanishes(_: torch.Tensor) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:  # the trial: the catalogue is complete
            image.unlink()

    net.sees = vanishes
    with pytest.raises(UserError, match=r"stripes-2.png") as caught:
        scanned(own, tmp_path / "o.zarr", net, commit_every=1e9)
    assert "resumes it" in caught.value.__notes__[0]
    shutil.copyfile(stimuli / "stripes" / "stripes-2.png", image)
    net.sees = lambda _: None
    scanned(own, tmp_path / "o.zarr", net)
    found = contents(tmp_path / "o.zarr")
    differing = {name for name in undisturbed if found[name] != undisturbed[name]}
    assert differing <= {"zarr.json"}  # which names the folder


def test_a_damaged_stimulus_may_be_restored_before_it_is_shown(
    own: Path, tmp_path: Path, stimuli: Path, undisturbed: dict[str, Any]
) -> None:
    image = own / "stripes" / "stripes-2.png"
    cut(image)
    with pytest.raises(UserError, match=r"stripes-2.png") as caught:
        scanned(own, tmp_path / "o.zarr")
    assert 'restore it, or leave it out with `on_error="skip"`' in str(caught.value)
    shutil.copyfile(stimuli / "stripes" / "stripes-2.png", image)
    store = scanned(own, tmp_path / "o.zarr")
    assert not fusiform.check(store.path).problems
    found = contents(store.path)
    assert {name for name in undisturbed if found[name] != undisturbed[name]} <= {"zarr.json"}


def test_a_stimulus_that_has_changed_since_the_scan_began_is_not_shown(
    own: Path, tmp_path: Path
) -> None:
    net, image = Net(), own / "noise" / "noise-3.png"

    def exchanging(_: torch.Tensor) -> None:
        new = shutil.copyfile(own / "noise" / "noise-1.png", tmp_path / "new.png")
        new.replace(image)  # atomically: decoding threads find one or the other

    net.sees = exchanging
    with pytest.raises(UserError, match=r"noise-3.png has changed since the scan began"):
        scanned(own, tmp_path / "o.zarr", net)


def test_scans_into_the_folder_of_their_stimuli_resume(
    tmp_path: Path, draw_stimuli: Callable[..., Path], undisturbed: dict[str, Any]
) -> None:
    own = draw_stimuli(tmp_path / "set", each=5)
    with pytest.raises(Interrupted):
        scanned(own, own / "o.zarr", progress=stopping_after(1))
    assert (own / "o.zarr.partial").is_dir()
    store = scanned(own, own / "o.zarr")
    assert contents(store.path).keys() == undisturbed.keys()
    assert store.provenance.get("notes", []) == []
    recording = flat.record(
        Net(), own, own / "o.responses.zarr", layers="head", preprocessing=SMALL
    )
    assert recording.categories == CATEGORIES
    again = scanned(own, own / "p.zarr", seed=1)
    assert again.categories == CATEGORIES
    (note,) = again.provenance["notes"]
    assert note.endswith("not categories: o.responses.zarr (zarr), o.zarr (zarr)")
    scanned(own, own / "p.zarr", overwrite=True)


def test_skipped_broken_links_are_rows_of_the_stimulus_table(
    tmp_path: Path, draw_stimuli: Callable[..., Path]
) -> None:
    own = draw_stimuli(tmp_path / "set", each=5)
    gone = own / "noise" / "annex.png"
    try:
        gone.symlink_to("../../.git/annex/objects/K.png")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(UserError, match=r"1 of 16 are not \(.*annex.png is a broken link"):
        scanned(own, tmp_path / "o.zarr")
    store = scanned(own, tmp_path / "o.zarr", on_error="skip")
    status = store.stimulus_column("stimulus_status")
    row = list(store.stimulus_column("stimulus_path")).index("noise/annex.png")
    assert status[row] == "is a broken link"
    assert store.skipped == {"noise": 1}
    assert store.provenance["notes"] == ["noise: 1 images are broken links"]
    notes: list[str] = []
    flat.plan(Net(), own, layers=["head"], preprocessing=SMALL,
                      progress=Listener(notes.append))  # fmt: skip
    assert "noise: 1 images are broken links" in notes
    (own / "other").symlink_to(tmp_path / "not mounted", target_is_directory=True)
    for attempt in (
        lambda: scanned(own, tmp_path / "p.zarr", on_error="skip"),
        lambda: flat.plan(Net(), own, layers=["head"], preprocessing=SMALL),
    ):
        with pytest.raises(UserError, match="other has"):
            attempt()


@pytest.mark.parametrize("stop", [False, True])
def test_skipped_stimuli_are_in_the_table_and_in_no_count(
    tmp_path: Path, draw_stimuli: Callable[..., Path], stop: bool
) -> None:
    own = draw_stimuli(tmp_path / "more", each=7)
    (own / "blobs" / "blobs-1.png").write_bytes(b"no image")  # known before planning
    cut(own / "noise" / "noise-2.png")  # found during the scan, first of its group and of a batch
    cut(own / "stripes" / "stripes-7.png")
    notes: list[str] = []
    if stop:
        with pytest.raises(Interrupted):
            scanned(own, tmp_path / "o.zarr", on_error="skip", progress=stopping_after(3))
    store = scanned(own, tmp_path / "o.zarr", on_error="skip", progress=Listener(notes.append))
    assert any("skipped: " in note and "blobs-1.png" in note for note in notes)
    shown = store.stimulus_column("stimulus_status") == "shown"
    assert list(store.stimulus_column("stimulus_path")[~shown]) == [
        "blobs/blobs-1.png",
        "noise/noise-2.png",
        "stripes/stripes-7.png",
    ]
    assert store.stimulus_column("stimulus_fold")[0] == -1
    assert store.counts.tolist() == [[3, 3], [4, 2], [3, 3]]
    assert store.skipped == {"blobs": 1, "noise": 1, "stripes": 1}
    assert not fusiform.check(store.path).problems
    net = Net()
    for layer, module in (("body", net.body), ("head", net)):
        for category, fold in np.argwhere(store.counts):
            of_category = store.stimulus_column("stimulus_category") == category
            of_fold = store.stimulus_column("stimulus_fold") == fold
            names = store.stimulus_column("stimulus_path")[shown & of_category & of_fold]
            pixels = np.stack([prepare(open_image(own / name), SMALL) for name in names])
            images = decode.normalise(pixels, SMALL, torch.device("cpu"), torch.float32)
            with torch.inference_mode():
                x = module(images).double().numpy()
            found = moments_of(store, store.layer(layer), int(category), int(fold))
            assert found.count == len(names)
            np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found.m2, x.var(0) * len(x), rtol=1e-3, atol=1e-5)


def test_contrasts_use_the_stimuli_that_were_shown(
    tmp_path: Path, draw_stimuli: Callable[..., Path]
) -> None:
    own = draw_stimuli(tmp_path / "more", each=7)
    for number in (1, 2, 3):
        cut(own / "noise" / f"noise-{number}.png")  # found during the scan
    store = scanned(own, tmp_path / "o.zarr", on_error="skip")
    assert store.counts.tolist() == [[4, 3], [2, 2], [4, 3]]
    layer = store.layer("head")
    found = store.read(layer, "t")
    for target in range(3):
        sides = []
        for among in ([target], [k for k in range(3) if k != target]):
            groups = [moments_of(store, layer, k, fold) for k in among for fold in range(2)]
            sides.append(reduce(merge, groups))
        stats = [(m.mean, np.sqrt(m.m2 / (m.count - 1)), m.count) for m in sides]
        t = ttest_ind_from_stats(*stats[0], *stats[1], equal_var=False).statistic
        np.testing.assert_allclose(found[target], t, rtol=1e-5)
