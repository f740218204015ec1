"""Decoding in processes: the same pixels as in threads, and no process left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusiform.engine.decoding import ahead as decode
from fusiform.engine.decoding import processes as module
from fusiform.engine.decoding.buffers import Ring
from fusiform.engine.decoding.pictures import picture_of
from fusiform.engine.decoding.processes import Decoders, decoders, serve
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue
from fusiform.engine.stimuli.columns import Texts
from fusiform.engine.stimuli.images import UnfitStimulus

from .flat import decode_ahead

SMALL = Preprocessing(resize=32, crop=32)
WIDE = Preprocessing(resize=224, crop=224)
LARGE = Preprocessing(resize=256, crop=224)  # more than a pipe buffers


def pixels(catalogue: Catalogue, *, skip: bool = False, **options: bool) -> list[np.ndarray]:
    plan = make_plan(catalogue.labels, catalogue.categories, folds=2, batch_size=4)
    batches = decode_ahead(catalogue, plan, LARGE, 3, skip=skip, **options)
    return [np.array(batch.pixels) for batch in batches]


@contextmanager
def started(preprocessing: Preprocessing, number: int) -> Iterator[tuple[Decoders, Ring]]:
    side = preprocessing.crop
    ring = Ring((2, side, side, 3), 1, shared=True)
    assert ring.file is not None
    with decoders(preprocessing, number, ring.file) as pool:
        yield pool, ring
    ring.close()


def files(*paths: Path) -> Catalogue:
    """A catalogue of these files as they are now."""
    names = Texts.of(map(str, paths))
    found = Catalogue(Path(), (), names, np.zeros(len(paths), np.int32))
    found.look()
    return found


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def until_gone(processes: list[int]) -> None:
    for _ in range(200):
        if not any(map(running, processes)):
            return
        time.sleep(0.05)
    raise AssertionError("decoders outlived who began them")


def ids(started: Decoders) -> list[int]:
    return [decoder._process.pid for decoder in started._all]


@pytest.mark.smoke
def test_decoding_processes_give_the_pixels_of_threads(stimuli: Path) -> None:
    Image.new("RGBA", (70, 300), (255, 0, 0, 90)).save(stimuli / "blobs" / "clear.png")
    Image.new("L", (90, 80), 7).save(stimuli / "noise" / "grey.jpg")
    catalogue = read_catalogue(stimuli)
    there, here = pixels(catalogue, processes=True), pixels(catalogue, processes=False)
    assert len(there) == len(here) > 3
    for one, other in zip(there, here, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("processes", [True, False])
def test_decoding_processes_raise_the_same_errors_as_threads(
    stimuli: Path, processes: bool
) -> None:
    image = stimuli / "noise" / "noise-2.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    catalogue = read_catalogue(stimuli)
    with pytest.raises(UnfitStimulus, match=r'noise-2.png cannot be decoded .*`on_error="skip"`'):
        pixels(catalogue, processes=processes)
    plan = make_plan(catalogue.labels, catalogue.categories, folds=2, batch_size=4)
    batches = list(decode_ahead(catalogue, plan, SMALL, 2, skip=True, processes=processes))
    (failed,) = [reason for batch in batches for reason in batch.failed.values()]
    with pytest.raises(UnfitStimulus) as alone:
        picture_of(image, image.read_bytes(), SMALL)
    assert failed == alone.value.reason


def test_an_image_too_long_to_be_resized_is_refused_by_a_process(tmp_path: Path) -> None:
    Image.new("L", (1, 60_000)).save(tmp_path / "a.png")
    with started(WIDE, 1) as (pool, _):
        (reason,) = pool.fill(0, files(tmp_path / "a.png"))
    assert reason.startswith("cannot be resized")


def test_a_process_refuses_a_file_that_has_changed(stimuli: Path) -> None:
    one, other = (stimuli / "noise" / f"noise-{i}.png" for i in (1, 2))
    part = files(one, other)
    one.write_bytes(other.read_bytes())
    with started(SMALL, 1) as (pool, ring):
        reasons = list(pool.fill(0, part))
        assert reasons == ["has changed since the scan began", ""]
        found = ring.take(2)[1].copy()
    np.testing.assert_array_equal(found, picture_of(other, other.read_bytes(), SMALL))


def test_a_killed_decoding_process_ends_the_scan_in_one_line(stimuli: Path) -> None:
    part = files(stimuli / "noise" / "noise-1.png")
    with started(SMALL, 1) as (pool, _):
        assert list(pool.fill(0, part)) == [""]
        os.kill(ids(pool)[0], signal.SIGKILL)
        for _ in range(2):  # later requests raise it as well
            with pytest.raises(UserError, match=r"ended by signal 9 at .*noise-1\.png"):
                list(pool.fill(0, part))


def test_a_process_killed_amid_its_images_is_named_with_the_one_under_way(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (stimuli / "noise" / f"noise-{i}.png" for i in (1, 2))
    answer = module._ANSWER.pack(False, 0)
    dies = f"import os; os.read(0, 1); os.write(1, {answer!r}); os.kill(os.getpid(), 9)"
    begin: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen

    def pretends(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return begin([sys.executable, "-c", dies], **options)

    monkeypatch.setattr(module.subprocess, "Popen", pretends)
    with started(SMALL, 1) as (pool, _):
        answers = pool.fill(0, files(one, other))
        with pytest.raises(UserError, match=r"ended by signal 9 at .*noise-2\.png"):
            list(answers)


@pytest.mark.parametrize("sleeps", [True, False], ids=["hangs", "closes its pipe and hangs"])
def test_a_decoding_process_that_cannot_be_killed_is_abandoned(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch, sleeps: bool
) -> None:
    hung: list[Unkillable] = []

    class Unkillable(subprocess.Popen[bytes]):
        def __init__(self, _: list[str], **options: Any) -> None:
            program = f"import os, time; {sleeps} or os.close(1); time.sleep(60)"
            super().__init__([sys.executable, "-c", program], **options)
            hung.append(self)

        def kill(self) -> None:
            """Do nothing, as in an uninterruptible sleep."""

    monkeypatch.setattr(module.subprocess, "Popen", Unkillable)
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    monkeypatch.setattr(decode, "_PATIENCE", 0.5)
    monkeypatch.setattr(decode, "_LOOK_EVERY", 0.1)
    said = "its file system may hang" if sleeps else "one hangs at"
    with pytest.raises(UserError, match=said):
        pixels(read_catalogue(stimuli), processes=True)
    assert hung
    for process in hung:
        assert process.poll() is None
        super(Unkillable, process).kill()
    for thread in threading.enumerate():
        if thread.name.startswith("decode_"):
            thread.join(20)
    for process in hung:
        with process:  # closes its pipes
            pass


def test_a_decoding_process_that_cannot_start_is_named(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MODULE", "fusiform.no_such_module")
    part = files(stimuli / "noise" / "noise-1.png")
    with started(SMALL, 1) as (pool, _), pytest.raises(UserError, match="ended with code 1 at"):
        list(pool.fill(0, part))


def test_a_process_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    begin: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    begun: list[subprocess.Popen[bytes]] = []

    def limited(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if len(begun) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        begun.append(begin(*arguments, **options))
        return begun[-1]

    monkeypatch.setattr(module.subprocess, "Popen", limited)
    with (
        pytest.raises(UserError, match=r"the system started 2 of 3 \(Resource .*`decode_workers`"),
        started(SMALL, 3),
    ):
        pass
    assert [process.returncode for process in begun] == [-9, -9]


@pytest.mark.smoke
def test_decoding_processes_end_when_no_longer_needed(stimuli: Path) -> None:
    with started(SMALL, 2) as (pool, _):
        pool.wait()
        processes = ids(pool)
        assert all(map(running, processes))
        # Ctrl-C on a terminal signals the whole process group; the program handles it first.
        assert os.getpgrp() not in map(os.getpgid, processes)
    assert not any(map(running, processes))
    with pytest.raises(UserError, match="came after its end"):
        list(pool.fill(0, files(stimuli / "noise" / "noise-1.png")))


def test_decoding_processes_end_when_their_program_is_killed(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from fusiform.engine.preprocessing import Preprocessing\n"
        "from fusiform.engine.decoding.buffers import Ring\n"
        "from fusiform.engine.decoding.processes import Decoders\n"
        "ring = Ring((2, 32, 32, 3), 1, shared=True)\n"
        "started = Decoders(Preprocessing(resize=32, crop=32), 2, ring.file)\n"
        "started.wait()\n"
        "print(*[one._process.pid for one in started._all], flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout
        assert killed.stderr
        processes = [int(number) for number in killed.stdout.readline().split()]
        assert len(processes) == 2
        killed.kill()
        killed.wait()
        until_gone(processes)
        assert killed.stderr.read() == ""


@pytest.mark.parametrize(
    ("kind", "workers", "needed"), [("cuda", 5, True), ("cuda", 4, False), ("cpu", 5, False)]
)
def test_decoding_processes_serve_a_network_on_a_gpu(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch, kind: str, workers: int, needed: bool
) -> None:
    begun: list[int] = []

    def counted(preprocessing: Preprocessing, number: int, memory: int) -> Any:
        begun.append(number)
        return decoders(preprocessing, number, memory)

    monkeypatch.setattr(decode, "decoders", counted)
    monkeypatch.setattr(
        decode, "Pinned", lambda shape, number, _, *, shared: Ring(shape, number, shared=shared)
    )
    catalogue = read_catalogue(stimuli)
    plan = make_plan(catalogue.labels, catalogue.categories, folds=2, batch_size=4)
    device: Any = SimpleNamespace(type=kind)
    list(decode_ahead(catalogue, plan, SMALL, workers, device=device))
    assert begun == [5] * needed


def test_a_decoding_process_answers_requests_until_they_end(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("of this picture")

    image = stimuli / "noise" / "noise-1.png"
    asked = pickle.dumps((1, files(image, image)))
    request = module._REQUEST.pack(len(asked)) + asked
    ring = Ring((4, 32, 32, 3), 1, shared=True)
    head = pickle.dumps((SMALL, ring.file))
    answers = BytesIO()
    serve(BytesIO(head + 2 * request + request[:-1]), answers)  # the third is torn
    assert answers.getvalue() == 4 * module._ANSWER.pack(False, 0)
    rows = ring.take(4)
    picture = picture_of(image, image.read_bytes(), SMALL)
    np.testing.assert_array_equal(rows[1:3], [picture, picture])
    assert not rows[[0, 3]].any()

    monkeypatch.setattr(module, "picture_of", fails)
    answers = BytesIO()
    serve(BytesIO(head + request), answers)
    reason = b"MemoryError: of this picture"
    assert answers.getvalue() == module._ANSWER.pack(False, len(reason)) + reason
    ring.close()


def test_an_unexpected_error_of_a_decoding_process_is_reported(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = b"MemoryError: of this picture"
    answer = module._ANSWER.pack(False, len(reason)) + reason
    writes = f"import os, sys; os.write(1, {answer!r}); sys.stdin.buffer.read()"
    begin: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen

    def pretends(_: list[str], **options: object) -> subprocess.Popen[bytes]:
        return begin([sys.executable, "-c", writes], **options)

    monkeypatch.setattr(module.subprocess, "Popen", pretends)
    part = files(stimuli / "noise" / "noise-1.png")
    with started(SMALL, 1) as (pool, _), pytest.raises(UserError, match="failed: MemoryError: of"):
        list(pool.fill(0, part))


def test_a_packed_set_starts_no_decoding_processes() -> None:
    gpu: Any = SimpleNamespace(type="cuda")
    packed: Any = SimpleNamespace(pictures=object())
    assert decode.needs_processes(None, gpu, 8)
    assert not decode.needs_processes(packed, gpu, 8)
