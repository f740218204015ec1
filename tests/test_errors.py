"""System errors are one line with a remedy; internal errors keep their traceback."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fusiform
from fusiform import cli
from fusiform.engine.errors import (
    UserError,
    describe_failure,
    explain_disk_errors,
    is_resource_limit,
)
from fusiform.engine.limits import BOUNDS, refuse_numbers, refuse_seed
from fusiform.engine.preprocessing import Preprocessing

from . import flat


def system(code: int, name: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), name) if name else OSError(code, os.strerror(code))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


MACHINE = {
    "a disk without a name": (system(errno.ENOSPC), "(No space left on device): make"),
    "a disk": (system(errno.EDQUOT, "o.csv"), "cannot read or write o.csv (Disk quota exceeded): "),
    "input and output": (system(errno.EIO), "see the system log"),
    "files": (system(errno.EMFILE, "x.png"), "(Too many open files): raise the limit of open"),
    "file size": (system(errno.EFBIG), "raise the limit of file sizes"),
    "processes": (system(errno.EAGAIN), "raise the limit of processes and threads"),
    "memory of the system": (system(errno.ENOMEM), "out of memory ("),
    "a file system": (system(errno.ESTALE), "its file system is gone"),
    "bytes as a name": (OSError(2, "No such file", b"x\xff"), "cannot read or write x"),
    "a text alone": (OSError("image file is truncated"), "continue (image file is truncated)"),
    "memory": (MemoryError(), "out of memory (MemoryError): ask for less"),
    "memory of numpy": (MemoryError("Unable to allocate 2.84 PiB"), "out of memory (Unable to"),
    "memory of torch": (RuntimeError("CPUAllocator: can't allocate memory"), "out of memory"),
    "memory for code": (ImportError("x.so: cannot map: Cannot allocate memory"), "out of memory ("),
    "threads": (RuntimeError("can't start new thread"), "raise the limit of processes and threads"),
    "threads of rust": (RuntimeError("kind: Resource temporarily unavailable"), "ulimit -u"),
    "the device": (RuntimeError("CUDA error: device lost"), "the GPU has failed (CUDA error"),
    "rust's files": (ValueError("Os { code: 24, message: Too many open files }"), "ulimit -n"),
    "torch's disk": (RuntimeError("write failed: No space left on device"), "make room"),
    "wrapped": (caused(KeyError("act/mean"), system(errno.ENOSPC, "a/zarr.json")), "a/zarr.json ("),
    "a circle": (RuntimeError("Symlink loop from 'x'"), "name the file or folder itself"),
    "several": (ExceptionGroup("tasks", [ValueError("x"), system(errno.ENOSPC)]), "make room"),
}  # fmt: skip
OURS = [KeyError("act/mean"), AssertionError(), TypeError("out"), RuntimeError("no"), ValueError()]


@pytest.mark.parametrize("name", MACHINE)
def test_system_errors_have_a_one_line_message(name: str) -> None:
    error, said = MACHINE[name]
    found = describe_failure(error)
    assert found is not None
    assert said in found
    assert "\n" not in found


@pytest.mark.parametrize("error", OURS, ids=repr)
def test_internal_errors_have_no_one_line_message(error: Exception) -> None:
    assert describe_failure(error) is None


def ended(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Run a command whose work raises an error."""

    def left(code: int) -> None:
        raise SystemExit(code)

    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(fusiform, "check", raising)
    monkeypatch.setattr(os, "_exit", left)
    monkeypatch.setattr(sys, "argv", ["fusiform", "check", "a.zarr"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("name", MACHINE)
def test_a_command_reports_a_system_error_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = ended(MACHINE[name][0], monkeypatch, capsys)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", OURS, ids=repr)
def test_a_command_shows_the_traceback_of_an_internal_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)):
        ended(error, monkeypatch, capsys)


def test_a_full_disk_names_the_file_and_is_not_taken_for_full_memory(tmp_path: Path) -> None:
    place = tmp_path / "o.zarr"
    with (
        pytest.raises(UserError, match=r"cannot write .*o.zarr \(No space"),
        explain_disk_errors(place),
    ):
        raise caused(KeyError("act"), system(errno.ENOSPC))
    with pytest.raises(MemoryError), explain_disk_errors(place):
        raise MemoryError
    with pytest.raises(KeyError), explain_disk_errors(place):
        raise KeyError("act")
    assert is_resource_limit(system(errno.EMFILE))
    assert not is_resource_limit(system(errno.ENOSPC))


# Limits of whole programs


def scan(
    folder: Path, stimuli: Path, limit: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.ReLU())\n"
    )
    return subprocess.run(
        [
            *(sys.executable, "-m", "fusiform", "scan", "tiny:make", str(stimuli)),
            *("-o", "o.zarr", "--layers", "1", "--resize", "16", "--crop", "16", "-q"),
        ],
        cwd=folder, preexec_fn=limit, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "most", "said"),
    [
        (resource.RLIMIT_FSIZE, 600, "cannot write"),
        (resource.RLIMIT_NOFILE, 7, "Too many open files"),
        (resource.RLIMIT_AS, 700 * 2**20, "out of memory"),
    ],
    ids=["file size", "files", "addresses"],
)
def test_a_scan_that_reaches_a_system_limit_ends_in_one_line(
    stimuli: Path, tmp_path: Path, what: int, most: int, said: str
) -> None:
    done = scan(tmp_path, stimuli, lambda: resource.setrlimit(what, (most, most)))
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert not list(tmp_path.glob("o.zarr*"))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_thread_that_cannot_start_neither_hangs_nor_loses_work(
    stimuli: Path, tmp_path: Path, k: int
) -> None:
    """The k-th thread and all later ones cannot be started."""
    (tmp_path / "sitecustomize.py").write_text(
        "import _thread, threading\n"
        f"seen, most, start = [0], {k}, _thread.start_new_thread\n"
        "def refused(*given):\n"
        "    seen[0] += 1\n"
        '    if seen[0] >= most: raise RuntimeError("can\'t start new thread")\n'
        "    return start(*given)\n"
        "threading._start_new_thread = refused\n"
    )
    environment = {**os.environ}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}")
        done = scan(tmp_path, stimuli, lambda: None)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert "cannot start a thread or process" in done.stderr
    assert not list(tmp_path.glob("o.zarr*"))


