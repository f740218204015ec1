"""Decoding in processes: the same pixels as in threads, and no process left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusiform.engine.decoding import ahead as decode
from fusiform.engine.decoding import processes as module
from fusiform.engine.decoding.pictures import picture_of
from fusiform.engine.decoding.processes import Decoders, decoders, serve
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue
from fusiform.engine.stimuli.images import UnfitStimulus

from .flat import decode_ahead

SMALL = Preprocessing(resize=32, crop=32)
LARGE = Preprocessing(resize=256, crop=224)  # more than a pipe buffers


def pixels(catalogue: Catalogue, *, skip: bool = False, **options: bool) -> list[np.ndarray]:
    plan = make_plan(catalogue.labels, catalogue.categories, folds=2, batch_size=4)
    batches = decode_ahead(catalogue, plan, LARGE, 3, skip=skip, **options)
    return [np.array(batch.pixels) for batch in batches]


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


def test_an_image_too_long_to_be_resized_raises_in_a_process() -> None:
    content = BytesIO()
    Image.new("L", (1, 60_000)).save(content, "PNG")
    with decoders(Preprocessing(resize=224, crop=224), 1) as started:  # noqa: SIM117
        with pytest.raises(UnfitStimulus, match="cannot be resized"):
            started.fill(np.empty((224, 224, 3), np.uint8), Path("a.png"), content.getvalue())


def test_a_killed_decoding_process_ends_the_scan_in_one_line(stimuli: Path) -> None:
    image = stimuli / "noise" / "noise-1.png"
    row = np.empty((32, 32, 3), np.uint8)
    with decoders(SMALL, 1) as started:
        started.fill(row, image, image.read_bytes())
        os.kill(ids(started)[0], signal.SIGKILL)
        for _ in range(2):  # later requests raise it as well
            with pytest.raises(UserError, match=r"ended by signal 9 at .*noise-1\.png"):
                started.fill(row, image, image.read_bytes())


def test_a_decoding_process_that_cannot_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MODULE", "fusiform.no_such_module")
    with decoders(SMALL, 1) as started, pytest.raises(UserError, match="ended with code 1 at"):
        started.fill(np.empty((32, 32, 3), np.uint8), Path("a.png"), b"")


def test_a_process_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    begin: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    begun: list[subprocess.Popen[bytes]] = []

    def limited(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if len(begun) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        begun.append(begin(*arguments, **options))
        return begun[-1]

    monkeypatch.setattr(module.subprocess, "Popen", limited)
    with pytest.raises(UserError, match=r"the system started 2 of 3 \(Resource .*`decode_workers`"):
        Decoders(SMALL, 3)
    assert [process.returncode for process in begun] == [-9, -9]


@pytest.mark.smoke
def test_decoding_processes_end_when_no_longer_needed(stimuli: Path) -> None:
    with decoders(SMALL, 2) as started:
        started.wait()
        processes = ids(started)
        assert all(map(running, processes))
        # Ctrl-C on a terminal signals the whole process group; the program handles it first.
        assert os.getpgrp() not in map(os.getpgid, processes)
    assert not any(map(running, processes))
    with pytest.raises(UserError, match="came after its end"):
        started.fill(np.empty((32, 32, 3), np.uint8), stimuli, b"")


def test_decoding_processes_end_when_their_program_is_killed(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from fusiform.engine.preprocessing import Preprocessing\n"
        "from fusiform.engine.decoding.processes import Decoders\n"
        "started = Decoders(Preprocessing(resize=32, crop=32), 2)\n"
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

    def counted(preprocessing: Preprocessing, number: int) -> Any:
        begun.append(number)
        return decoders(preprocessing, number)

    empty = decode.torch.empty
    monkeypatch.setattr(decode, "decoders", counted)
    monkeypatch.setattr(
        decode.torch, "empty", lambda *shape, pin_memory, **more: empty(*shape, **more)
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
    name, content = os.fsencode(image), image.read_bytes()
    request = module._REQUEST.pack(len(name), len(content)) + name + content
    head = pickle.dumps(SMALL)
    answers = BytesIO()
    serve(BytesIO(head + 2 * request + request[:-1]), answers)  # the third is torn
    picture = picture_of(image, content, SMALL).tobytes()
    assert answers.getvalue() == 2 * (module._ANSWER.pack(False, 0) + picture)

    monkeypatch.setattr(module, "picture_of", fails)
    answers = BytesIO()
    serve(BytesIO(head + request), answers)
    reason = b"MemoryError: of this picture"
    assert answers.getvalue() == module._ANSWER.pack(False, len(reason)) + reason


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
    with decoders(SMALL, 1) as started, pytest.raises(UserError, match="failed: MemoryError: of"):
        started.fill(np.empty((32, 32, 3), np.uint8), Path("a.png"), b"content")


def test_a_packed_set_starts_no_decoding_processes() -> None:
    gpu: Any = SimpleNamespace(type="cuda")
    packed: Any = SimpleNamespace(pictures=object())
    assert decode.needs_processes(None, gpu, 8)
    assert not decode.needs_processes(packed, gpu, 8)
