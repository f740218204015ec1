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
ENGINE = sorted((ROOT / "engine").rglob("*.py"))
SCANNING = sorted((ROOT / "engine" / "scanning").glob("*.py"))
ASKING = sorted((ROOT / "engine" / "asking").rglob("*.py"))
ANALYSES = sorted((ROOT / "engine" / "analyses").glob("*.py"))
STORE = sorted((ROOT / "engine" / "store").glob("*.py"))
SHARED = [
    *STORE,
    *(
        ROOT / "engine" / f"{name}.py"
        for name in (
            "beside",
            "disk",
            "errors",
            "files",
            "machine",
            "markup",
            "spec",
            "texts",
            "urls",
        )
    ),
]
REPORTING = sorted((ROOT / "engine" / "reporting").glob("*.py"))
COMPARING = sorted((ROOT / "engine" / "comparing").glob("*.py"))
DISTRIBUTING = sorted((ROOT / "engine" / "distributing").glob("*.py"))
BENCH = sorted((ROOT / "engine" / "bench").glob("*.py"))
DOCTOR = sorted((ROOT / "engine" / "doctor").glob("*.py"))
STIMULI = sorted((ROOT / "engine" / "stimuli").rglob("*.py"))
RESPONSES = sorted((ROOT / "engine" / "responses").rglob("*.py"))


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


def test_the_source_files_are_found() -> None:
    assert set(ENGINE) == {
        *SCANNING, *ASKING, *ANALYSES, *BENCH, *COMPARING, *DISTRIBUTING, *DOCTOR, *REPORTING,
        *RESPONSES, *SHARED, *STIMULI,
        ROOT / "engine" / "__init__.py", ROOT / "engine" / "merge.py",
    }  # fmt: skip
    assert all([KERNELS, SCANNING, ASKING, ANALYSES, BENCH, COMPARING, REPORTING, RESPONSES])
    assert all([STIMULI, STORE])
    assert "fusiform.kernels.moments" in imported(ROOT / "engine" / "store" / "reading.py")
    assert "fusiform.engine.store.reading" in imported(ROOT / "engine" / "asking" / "select.py")


def test_kernels_import_array_libraries_only() -> None:
    assert not offending(
        KERNELS,
        "fusiform.engine",
        "fusiform.cli",
        "fusiform.terminal",
        "pathlib",
        "zarr",
        "rich",
        "PIL",
    )


def test_the_engine_does_not_import_the_command_line() -> None:
    assert not offending(ENGINE, "fusiform.cli", "fusiform.terminal", "typer", "rich", "click")


def test_reading_a_store_imports_neither_torch_nor_scanning() -> None:
    torch = ("torch", "torchvision", "fusiform.kernels.device", "fusiform.kernels.cuda")
    rooms = ("scanning", "distributing", "stimuli", "bench", "doctor")
    wings = [f"fusiform.engine.{room}" for room in rooms]
    reading = [
        *ASKING, *ANALYSES, *COMPARING, *RESPONSES, *SHARED, ROOT / "engine" / "merge.py"
    ]  # fmt: skip
    assert not offending(reading, *torch, *wings)


def test_reports_import_no_network_code_and_only_the_top_imports_reports() -> None:
    torch = ("torch", "torchvision", "fusiform.kernels.device", "fusiform.kernels.cuda")
    rooms = [f"fusiform.engine.{room}" for room in ("scanning", "distributing", "bench", "doctor")]
    assert not offending(REPORTING, *torch, *rooms)
    others = [path for path in ENGINE if path not in REPORTING]
    assert not offending(others, "fusiform.engine.reporting")


def test_the_contrast_language_imports_no_store() -> None:
    language = [path for path in ASKING if path.parent.name == "language"]
    assert language
    assert not offending(language, "fusiform.engine.store", "fusiform.kernels", "numpy", "zarr")


def test_queries_do_not_import_analyses() -> None:
    assert not offending(ASKING, "fusiform.engine.analyses")


def test_the_store_imports_no_queries_or_analyses() -> None:
    asking = ("fusiform.engine.asking", "fusiform.engine.responses", "fusiform.engine.merge")
    assert not offending(STORE, *asking, "dask")


def test_responses_import_only_the_contrast_language() -> None:
    # The language of contrasts is common ground; what else is asked of moments is another room.
    assert RESPONSES
    others = [path.stem for path in ASKING if path.parent.name == "asking"]
    rooms = [f"fusiform.engine.asking.{name}" for name in others if name != "__init__"]
    assert not offending(RESPONSES, *rooms)
    assert not offending(ASKING, "fusiform.engine.responses")


def test_stimuli_import_neither_torch_nor_a_store() -> None:
    others = ("fusiform.engine.scanning", "fusiform.engine.asking", "fusiform.engine.store")
    assert not offending(STIMULI, "torch", "torchvision", "zarr", *others)


def test_only_scan_and_record_join_scanning_to_the_store() -> None:
    # What packing takes from there is how a folder outlives a crash: a packed set is no store.
    joining = {"scan", "work", "passes", "record", "source", "wanted", "pack"}
    wing = [path for path in SCANNING if path.stem not in joining]
    rooms = ("store", "asking", "responses")
    assert not offending(wing, *(f"fusiform.engine.{room}" for room in rooms), "zarr")


def test_only_the_scan_imports_distributed_execution() -> None:
    others = [path for path in [*SCANNING, *STIMULI] if path.name != "scan.py"]
    assert not offending([*KERNELS, *others], "fusiform.engine.distributing", "distributed")


def test_nothing_imports_bench_or_doctor() -> None:
    measuring = ("fusiform.engine.bench", "fusiform.engine.doctor")
    assert not offending([*KERNELS, *SCANNING, *DISTRIBUTING, *STIMULI], *measuring)


def test_the_distribution_holds_exactly_the_packages() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent for path in [*KERNELS, *ENGINE]}
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
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    assert named
    assert named <= set(re.findall(r'"(3\.\d+)"', workflow))


def test_numba_is_configured_in_one_place() -> None:
    others = [path for path in KERNELS if path.name != "jit.py"]
    assert not [path.name for path in others if "njit" in path.read_text()]


def test_private_modules_of_other_libraries_are_imported_in_one_file_each() -> None:
    private = ("zarr.core", "numba.core", "torch._dynamo", "torch._inductor")
    files = {line.split()[0] for line in offending([*KERNELS, *ENGINE], *private)}
    zarr, torch = "engine/store/zarr_internals.py", "engine/scanning/compiled.py"
    assert files == {zarr, torch, "kernels/cache.py"}


@pytest.mark.parametrize("command", ["import fusiform", "import fusiform.cli"])
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
