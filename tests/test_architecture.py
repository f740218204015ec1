"""Rules of architecture: which package may import which, and when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNELS = sorted((ROOT / "kernels").glob("*.py"))
COMMANDS = sorted((ROOT / "commands").glob("*.py"))
ENGINE = sorted((ROOT / "engine").rglob("*.py"))
# Rooms of the engine, and the rooms that each may import. Files of no room are open to all of them.
ROOMS = {
    # which images, in which order
    "stimuli": set(),
    "localizer": {"stimuli"},
    # from images and a network to a store
    "networks": set(),
    "moments": {"networks"},
    "decoding": {"stimuli", "networks", "moments"},
    "scanning": {"stimuli", "networks", "moments", "decoding", "store", "contrasts"},
    "recording": {"stimuli", "networks", "moments", "decoding", "scanning", "store", "contrasts",
                  "querying", "responses"},
    "lesions": {"stimuli", "networks", "decoding", "scanning", "recording", "store", "contrasts",
                "querying", "analyses"},
    "distributing": {"stimuli", "networks", "moments", "decoding", "scanning", "store",
                     "contrasts"},
    # what a scan writes and everything else reads
    "store": set(),
    # from a store to answers
    "contrasts": {"store"},
    "querying": {"contrasts", "store"},
    "responses": {"contrasts", "querying", "store"},
    "analyses": {"contrasts", "store"},
    "comparing": {"analyses", "contrasts", "responses", "store"},
    "plotting": {"analyses", "comparing", "contrasts", "lesions", "responses", "stimuli", "store"},
    "reporting": {"analyses", "comparing", "contrasts", "lesions", "plotting", "querying",
                  "responses", "stimuli", "store"},
    # what a scan costs
    "bench": {"stimuli", "localizer", "networks", "moments", "decoding", "scanning"},
    "doctor": {"stimuli", "localizer", "networks", "moments", "decoding", "scanning", "store",
               "contrasts", "bench"},
}  # fmt: skip
TORCH = ("torch", "torchvision", "fusiform.kernels.device", "fusiform.kernels.cuda")
WITHOUT_TORCH = ("stimuli", "localizer", "store", "contrasts", "querying", "responses", "analyses",
                 "comparing", "plotting", "reporting")  # fmt: skip


def files_of(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((ROOT / "engine" / room).rglob("*.py"))]


SHARED = [path for path in ENGINE if path.parent.name == "engine"]


def imported(path: Path) -> set[str]:
    """Absolute dotted names of every import in a file, at any depth."""
    package = ["fusiform", *path.relative_to(ROOT).parts[:-1]]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *(node.module.split(".") if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def offending(paths: list[Path], *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imported(path)
        if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)
    ]


def test_every_engine_folder_is_a_listed_room() -> None:
    folders = {path.name for path in (ROOT / "engine").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS)
    assert KERNELS
    assert "fusiform.kernels.moments" in imported(ROOT / "engine" / "store" / "store_reader.py")
    path = ROOT / "engine" / "contrasts" / "select.py"
    assert "fusiform.engine.store.store_reader" in imported(path)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    others = [f"fusiform.engine.{other}" for other in ROOMS if other not in ROOMS[room] | {room}]
    assert files_of(room)
    assert not offending(files_of(room), *others)


def test_kernels_import_array_libraries_only() -> None:
    assert not offending(
        KERNELS,
        "fusiform.engine",
        "fusiform.cli",
        "fusiform.commands",
        "pathlib",
        "zarr",
        "rich",
        "PIL",
    )


def test_the_engine_does_not_import_the_command_line() -> None:
    above = ("fusiform.cli", "fusiform.commands", "typer", "click")
    assert not offending(ENGINE, *above)
    # A bar on a terminal, in Python as in the command line.
    assert not offending([path for path in ENGINE if path.name != "bar.py"], "rich")


def test_stimuli_store_and_its_readers_import_no_torch() -> None:
    # The nouns name torch's type for type checkers alone; see the start-up test.
    shared = [path for path in SHARED if path.name not in ("spec.py", "scan.py")]
    assert not offending([*files_of(*WITHOUT_TORCH), *shared], *TORCH)


def test_shared_files_import_no_room() -> None:
    # Two join rooms: the scan chooses its executor, merging reads and writes stores.
    shared = [path for path in SHARED if path.name not in ("merge.py", "scan.py")]
    assert not offending(shared, *(f"fusiform.engine.{room}" for room in ROOMS))


def test_the_contrast_language_imports_no_store() -> None:
    language = files_of("contrasts/language")
    assert language
    assert not offending(language, "fusiform.engine.store", "fusiform.kernels", "numpy", "zarr")


def test_recordings_import_only_the_language_of_contrasts() -> None:
    others = [path.stem for path in files_of("contrasts") if path.parent.name == "contrasts"]
    names = [f"fusiform.engine.contrasts.{name}" for name in others if name != "__init__"]
    assert not offending(files_of("responses"), *names)


def test_only_scan_loop_and_packing_join_stimuli_and_networks_to_the_store() -> None:
    # Packing uses how a folder survives a crash: a packed set is no store.
    joining = {"run", "work", "loop", "stream", "pack"}
    others = [path for path in files_of("scanning") if path.stem not in joining]
    rooms = ("store", "contrasts", "querying", "responses")
    assert not offending(others, *(f"fusiform.engine.{room}" for room in rooms), "zarr")
    assert not offending(files_of("stimuli", "networks", "moments", "decoding"), "zarr")
    assert not offending(files_of("stimuli"), "fusiform.kernels")


def test_only_plotting_imports_matplotlib() -> None:
    others = [path for path in ENGINE if path.parent.name != "plotting"]
    assert not offending([*COMMANDS, *others], "matplotlib")


def test_only_the_scan_imports_distributed_execution() -> None:
    rooms = [room for room in ROOMS if room != "distributing"]
    others = [*KERNELS, *files_of(*rooms)]
    assert not offending(others, "fusiform.engine.distributing", "distributed")
    assert not offending(files_of("store"), "dask")


def test_the_distribution_holds_exactly_the_packages() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent for path in [*COMMANDS, *KERNELS, *ENGINE]}
    shipped = {".".join(["fusiform", *path.relative_to(ROOT).parts]) for path in folders}
    assert set(pyproject["tool"]["setuptools"]["packages"]) == {"fusiform", *shipped}


def test_the_distribution_holds_the_files_of_the_report_page() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pattern,) = pyproject["tool"]["setuptools"]["package-data"]["fusiform.engine.reporting"]
    shipped = set((ROOT / "engine" / "reporting").glob(pattern))
    others = [path for path in (ROOT / "engine").rglob("*.*") if path.suffix not in (".py", ".pyc")]
    assert others
    assert set(others) == shipped


def test_hosted_ci_runs_every_declared_python() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = {line.rpartition(" ")[2] for line in pyproject["project"]["classifiers"]}
    named = {version for version in named if version.startswith("3.")}
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert named
    assert named <= set(re.findall(r'"(3\.\d+)"', workflow))


def test_numba_is_configured_in_one_place() -> None:
    others = [path for path in KERNELS if path.name != "jit.py"]
    assert not [path.name for path in others if "njit" in path.read_text()]


def test_private_modules_of_other_libraries_are_imported_in_one_file_each() -> None:
    private = ("zarr.core", "numba.core", "torch._dynamo", "torch._inductor")
    files = {line.split()[0] for line in offending([*KERNELS, *ENGINE], *private)}
    zarr, torch = "engine/store/zarr_internals.py", "engine/networks/compiled.py"
    assert files == {zarr, torch, "kernels/cache.py"}


@pytest.mark.parametrize(
    "command",
    [
        "import fusiform",
        "import fusiform.cli",
        "from fusiform import Network, Stimuli, Design, Resources, UnitRequest, Preprocessing",
    ],
)
def test_importing_the_package_loads_no_heavy_library(command: str) -> None:
    heavy = [
        "torch",
        "numba",
        "dask",
        "distributed",
        "zarr",
        "xarray",
        "scipy",
        "numpy",
        "PIL",
        "timm",
    ]
    code = f"import sys; {command}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_opening_a_store_does_not_load_torch() -> None:
    code = "import sys; import fusiform; fusiform.open_store; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_compiled_code_is_not_kept_in_the_package() -> None:
    # It would outlive an uninstall there, and shadow a later editable install.
    from fusiform.kernels import contrast, cpu

    for kernel in (cpu._add_parts.__wrapped__, contrast.welch_t):
        assert not Path(kernel._cache.cache_path).is_relative_to(ROOT)


def test_docstrings_say_the_thing() -> None:
    files = [*ENGINE, *KERNELS, *COMMANDS, ROOT / "cli.py", *(ROOT / "benchmarks").rglob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = (ast.get_docstring(node) or "").partition(" ")[0]
                assert first != "What", f"{path}:{getattr(node, 'lineno', 1)}"