def test_obstore_threads_do_not_abort_an_exiting_program(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)
    monkeypatch.setattr("atexit.register", lambda *_: None)  # the tests go on after it
    monkeypatch.setattr(sys, "argv", ["fusiform", "info", "nowhere.zarr"])
    for name, codes in (("another", []), ("obstore.store", [2])):
        monkeypatch.delitem(sys.modules, "obstore.store", raising=False)
        monkeypatch.setitem(sys.modules, name, pytest)
        with pytest.raises(SystemExit) as caught:
            cli.program()
        assert caught.value.code == 2
        assert left == codes


# Numbers


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_out_of_range_raise_with_the_range(name: str) -> None:
    most, why = BOUNDS[name]
    refuse_numbers(**{name: most})
    with pytest.raises(UserError) as caught:
        refuse_numbers(**{name: most + 1})
    for said in (name.replace("_", " "), f"{most:,}", f"{most + 1:,}", why):
        assert said in str(caught.value)
    for odd in (1.5, float("nan"), "3"):
        with pytest.raises(UserError, match="whole number"):
            refuse_numbers(**{name: odd})


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, float("nan"), "1"])
def test_seeds_are_whole_numbers_of_63_bits(seed: object) -> None:
    refuse_seed(np.int64(3))
    with pytest.raises(UserError, match="a seed is a whole number"):
        refuse_seed(seed)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"model": None}, "a model is a name or a torch module; got NoneType"),
        ({"model": torch.nn.ReLU}, "got the class ReLU: pass an instance"),
        ({"model": b"resnet18"}, "a model is a name"),
        ({"stimuli": None}, "stimuli are a path or URL, .* got None"),
        ({"output": 3}, "a location is a path or a URL; got 3"),
        ({"output": "/"}, "an output has a name; got /"),
        ({"output": "x" * 300}, "File name too long.*: choose a shorter name|at most 238 bytes"),
        ({"root": 3}, "a location is a path"),
        ({"folds": None}, "folds and batch size are at least 1"),
        ({"null": None}, "a null has 0 shuffles"),
        ({"units": None}, "units are all, channel"),
        ({"preprocessing": "x"}, "preprocessing is a fusiform.Preprocessing"),
        ({"memory_budget": float("inf")}, "a memory budget is a number of bytes"),
        ({"commit_every": "x"}, "commit_every is a number of seconds"),
    ],
    ids=str,
)
def test_values_of_the_wrong_type_raise(
    stimuli: Path, tmp_path: Path, named: dict[str, Any], said: str
) -> None:
    given = {"model": torch.nn.Conv2d(3, 2, 5), "stimuli": stimuli, "output": tmp_path / "o.zarr"}
    with pytest.raises(UserError, match=said):
        flat.scan(**{"layers": "all", "preprocessing": {"crop": 16}, **given, **named})
    assert not [*tmp_path.glob("o.zarr*")]


def test_numpy_scalars_are_accepted_as_numbers(stimuli: Path, tmp_path: Path) -> None:
    store = flat.scan(
        torch.nn.Conv2d(3, 2, 5), stimuli, tmp_path / "o.zarr", layers="all",
        batch_size=np.int32(4), folds=np.int64(2), preprocessing={"resize": 16, "crop": 16},
    )  # fmt: skip
    assert store.provenance["batch_size"] == 4


@pytest.mark.parametrize(
    "odd", [float("nan"), float("inf"), -float("inf"), 1e308, "1", None, 1j], ids=repr
)
def test_non_finite_means_and_deviations_raise(odd: object) -> None:
    for name in ("mean", "std"):
        with pytest.raises(UserError, match="mean and std are three numbers"):
            Preprocessing(**{name: (0.5, odd, 0.5)})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="mean and std are three numbers"):
        Preprocessing(std=(0.5, 1e-300, 0.5))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def make(a, b=1): ...", r"without arguments; own:make takes some .*'a'"),
        (
            "def make():\n    raise KeyError('weights')",
            r"raised KeyError \('weights'; own.py, line",
        ),
        ("import sys\nmake = sys.exit", "raised SystemExit"),
        ("def make():\n    input('which? ')", r"raised EOFError"),
        ("def make(): return 3", "own:make returned int"),
        ("make = 3", "own:make is a int"),
        ("1 / 0", "raised ZeroDivisionError"),
        ("import nosuch", "cannot import"),
    ],
)
def test_a_failing_factory_raises_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    (tmp_path / "own.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    stdin = sys.stdin
    with pytest.raises(UserError, match=said) as caught:
        fusiform.layers("own:make")
    assert "\n" not in str(caught.value)
    assert sys.stdin is stdin
    sys.modules.pop("own", None)
