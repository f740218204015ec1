"""The start and the end of a process: what it imports, what runs beside what, how it leaves."""

from __future__ import annotations

import atexit
import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from torch import nn

from fusiform import Stimuli
from fusiform.commands import streams
from fusiform.engine.daemons import daemons
from fusiform.engine.errors import UserError
from fusiform.engine.imports import uncollected
from fusiform.engine.scanning import run, stimulus_set
from fusiform.engine.scanning.progress import Listener, Progress
from fusiform.engine.stimuli import catalogue, listing

from . import flat

SMALL = {"preprocessing": {"resize": 32, "crop": 32}, "layers": "all", "device": "cpu"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())


def test_a_scan_imports_no_library_that_it_does_not_need(stimuli: Path, tmp_path: Path) -> None:
    command = ["fusiform", "scan", "resnet18", str(stimuli), "-o", str(tmp_path / "s.zarr"),
               "--weights", "none", "--resize", "32", "--crop", "32", "--layers", "avgpool",
               "--device", "cpu"]  # fmt: skip
    others = ["dask", "distributed", "xarray", "pandas", "pyarrow", "matplotlib", "sklearn",
              "timm", "open_clip", "obstore", "torchcodec", "rich.progress",
              "torch._dynamo", "sympy"]  # fmt: skip
    ran = python(
        f"import sys; sys.argv = {command}\n"
        "from fusiform.cli import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code\n"
        f"print([name for name in {others} if name in sys.modules])"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"


def test_stimuli_can_be_read_before_torch_is_imported() -> None:
    code = "import sys, fusiform; fusiform.scan; print('torch' in sys.modules)"
    assert python(code).stdout == "False\n"


def test_an_output_that_exists_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    ran = python(
        "import sys, fusiform\n"
        f"try:\n    fusiform.scan('resnet18', 'stimuli', {str(tmp_path)!r})\n"
        "except fusiform.UserError as error:\n    print(error, 'torch' in sys.modules)"
    )
    assert ran.stdout.startswith("the output must not exist"), ran.stderr
    assert ran.stdout.endswith(" False\n")


def test_stimuli_are_read_while_the_network_is_built(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, read = threading.Event(), listing.read_stimulus
    beside: list[bool] = []

    def build(network: object) -> object:
        built.set()
        return run_load(network)

    def read_later(path: Path) -> bytes:
        beside.append(built.wait(60))  # in vain, if the network is built afterwards
        return read(path)

    run_load = run.load_backbone
    monkeypatch.setattr(run, "load_backbone", build)
    monkeypatch.setattr(listing, "read_stimulus", read_later)
    flat.scan(small_network(), stimuli, tmp_path / "s.zarr", **SMALL)
    assert beside
    assert all(beside)


def test_stimuli_that_do_not_exist_are_told_before_weights_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "load_backbone", lambda _: pytest.fail("built"))
    with pytest.raises(UserError, match="does not exist"):
        flat.scan("resnet18", tmp_path / "gone", tmp_path / "s.zarr", device="cpu")


def test_an_error_ends_the_reading(stimuli: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, read = [], listing.read_stimulus

    def read_slowly(path: Path) -> bytes:
        paths.append(path)
        time.sleep(0.1)
        return read(path)

    def fail() -> None:
        with stimulus_set.reading(Stimuli(stimuli)) as begun:
            begun.listed()
            raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "_AT_ONCE", 1)
    monkeypatch.setattr(listing, "read_stimulus", read_slowly)
    monkeypatch.setattr(catalogue, "daemons", lambda _, name: daemons(1, name))
    with pytest.raises(KeyboardInterrupt):
        fail()
    for one in threading.enumerate():
        if one.name.startswith(("stimuli", "read")):
            one.join(60)
            assert not one.is_alive()
    assert len(paths) < 18


def test_an_error_does_not_wait_for_a_listing_that_hangs() -> None:
    ran = python(
        "import time\n"
        "from fusiform import Stimuli\n"
        "from fusiform.engine.scanning import stimulus_set\n"
        "stimulus_set.read_catalogue = lambda *_: time.sleep(1000)\n"
        "with stimulus_set.reading(Stimuli('stimuli')):\n"
        "    raise KeyboardInterrupt"
    )
    assert "KeyboardInterrupt" in ran.stderr


def test_an_error_does_not_wait_for_a_file_that_hangs(stimuli: Path) -> None:
    ran = python(
        "import threading, time\n"
        "from fusiform import Stimuli\n"
        "from fusiform.engine.scanning import stimulus_set\n"
        "from fusiform.engine.stimuli import listing\n"
        "asked = threading.Event()\n"
        "listing.read_stimulus = lambda _: (asked.set(), time.sleep(1000))\n"
        f"with stimulus_set.reading(Stimuli({str(stimuli)!r})):\n"
        "    asked.wait()\n"
        "    raise KeyboardInterrupt"
    )
    assert "KeyboardInterrupt" in ran.stderr


def test_nobody_waits_for_kernels_and_their_errors_are_silent(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, waited = threading.Event(), []

    def hang(_: object) -> None:
        waited.append(over.wait(240))
        raise OSError("no disk")

    monkeypatch.setattr(run, "load_kernels", hang)
    flat.scan(small_network(), stimuli, tmp_path / "s.zarr", **SMALL)
    assert not waited
    over.set()


def test_the_kernels_of_a_scan_are_loaded_ahead(stimuli: Path, tmp_path: Path) -> None:
    ran = python(
        "from torch import nn\n"
        "from fusiform import Design, Network, Preprocessing, Resources, scan\n"
        "from fusiform.engine.contrasts.selectivity import load_kernel\n"
        "from fusiform.engine.layer import Layer\n"
        "from fusiform.engine.moments.accumulate import load_kernels\n"
        "from fusiform.kernels import cpu, selectivity\n"
        "load_kernels([Layer('0', 'Conv2d', ('unit',), (3,), 'float32')])\n"
        "load_kernel()\n"
        "kernels = (cpu._add_parts, cpu._read_out, selectivity.every_category)\n"
        "def loaded(): return [len(one.__wrapped__.signatures) for one in kernels]\n"
        "before = loaded()\n"
        "network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())\n"
        "network = Network(network, preprocessing=Preprocessing(32, 32))\n"
        "for folds in (1, 2):\n"
        f"    scan(network, {str(stimuli)!r}, f'{tmp_path}/{{folds}}.zarr',\n"
        "         design=Design(layers='all', folds=folds), resources=Resources(device='cpu'))\n"
        "print(before, loaded())"
    )
    assert ran.stdout == "[1, 1, 1] [1, 1, 1]\n", ran.stderr


def test_progress_is_reported_while_stimuli_are_read(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, read = threading.Event(), listing.read_stimulus
    told: list[Progress] = []

    def read_later(path: Path) -> bytes:
        waited.wait(60)
        return read(path)

    def progress(event: Progress) -> None:
        told.append(event)
        waited.set()

    monkeypatch.setattr(listing, "read_stimulus", read_later)
    monkeypatch.setattr(stimulus_set, "_SAY_EVERY", 0.05)
    with stimulus_set.reading(Stimuli(stimuli)) as begun:
        found = begun.read(Listener(progress=progress))
    assert len(found.catalogue) == 18
    assert told[0].stage == "stimuli"


@pytest.mark.parametrize("collecting", [True, False])
def test_collection_of_garbage_goes_on_as_before(collecting: bool) -> None:
    frozen = gc.get_freeze_count()
    if not collecting:
        gc.disable()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == collecting
        assert gc.get_freeze_count() == frozen
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("used", "loaded"),
    [
        ("asked", False),
        ("asked('a')", True),
        ("package.module.VALUE", True),
        ("package.VALUE", True),
        ("__import__('package.other').other.VALUE", True),
        ("__import__('package.inner').inner.VALUE", True),
    ],
)
def test_a_postponed_module_is_imported_when_it_is_used(
    tmp_path: Path, used: str, loaded: bool
) -> None:
    (tmp_path / "package").mkdir()
    for name in ("__init__", "module", "other"):
        text = "VALUE = 1\ndef ask(word): return word\n"
        (tmp_path / "package" / f"{name}.py").write_text(text)
    (tmp_path / "package" / "inner.py").write_text("VALUE = 1\nprint('inner')\n")
    with (tmp_path / "package" / "__init__.py").open("a") as file:
        file.write("from . import inner\n")
    ran = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from fusiform.engine.imports import postponed\n"
        "with postponed('package.module', 'ask'):\n"
        "    import package, package.module\n"
        "    from package.module import ask as asked\n"
        f"    {used}\n"
        f"print('package' in sys.modules)\n"
        f"assert asked('word') == 'word'\n"
        "import package.module\n"
        "assert package.module.VALUE == package.VALUE == 1\n"
        "assert package.module.__file__\n"
        "assert package.inner is sys.modules['package.inner']\n"
        "assert package.inner.__spec__.origin == package.inner.__file__"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ("inner\nTrue\n" if loaded else "False\ninner\n")


def leaving(script: Path, command: str, start: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command by a script, with an object that says whether Python takes it apart."""
    script.write_text(
        f"import atexit, sys; sys.argv = ['fusiform', *{command.split()}]\n{start}\n"
        "import os\n"
        "class Kept:\n    def __del__(_, write=os.write): write(1, b'taken apart\\n')\n"
        "kept = Kept()\n"
        "import fusiform.cli\n"
        "main = fusiform.cli.main\n"
        "def with_a_library():\n    atexit.register(print, 'library left'); main()\n"
        "fusiform.cli.main = with_a_library\n"
        "fusiform.cli.program()"
    )
    command_line = [sys.executable, str(script)]
    return subprocess.run(command_line, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(("command", "code"), [("--version", 0), ("scan", 2), ("info gone", 2)])
def test_a_program_leaves_after_the_exit_handlers_of_libraries(
    command: str, code: int, tmp_path: Path
) -> None:
    ran = leaving(tmp_path / "fusiform", command)
    assert ran.returncode == code
    assert ran.stdout.splitlines()[-1] == "library left"


@pytest.mark.parametrize(
    ("script", "start"), [("other.py", ""), ("fusiform", "atexit.register(print, 'coverage left')")]
)
def test_other_programs_and_earlier_exit_handlers_end_as_python_does(
    script: str, start: str, tmp_path: Path
) -> None:
    lines = leaving(tmp_path / script, "--version", start).stdout.splitlines()
    assert lines[1:] == ["library left", *(["coverage left"] if start else []), "taken apart"]


def test_an_unforeseen_error_leaves_as_python_does() -> None:
    ran = python("import fusiform.cli\nfusiform.cli.main = lambda: 1 / 0\nfusiform.cli.program()")
    assert ran.returncode == 1
    assert "ZeroDivisionError" in ran.stderr


def test_a_python_without_the_private_count_of_handlers_leaves_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(atexit, "_ncallbacks")
    monkeypatch.setattr(streams, "_is_the_program", lambda: True)
    monkeypatch.setattr(atexit, "register", lambda *_: 1 / 0)
    assert streams.Leaving().code == ""
