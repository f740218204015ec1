"""``fusiform bench`` reports its measurements faithfully."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import benchmarks
from benchmarks.kernels.peers import INSTALLED
from fusiform import UserError
from fusiform.engine.bench import measure
from fusiform.engine.bench.images import repeat_images
from fusiform.engine.localizer import make_stimuli
from fusiform.engine.scanning import timing
from fusiform.engine.stimuli.catalogue import read_catalogue

from .flat import bench


def test_candidates_are_timed_in_alternating_turns() -> None:
    calls: list[str] = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    taken = measure.side_by_side(works, 3)
    assert calls == ["a", "a", "b", "b"] * 3  # the first turn is a warm-up
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 3, "b": 3}


def test_timings_are_wall_time() -> None:
    assert 0.03 <= timing.seconds(lambda: time.sleep(0.03)) < 5


def test_ratios_are_computed_within_each_turn() -> None:
    # A tenfold slow-down in the last turn does not change a ratio.
    assert measure.ratio([1, 1, 20], [2, 2, 40]) == 0.5


def test_bench_measures_kernels_and_network() -> None:
    found = list(
        bench(
            "resnet18", parts=["network", "kernels"], array_units=70_000, batch_sizes=[8],
            batch_size=2, repeats=1, device="cpu",
        )
    )  # fmt: skip
    rows = {(m.part, m.what, m.setting): m for m in found}
    assert len(rows) == len(found)
    blocked = rows["kernels", "cpu kernel, blocked", "float32 [8, 70,000]"]
    shares = blocked.compared
    possible = 8 * 4 / (8 * 4 + 20)
    assert shares["of read bandwidth"] == pytest.approx(
        shares["of what its traffic allows"] * possible
    )
    for dtype in ("float64", "bfloat16", "float16"):
        assert ("kernels", "cpu kernel, blocked", f"{dtype} [8, 70,000]") in rows
    assert any("channels_last" in m.what for m in found)
    network = {m.what: m for m in found if m.part == "network"}
    bare, hooks = network["bare forward pass"], network["statistics in it"]
    assert 0 < hooks.value < bare.value
    assert hooks.compared["of bare"] == pytest.approx(hooks.value / bare.value)
    assert "with 10 layers, 953,856 units" in network


@pytest.mark.slow
def test_bench_measures_decoding_and_memory_as_json() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "fusiform", "bench", "resnet18", "--parts", "decoding,memory",
         "--scan-images", "48,72", "--repeats", "1", "--batch-size", "16", "--device", "cpu",
         "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = json.loads(result.stdout)
    assert {row["part"] for row in rows} == {"decoding", "memory"}
    memory = [row for row in rows if row["part"] == "memory"]
    assert [row["setting"] for row in memory] == ["48 images", "72 images"]
    assert memory[0]["compared"] == {"of 48 images": 1}
    # A whole scan of this network: hundreds of MiB, and within a tenth of the same for both.
    assert 300 < memory[0]["value"] < 4000
    assert memory[1]["compared"]["of 48 images"] == pytest.approx(1, abs=0.1)
    small, large = (
        next(r["value"] for r in rows if r["what"] == f"JPEG, {side} x {side}")
        for side in (256, 1024)
    )
    assert small > large > 0
    said = [line for line in result.stderr.splitlines() if not line.startswith("  ")]
    assert said == ["measuring: decoding", "measuring: memory"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parts": ["kernel"]}, "did you mean kernels"),
        ({"repeats": 0}, "1 or more"),
        ({"batch_sizes": [0]}, "1 or more"),
        ({"batch_sizes": []}, "1 or more"),
        ({"scan_images": [10]}, "from 24 images on; got 10$"),
        ({"array_units": 3000}, "units 3,136 or more"),
        ({"scan_images": []}, "got none"),
        ({"device": "gpu"}, "got 'gpu'"),
        ({"model": "resnet19"}, "resnet18"),
        ({"precision": "tf32", "device": "cpu"}, "choose float32"),
    ],
)
def test_mistakes_in_bench_options_raise(wrong: dict[str, object], message: str) -> None:
    arguments = {"model": "resnet18", "parts": ["network"], **wrong}
    with pytest.raises(UserError, match=message):
        bench(**arguments)  # type: ignore[arg-type]


def test_larger_benchmark_sets_repeat_the_drawn_images(tmp_path: Path) -> None:
    drawn = make_stimuli(tmp_path / "drawn", per_category=2, size=32)
    repeat_images(drawn, tmp_path / "set", 100)
    catalogue = read_catalogue(tmp_path / "set")
    assert len(catalogue) == 100
    assert np.bincount(catalogue.labels).min() >= 16


def test_a_failing_benchmark_command_says_why() -> None:
    with pytest.raises(UserError, match="no store at nowhere"):
        measure.run("summary", "nowhere")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if "compile" in name else [])
        for name in INSTALLED
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_compared_method_computes_correct_moments(name: str) -> None:
    """Every method in the benchmark table gives mean and variance, to its own precision."""
    if "compile" in name and not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    rng = np.random.default_rng(0)
    first, second = (rng.normal(m, 1, (32, 500)).astype(np.float32) for m in (2, 4))
    x = first.copy()
    work, seen = INSTALLED[name].start(x), first
    read_out = work()
    if INSTALLED[name].streams:
        x[:] = second
        read_out, seen = work(), np.concatenate([first, second])
    mean, var = read_out()
    rtol = 1e-12 if name.startswith("fusiform") else 1e-4
    np.testing.assert_allclose(mean, seen.mean(0, np.float64), rtol=rtol)
    np.testing.assert_allclose(var, seen.var(0, np.float64, ddof=1), rtol=rtol)


@pytest.mark.parametrize("name", benchmarks())
def test_benchmarks_import_and_the_functions_that_they_time_exist(name: str) -> None:
    module = import_module(f"benchmarks.{name}")
    for place in getattr(module, "STAGES", {}).values():
        assert callable(getattr(*place))
    for place in getattr(module, "REPLACED", ()):
        assert hasattr(*place)
