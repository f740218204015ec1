"""Scans by dask workers give the bits of one process, even when workers die."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fusiform
from fusiform.engine import waiting
from fusiform.engine.distributing import cluster, stages
from fusiform.engine.distributing.shard_results import joined
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.moments.plan import make_plan
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener, Progress
from fusiform.engine.store.files.durable import DurableFolder
from fusiform.engine.store.writing.commits import TaskLog, sealed, unsealed
from fusiform.kernels.moments import Moments

from . import flat
from .fuzz.small import contents

# A warning of dask on a busy machine.
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories")

# Three categories of 30 in two folds: groups of 15, shards of 18, so that groups span shards.
EACH, BATCH = 30, 2
SHARDS = 5
NETWORK = """
import torch
from torch import nn
from fusiform import Preprocessing
from fusiform.engine import waiting

waiting._MOMENT_VALUES = 300

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(128, 10)

    def forward(self, images):
        return self.head(self.pool(self.body(images)).flatten(1))

def small():
    return Net(), Preprocessing(40, 32)

def other():
    import os
    net = Net()
    with torch.no_grad():
        net.head.bias += os.getpid()
    return net, Preprocessing(40, 32)

def deadly():
    class Deadly(Net):
        def forward(self, images):
            import multiprocessing, os, signal
            if multiprocessing.parent_process():
                os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(images)
    return Deadly(), Preprocessing(40, 32)

def failing():
    class Failing(Net):
        def forward(self, images):
            import multiprocessing
            if multiprocessing.parent_process():
                raise MemoryError("can't allocate memory")
            return super().forward(images)
    return Failing(), Preprocessing(40, 32)
"""
OPTIONS: dict[str, Any] = {"layers": ["body", "pool", "head"], "batch_size": BATCH}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with a user's own networks, importable here and in subprocesses."""
    folder = tmp_path_factory.mktemp("distributing")
    (folder / "nets_of_workers.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def stimuli(folder: Path, draw_stimuli: Callable[..., Path]) -> Path:
    return draw_stimuli(folder / "stimuli", each=EACH)


def in_one_process(stimuli: Path, output: Path, *options: str) -> Path:
    """Run the command line in a subprocess with one thread, as workers have."""
    command = [
        *(sys.executable, "-m", "fusiform", "scan", "nets_of_workers:small", str(stimuli)),
        *("-o", str(output), "--layers", "body,pool,head", "--batch-size", str(BATCH)),
    ]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, *options], check=True, env=environment, capture_output=True)
    return output


@pytest.fixture(autouse=True)
def groups_per_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of moments holds a group of body, two of pool, all of head; as in NETWORK.

    The contrasts of every layer are a task of their own.
    """
    monkeypatch.setattr(waiting, "_MOMENT_VALUES", 300)
    monkeypatch.setattr(stages, "_TOGETHER", 1)


@pytest.fixture(scope="module")
def whole(folder: Path, stimuli: Path) -> dict[str, Any]:
    """Files of a scan in one process."""
    return contents(in_one_process(stimuli, folder / "whole.zarr"))


@pytest.fixture(scope="module")
def own_cluster(folder: Path) -> Iterator[Any]:
    """A user's own cluster of two workers."""
    with (
        cluster._own_environment_left_alone(),  # variables that dask sets for its workers
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
    ):
        for name, value in ONE_THREAD.items():
            patch.setenv(name, value)
        with distributed.LocalCluster(
            2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            env=ONE_THREAD,
        ) as own:
            yield own


@pytest.fixture
def scheduler(own_cluster: Any) -> str:
    """Address of the cluster's scheduler."""
    return str(own_cluster.scheduler_address)


def scanned(stimuli: Path, output: Path, model: str = "small", **options: Any) -> Path:
    flat.scan(f"nets_of_workers:{model}", stimuli, output, **{**OPTIONS, **options})
    return output


def stopping_after(events: int, stage: str = "scan") -> Listener:
    """A listener that sends SIGINT to this process after ``events`` events of a stage."""

    def progress(event: Progress) -> None:
        nonlocal events
        events -= event.stage == stage
        if events == 0 and event.stage == stage:
            os.kill(os.getpid(), signal.SIGINT)

    return Listener(progress=progress)


def test_dask_profiling_of_workers_is_off() -> None:
    with cluster.connected(cluster.Workers(1, None, 1), Listener()) as crew:
        for name, setting in cluster.SELDOM.items():
            assert set(crew.client.run(dask.config.get, name).values()) == {setting}, name


# Bits

