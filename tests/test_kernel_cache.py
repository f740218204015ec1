"""The cache of compiled kernels: whatever is wrong with it, kernels run correctly."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import caching

from fusiform.engine.errors import UserError
from fusiform.engine.networks.weights import download
from fusiform.kernels import cache, jit

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "zeros": lambda content: bytes(len(content)),
    "cut short": lambda content: content[: len(content) // 2],
    "a block of zeros": lambda content: content[:900] + bytes(512) + content[1412:],
    "another pickle": lambda _: pickle.dumps({"a": 1}),
    "no pickle": lambda _: b"compiled code",
}
# Run as a user without an entry in passwd, and so without a home folder.
NOBODY = """
import os, pwd, sys
def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
from fusiform.kernels import contrast
import numpy as np
t, df = np.empty((2, 3, 5))
contrast.against_rest(np.array([8, 8, 8]), np.ones((3, 5)), np.ones((3, 5)), t, df)
"""


def squares(count: int) -> int:
    total = 0
    for number in range(count):
        total += number * number
    return total


def compiled(function: Callable[[int], int] = squares) -> Any:
    """The function, compiled as by another process and run once."""
    kernel = jit.inner(function)
    assert kernel(1000) == function(1000)
    return kernel


def hits(kernel: Any) -> int:
    return sum(kernel.stats.cache_hits.values())


def test_code_of_other_kernels_is_compiled_in_and_makes_a_cache_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled()
    assert hits(compiled()) == 1
    monkeypatch.setattr(cache, "_digest_of_kernels", lambda: "of changed sources")
    assert hits(compiled()) == 0
    assert hits(compiled()) == 1


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder."""
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.mark.smoke
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_cache_files_are_recompiled(
    kept: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    compiled()
    assert hits(compiled()) == 1
    (file,) = kept.rglob(f"*.{suffix}")
    file.write_bytes(damage(file.read_bytes()))
    assert hits(compiled()) == 0
    assert hits(compiled()) == 1


def test_cached_code_of_another_signature_is_not_run(kept: Path) -> None:
    # The state after two processes save the first code of a kernel at the same time.
    kernel = compiled()
    (code,) = kept.rglob("*.nbc")
    kernel(np.int8(5))
    other = next(file for file in kept.rglob("*.nbc") if file != code)
    code.write_bytes(other.read_bytes())
    assert hits(compiled()) == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_disk_leaves_kernels_in_memory(
    kept: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: str, mode: str = "r") -> Any:
        if "w" in mode:
            raise OSError(number, os.strerror(number), path)
        return open(path, mode)  # noqa: PTH123

    monkeypatch.setattr(caching, "open", refuse, raising=False)
    compiled()
    compiled()
    assert not [file for file in kept.rglob("*") if file.is_file()]


def test_a_cache_folder_owned_by_others_leaves_kernels_in_memory(kept: Path) -> None:
    compiled()
    (folder,) = kept.iterdir()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("no folder")
    compiled()
    assert not list(Path(__file__).parent.rglob("test_kernel_cache.squares*"))


@pytest.mark.smoke
@pytest.mark.parametrize(
    "environment",
    [{}, {"HOME": "/proc"}, {"XDG_CACHE_HOME": "~/.cache"}, {"NUMBA_CACHE_DIR": "~/kernels"}],
    ids=["nothing", "unwritable home", "XDG", "NUMBA"],
)
def test_a_user_without_a_home_leaves_nothing_behind(
    environment: dict[str, str], tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[2])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": root, **environment}
    result = subprocess.run(
        [sys.executable, "-c", NOBODY], capture_output=True, text=True, cwd=tmp_path,
        env=environment,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert not list(tmp_path.iterdir())


def test_weights_are_not_downloaded_into_a_folder_named_tilde(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="set XDG_CACHE_HOME to a folder"):
        download(lambda: 1, "resnet18", "use none")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert download(lambda: 1, "resnet18", "use none") == 1


def test_triton_caches_code_in_a_writable_folder(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_HOME", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "chosen")  # monkeypatch also restores it
    jit.keep_triton_code()
    assert os.environ["TRITON_CACHE_DIR"] == "chosen"
    monkeypatch.delenv("TRITON_CACHE_DIR")
    jit.keep_triton_code()
    assert "TRITON_CACHE_DIR" not in os.environ
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    jit.keep_triton_code()
    assert os.environ["TRITON_CACHE_DIR"] == f"{kept}/triton"
