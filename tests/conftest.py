"""Fixtures shared by several test modules: stimuli, stores, machines without network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fusiform.cli import main
from fusiform.engine import waiting
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store import chunking

from . import flat
from .made import fill

CATEGORIES = ("blobs", "noise", "stripes")


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Skip fsync: test output need not survive a crash. Flushing has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_terminal() -> None:
    """No width of a terminal: readline, where pytest has it, sets COLUMNS for child processes."""
    os.environ.pop("COLUMNS", None)
    os.unsetenv("COLUMNS")


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Folder of real stimuli and trained weights, if this machine has one."""
    if "FUSIFORM_TESTDATA" not in os.environ:
        pytest.skip("FUSIFORM_TESTDATA names no folder of real stimuli and weights")
    return Path(os.environ["FUSIFORM_TESTDATA"])


def _picture(category: str, seed: int, side: int) -> NDArray[np.uint8]:
    """Blobs, noise or stripes: three easily separable categories."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    shape = {
        "blobs": np.exp(-4 * (x**2 + y**2)),
        "noise": rng.random((side, side)),
        "stripes": (np.sin(12 * x) > 0).astype(float),
    }[category]
    grey = 40 + 160 * shape + rng.normal(0, 8, shape.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


@pytest.fixture(scope="session")
def draw_stimuli() -> Callable[..., Path]:
    """Draw a set of small PNG stimuli: ``draw_stimuli(folder, categories, each)``."""

    def draw(root: Path, categories: tuple[str, ...] = CATEGORIES, each: int = 6) -> Path:
        for category in categories:
            folder = root / category
            folder.mkdir(parents=True)
            for index in range(each):
                pixels = _picture(category, index, 72)
                Image.fromarray(pixels).save(folder / f"{category}-{index + 1}.png")
        return root

    return draw


@pytest.fixture
def stimuli(tmp_path: Path, draw_stimuli: Callable[..., Path]) -> Path:
    """Three categories of six small PNG stimuli: blobs, noise and stripes."""
    return draw_stimuli(tmp_path / "stimuli")


@pytest.fixture(scope="session")
def two_stores(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    """Folder with ``stimuli``, stores a and b of two networks, and a recording r of a."""
    root = tmp_path_factory.mktemp("scanned")
    stimuli = draw_stimuli(root / "stimuli")
    for seed, name in enumerate(("a.zarr", "b.zarr")):
        flat.scan(
            "resnet18", stimuli, root / name, seed=seed, layers=["layer4.1", "avgpool"],
            weights="none", device="cpu", preprocessing={"resize": 64, "crop": 64},
        )  # fmt: skip
    flat.record("resnet18", stimuli, root / "r.zarr", store=root / "a.zarr", random=3, device="cpu")
    return root


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a user's own module, make it importable and return its name."""
    name = "my_networks"

    def write(source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield write
    sys.modules.pop(name, None)


@pytest.fixture
def in_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Force two passes: the first layer alone, then all others."""
    from fusiform.engine.scanning import budget, setup

    def cut(layers: Any, *given: Any) -> Any:
        found = budget.fit(layers, *given)
        return found._replace(parts=(tuple(layers[:1]), tuple(layers[1:])))

    monkeypatch.setattr(setup, "fit", cut)


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without network access and without earlier downloads."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch-hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hf-hub"))


@pytest.fixture(scope="session")
def made_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a finished synthetic store, shared by all tests and never changed."""
    path = tmp_path_factory.mktemp("made") / "made.zarr"
    fill(path)
    return path


@pytest.fixture
def own_store(made_path: Path, tmp_path: Path) -> Store:
    """A finished synthetic store that a test may change."""
    return open_store(shutil.copytree(made_path, tmp_path / "own.zarr"))


@pytest.fixture(scope="module", params=[262_144, 12], ids=["whole layers", "small chunks"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A finished synthetic store, with whole layers or small chunks."""
    path = tmp_path_factory.mktemp("store") / "made.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "_CHUNK_UNITS", request.param)
        patch.setattr(waiting, "_MOMENT_VALUES", 4 * request.param)
        fill(path)
    return open_store(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs of a given size, if this user may."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: str) -> Path:
        if (
            not shutil.which("mount")
            or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
                capture_output=True,
            ).returncode
        ):
            pytest.skip("this user may not mount a file system")
        return place

    yield mount
    # Lazily: a draft that failed, and keeps its folder open, lives as long as its error.
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run ``fusiform compare`` in this process: its exit code, output and notes."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fusiform", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return (int(left.value.code or 0), *capsys.readouterr())

    return run