SLOWER = [pytest.param(number, marks=pytest.mark.slow) for number in (1, 2, 4)]
STOPS = [(1, "scan"), (3, "scan"), (1, "merge"), (1, "contrasts")]


@pytest.mark.parametrize(
    "workers", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4))]
)
def test_local_workers_give_the_bits_of_one_process(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], workers: int
) -> None:
    events: list[Progress] = []
    scanned(
        stimuli, tmp_path / "o.zarr", workers=workers, threads_per_worker=1,
        progress=Listener(progress=events.append),
    )  # fmt: skip
    assert contents(tmp_path / "o.zarr") == whole
    assert not fusiform.check(tmp_path / "o.zarr").problems
    last = {event.stage: (event.done, event.total) for event in events}
    assert last["scan"] == (90, 90)
    assert last["merge"][0] == last["merge"][1] >= 3
    assert last["contrasts"][0] == last["contrasts"][1]
    assert sum(event.stage == "scan" for event in events) == SHARDS


def test_workers_of_a_scheduler_give_the_bits_of_one_process(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], scheduler: str
) -> None:
    in_one_process(stimuli, tmp_path / "o.zarr", "--scheduler", scheduler)
    assert contents(tmp_path / "o.zarr") == whole


def test_workers_of_a_cluster_object_give_the_bits_of_one_process(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], own_cluster: Any
) -> None:
    notes: list[str] = []
    scanned(stimuli, tmp_path / "o.zarr", scheduler=own_cluster, progress=Listener(notes.append))
    assert any(note.startswith("2 workers at tcp://127.0.0.1:") for note in notes)
    assert contents(tmp_path / "o.zarr") == whole


def test_workers_give_the_same_bits_in_bfloat16_reduced_layers_and_torchvision(
    stimuli: Path, tmp_path: Path, scheduler: str
) -> None:
    photographs = tmp_path / "stimuli"
    for path in stimuli.rglob("*.png"):
        jpeg = photographs / path.relative_to(stimuli).with_suffix(".jpg")
        jpeg.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB").save(jpeg)
    asked = ("--units", "channel", "--precision", "bfloat16", "--decoder", "torchvision")
    alone = contents(in_one_process(photographs, tmp_path / "whole.zarr", *asked))
    path = tmp_path / "o.zarr"
    scanned(
        photographs, path, scheduler=scheduler, units="channel", precision="bfloat16",
        preprocessing={"decoder": "torchvision"},
    )  # fmt: skip
    assert contents(path) == alone
    assert fusiform.open_store(path).layer("body").shape == (8,)


def test_workers_scan_layers_in_several_passes_within_their_memory(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], scheduler: str, in_passes: None
) -> None:
    events: list[Progress] = []
    with pytest.raises(Interrupted):
        scanned(stimuli, tmp_path / "o.zarr", scheduler=scheduler, progress=stopping_after(7))
    scanned(
        stimuli, tmp_path / "o.zarr", scheduler=scheduler, progress=Listener(progress=events.append)
    )
    assert {event.total for event in events if event.stage == "scan"} == {2 * 90}
    assert contents(tmp_path / "o.zarr") == whole


@given(
    each=st.lists(st.integers(4, 60), min_size=2, max_size=4),
    folds=st.integers(1, 2),
    batch=st.integers(1, 9),
)
def test_the_batches_of_all_shards_are_those_of_the_plan(
    each: list[int], folds: int, batch: int
) -> None:
    labels = np.repeat(np.arange(len(each), dtype=np.int32), each)
    plan = make_plan(labels, tuple(map(str, each)), folds=folds, batch_size=batch)
    expected = list(plan.batches())
    at = 0
    for number, numbers in enumerate(plan.shards):
        cut, stimuli = plan.shard(number), plan.stimuli_of(number)
        own = list(cut.batches())
        assert [batch.begins_shard for batch in own] == [True, *[False] * (len(numbers) - 1)]
        for mine, theirs in zip(own, expected[numbers.start : numbers.stop], strict=True):
            assert stimuli[mine.stimuli].tolist() == theirs.stimuli.tolist()
            assert [run[1:] for run in mine.runs] == [run[1:] for run in theirs.runs]
            assert [run.block[:2] for run in mine.runs] == [run.block[:2] for run in theirs.runs]
        at += len(own)
    assert at == len(expected)


# Killed workers


def kill_one(rng: random.Random) -> bool:
    """Kill one of this process's workers, if there is one."""
    alive = [child.pid for child in multiprocessing.active_children() if child.pid]
    if alive:
        os.kill(rng.choice(alive), signal.SIGKILL)
    return bool(alive)


def test_killed_workers_are_replaced_and_the_bits_are_the_same(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: Any
) -> None:
    # Forked from a process that has imported everything, so that replacements start quickly.
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    rng, killed, over = random.Random(0), [0], threading.Event()

    def killing() -> None:
        while killed[0] < 3 and not over.wait(rng.uniform(1, 4)):
            killed[0] += kill_one(rng) if started.is_set() else 0

    started = threading.Event()
    killer = threading.Thread(target=killing)
    killer.start()
    events: list[Progress] = []

    def progress(event: Progress) -> None:
        events.append(event)
        if not started.is_set():
            started.set()
            killed[0] += kill_one(rng)

    try:
        with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
            scanned(
                stimuli, tmp_path / "o.zarr", workers=2, threads_per_worker=1,
                progress=Listener(progress=progress),
            )  # fmt: skip
    finally:
        over.set()
        killer.join()
    assert killed[0] >= 1
    assert contents(tmp_path / "o.zarr") == whole


def test_a_shard_that_kills_every_worker_is_named(
    stimuli: Path, tmp_path: Path, scheduler: str
) -> None:
    with pytest.raises(UserError, match=r"'show shard \d \(.*\)' has lost 4 workers"):
        scanned(stimuli, tmp_path / "o.zarr", "deadly", scheduler=scheduler)
    assert not (tmp_path / "o.zarr").exists()


def test_a_killed_driver_resumes_when_called_again(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], scheduler: str
) -> None:
    output = tmp_path / "o.zarr"
    code = (
        "import os\nfrom fusiform.tests import flat\n"
        "from fusiform.engine.scanning.progress import Listener\n"
        "die = Listener(progress=lambda event: os.kill(os.getpid(), 9))\n"
        f"flat.scan('nets_of_workers:small', {str(stimuli)!r}, {str(output)!r},"
        f" layers=['body', 'pool', 'head'], batch_size={BATCH}, scheduler={scheduler!r},"
        " progress=die)"
    )
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    notes: list[str] = []
    scanned(stimuli, output, scheduler=scheduler, progress=Listener(notes.append))
    assert any("resuming an unfinished scan: " in note for note in notes)
    assert contents(output) == whole


# Stopping and resuming


@pytest.mark.parametrize(
    ("events", "stage"), [(1, "scan"), (3, "scan"), (1, "merge"), (1, "contrasts")]
)
def test_a_stopped_distributed_scan_resumes_from_finished_shards(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], scheduler: str, events: int, stage: str
) -> None:
    output = tmp_path / "o.zarr"
    with pytest.raises(Interrupted) as stopped:
        scanned(stimuli, output, scheduler=scheduler, progress=stopping_after(events, stage))
    assert "the same command resumes it" in stopped.value.__notes__[0]
    seen: list[Progress] = []
    scanned(stimuli, output, scheduler=scheduler, progress=Listener(progress=seen.append))
    assert seen[0].before >= (events if stage != "scan" else 16)
    assert contents(output) == whole


def test_a_scan_resumes_only_as_it_was_started_in_one_process_or_by_workers(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], scheduler: str
) -> None:
    output = tmp_path / "o.zarr"
    with pytest.raises(Interrupted):
        scanned(stimuli, output, scheduler=scheduler, progress=stopping_after(1))
    with pytest.raises(UserError, match=r"ran on workers: use `workers`"):
        scanned(stimuli, output)
    with pytest.raises(Interrupted):
        scanned(stimuli, output, restart=True, progress=stopping_after(1))
    with pytest.raises(UserError, match=r"ran in one process: leave out `workers`"):
        scanned(stimuli, output, scheduler=scheduler)
    scanned(stimuli, output, scheduler=scheduler, restart=True)
    assert contents(output) == whole


def test_a_shard_with_missing_or_torn_moments_is_recomputed(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], scheduler: str
) -> None:
    output = tmp_path / "o.zarr"
    with pytest.raises(Interrupted):
        scanned(stimuli, output, scheduler=scheduler, progress=stopping_after(1, "merge"))
    draft = Path(f"{output}.partial")
    records = TaskLog(DurableFolder(draft)).of("show")
    assert len(records) == SHARDS
    bereft = next(name for name, record in records.items() if record["written"]["body"])
    gone = records[bereft]["written"]["body"][0]
    (draft / "body" / "mean" / f"c.{gone[0]}.{gone[1]}.0.0.0").unlink()
    torn = next(name for name, one in records.items() if one["kept"] and name != bereft)
    part = draft / ".records" / torn / "0"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"are damaged: run the same command to repeat that part"):
        scanned(stimuli, output, scheduler=scheduler)
    scanned(stimuli, output, scheduler=scheduler)
    assert contents(output) == whole


def test_tasks_with_damaged_logs_or_moments_are_recomputed_and_named(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any], scheduler: str
) -> None:
    output, draft = tmp_path / "o.zarr", tmp_path / "o.zarr.partial"
    with pytest.raises(Interrupted):
        scanned(stimuli, output, scheduler=scheduler, progress=stopping_after(3))
    records = TaskLog(DurableFolder(draft)).of("show")
    (first, record), (second, _), *_ = records.items()
    moments = ".".join(map(str, record["written"]["body"][0]))
    damaged = {".records/" + second + ".json", f"body/mean/c.{moments}.0.0.0"}
    for name in damaged:
        content = bytearray((draft / name).read_bytes())
        content[len(content) // 2] ^= 1
        (draft / name).write_bytes(content)
    progress, *problems = fusiform.check(output).problems
    assert progress.startswith("the scan that fills it has not finished: ")
    assert {problem.partition(": ")[0] for problem in problems} == {
        ".records/" + second + ".json", "body/mean",
    }  # fmt: skip
    notes: list[str] = []
    with pytest.raises(UserError, match="cannot read body/mean") as caught:  # by the contrasts
        scanned(stimuli, output, scheduler=scheduler, progress=Listener(notes.append))
    assert any(note == f"repeating {second}: its record is damaged" for note in notes)
    assert "the same command resumes it, and repeats what is damaged" in caught.value.__notes__[0]
    scanned(stimuli, output, scheduler=scheduler, progress=Listener(notes.append))
    assert contents(output) == whole
    assert first in records


def test_a_torn_task_log_is_ignored(tmp_path: Path) -> None:
    records, layer = TaskLog(DurableFolder(tmp_path)), Layer("a", "M", ("unit",), (3,), "float32")
    assert not records.exists()
    moments = Moments([4, 7], np.arange(6.0).reshape(2, 3), np.ones((2, 3)))
    seal = records.keep("show/0/1", 5, moments)
    assert seal[:2] == (5, 2)
    assert not records.exists()
    records.write("show/0/1", kept={"a": seal})
    assert records.of("show") == {"show/0/1": {"kept": {"a": list(seal)}}}
    found = records.kept("show/0/1", layer, seal)
    assert found is not None
    assert (found.count.tolist(), found.mean.tolist()) == ([4, 7], [[0, 1, 2], [3, 4, 5]])
    assert found.m2.tolist() == np.ones((2, 3)).tolist()
    path = tmp_path / ".records" / "show" / "0" / "1.json"
    text = path.read_bytes()
    for length in range(len(text)):
        path.write_bytes(text[:length])
        assert not records.exists()
    path.write_bytes(text)
    records.forget("show/0/1")
    assert records.kept("show/0/1", layer, seal) is None
    assert not records.exists()
    assert unsealed(sealed({"a": [1]})) == {"a": [1]}


# Undecodable stimuli


def cut(path: Path) -> bytes:
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    return content


def test_an_image_a_worker_cannot_decode_is_named_and_the_rest_kept(
    stimuli: Path, tmp_path: Path, scheduler: str
) -> None:
    own = shutil.copytree(stimuli, tmp_path / "stimuli")
    image = own / "stripes" / "stripes-30.png"  # last in plan order
    content = cut(image)
    with pytest.raises(UserError, match=r"stripes-30.png") as caught:
        scanned(own, tmp_path / "o.zarr", scheduler=scheduler)
    assert "the same command resumes it" in caught.value.__notes__[0]
    image.write_bytes(content)
    scanned(own, tmp_path / "o.zarr", scheduler=scheduler)
    assert not fusiform.check(tmp_path / "o.zarr").problems


def test_workers_skip_the_same_stimuli_as_one_process(
    stimuli: Path, tmp_path: Path, scheduler: str
) -> None:
    own = shutil.copytree(stimuli, tmp_path / "stimuli")
    for name in ("blobs/blobs-1", "noise/noise-16", "noise/noise-30"):
        cut(own / f"{name}.png")
    (own / "blobs" / "blobs-3.png").write_bytes(b"no image")
    one = contents(in_one_process(own, tmp_path / "one.zarr", "--on-error", "skip"))
    notes: list[str] = []
    scanned(
        own, tmp_path / "o.zarr", scheduler=scheduler, on_error="skip",
        progress=Listener(notes.append),
    )  # fmt: skip
    assert sum(note.startswith("skipped: ") for note in notes) == 4
    assert contents(tmp_path / "o.zarr") == one
    assert not fusiform.check(tmp_path / "o.zarr").problems


def test_a_scan_with_too_few_stimuli_left_stops_and_resumes_when_they_are_restored(
    tmp_path: Path, scheduler: str, draw_stimuli: Callable[..., Path], folder: Path
) -> None:
    own = draw_stimuli(tmp_path / "stimuli", each=9)
    images = [own / "noise" / f"noise-{number}.png" for number in (1, 3, 5, 7)]
    whole = contents(in_one_process(own, tmp_path / "whole.zarr"))
    before = [cut(image) for image in images]
    with pytest.raises(UserError, match=r"noise has fewer that can be shown"):
        scanned(own, tmp_path / "o.zarr", scheduler=scheduler, on_error="skip")
    for image, content in zip(images, before, strict=True):
        image.write_bytes(content)
    scanned(own, tmp_path / "o.zarr", scheduler=scheduler, on_error="skip")
    assert contents(tmp_path / "o.zarr") == whole


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers are at least 1; got 0"),
        ({"workers": 1, "threads_per_worker": 0}, "threads per worker are at least 1; got 0"),
        ({"threads_per_worker": 2}, "add `workers` or `scheduler`"),
        ({"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, "leave one out"),
        ({"workers": 1, "null": 2}, "a null needs a single process"),
    ],
)
def test_impossible_worker_options_raise(
    stimuli: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        scanned(stimuli, tmp_path / "o.zarr", **options)


def test_a_network_without_an_importable_name_cannot_be_sent_to_workers(
    stimuli: Path, tmp_path: Path
) -> None:
    import torch

    with pytest.raises(UserError, match=r"got a Identity: name it"):
        flat.scan(torch.nn.Identity(), stimuli, tmp_path / "o.zarr", workers=2)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "gopher://x:1"])
def test_a_scheduler_that_does_not_answer_is_named(
    stimuli: Path, tmp_path: Path, address: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 1)
    with pytest.raises(UserError, match=f"'{address}' does not .*start one with 'dask scheduler'"):
        scanned(stimuli, tmp_path / "o.zarr", scheduler=address)
    assert not (tmp_path / "o.zarr.partial").exists()


def test_a_missing_distributed_package_raises_with_the_remedy(
    stimuli: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'fusiform\[dask\]'"):
        scanned(stimuli, tmp_path / "o.zarr", workers=2)


def test_errors_of_workers_raise_one_line(stimuli: Path, tmp_path: Path, scheduler: str) -> None:
    with pytest.raises(UserError, match=r"run the same network; one has different weights"):
        scanned(stimuli, tmp_path / "o.zarr", "other", scheduler=scheduler)
    with pytest.raises(UserError, match=r"out of memory at a batch of 2"):
        scanned(stimuli, tmp_path / "o.zarr", "failing", scheduler=scheduler)
    assert not (tmp_path / "o.zarr.partial").exists()


def test_a_script_with_workers_needs_no_main_guard(
    stimuli: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from fusiform.tests import flat\n"
        f"flat.scan('nets_of_workers:small', {str(stimuli)!r}, {str(tmp_path / 'o.zarr')!r},"
        f" layers=['body', 'pool', 'head'], batch_size={BATCH}, workers=1, threads_per_worker=1)\n"
        "print('once')\n"
    )
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, str(script)], env=environment, check=True, capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("once\n", "")
    assert contents(tmp_path / "o.zarr") == whole


# Parts of groups


@given(st.lists(st.integers(2, 9), min_size=1, max_size=6), st.data())
def test_parts_of_shards_join_to_the_moments_of_whole_groups(
    sizes: list[int], data: st.DataObject
) -> None:
    first, total = data.draw(st.integers(0, 3)), sum(sizes)
    values = np.random.default_rng(total).normal(size=(total, 2))
    group = np.repeat(np.arange(first, first + len(sizes)), sizes)
    cuts = data.draw(st.sets(st.integers(1, total - 1), max_size=4))
    parts = []
    for rows in np.split(np.arange(total), sorted(cuts)):
        own = [values[rows[group[rows] == number]] for number in np.unique(group[rows])]
        moments = zip(*((len(x), x.mean(0), x.var(0) * len(x)) for x in own), strict=True)
        parts.append((int(group[rows[0]]), Moments(*map(np.array, moments))))
    mean, m2 = joined(parts)
    whole = [values[group == number] for number in np.unique(group)]
    np.testing.assert_allclose(mean, [x.mean(0) for x in whole], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(m2, [x.var(0) * len(x) for x in whole], rtol=1e-9, atol=1e-12)
