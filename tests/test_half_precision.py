"""``plan`` and ``doctor`` about bfloat16 on a CPU: when it is measured, and what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fusiform.cli import app
from fusiform.engine.doctor import half_precision
from fusiform.engine.doctor.half_precision import (
    CHANGE_IN_T,
    check_bfloat16,
    instructions,
    judge_bfloat16,
    share_of_time,
)
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.progress import Listener

from . import flat
from .test_resume import Net

SMALL = Preprocessing(resize=16, crop=16)
ROOT = Path(__file__).parents[1]


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with instructions for bfloat16."""
    monkeypatch.setattr(half_precision, "instructions", lambda: "AVX-512 BF16")


@pytest.fixture
def measured(capable: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the share of float32's time that a forward pass in bfloat16 takes."""
    return lambda share: monkeypatch.setattr(half_precision, "share_of_time", lambda *_: share)


def planned(stimuli: Path, net: nn.Module | None = None, **options: Any) -> Any:
    return flat.plan(
        net or Net(), stimuli, layers=["body", "head"], preprocessing=SMALL, batch_size=4, **options
    )


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, "AVX-512 BF16"),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": True}, "AMX"),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}, None),
        ({"architecture": "aarch64", "bf16": False}, None),
    ],
)
def test_instructions_are_those_that_torch_detects(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], said: str | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert instructions() == said


def clock(monkeypatch: pytest.MonkeyPatch, readings: Iterator[float]) -> None:
    def seconds(work: Callable[[], object]) -> float:
        work()
        return next(readings)

    monkeypatch.setattr("fusiform.engine.scanning.timing.seconds", seconds)


def test_precisions_take_turns_after_one_that_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock(monkeypatch, iter([1, 9, 1, 0.5, 2, 1.2, 1, 0.4]))
    net, seen = Net(), list[torch.dtype]()
    net.sees = lambda images: seen.append(images.dtype)
    assert share_of_time(net, ["body"], 16, 3) == 0.5
    assert seen == 4 * [torch.float32, torch.bfloat16]
    assert net.body.weight.dtype == torch.float32


def test_long_turns_are_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, iter([10, 8]))
    assert share_of_time(Net(), ["body"], 16, 3) == 0.8


def test_the_plan_gives_the_time_in_bfloat16(
    stimuli: Path, measured: Callable[[float], None]
) -> None:
    for share in (0.5, 1.5):
        measured(share)
        found = planned(stimuli)
        saved = found.stimuli / found.network * (1 - share)
        assert found.bfloat16_seconds == pytest.approx(found.seconds - saved)


def test_the_plan_measures_and_leaves_a_module_as_it_is(stimuli: Path, capable: None) -> None:
    net = Net()
    before = net.body.weight.clone()
    assert planned(stimuli, net).bfloat16_seconds > 0
    assert torch.equal(net.body.weight, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_chosen_precision_is_not_compared(
    stimuli: Path, measured: Callable[[float], None], precision: str
) -> None:
    measured(0.5)
    assert planned(stimuli, precision=precision).bfloat16_seconds is None


def test_a_network_in_half_precision_is_not_compared(
    stimuli: Path, measured: Callable[[float], None]
) -> None:
    measured(0.5)
    assert planned(stimuli, Net(torch.bfloat16)).bfloat16_seconds is None


def test_a_network_without_parameters_is_not_compared(
    stimuli: Path, measured: Callable[[float], None]
) -> None:
    measured(0.5)  # it cannot be cast
    net = nn.Sequential(nn.AvgPool2d(4))
    given = {"layers": "all", "preprocessing": SMALL, "batch_size": 4}
    assert flat.plan(net, stimuli, **given).bfloat16_seconds is None


def test_a_processor_without_instructions_measures_nothing(
    stimuli: Path, measured: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(0.5)
    monkeypatch.setattr(half_precision, "instructions", lambda: None)
    assert planned(stimuli).bfloat16_seconds is None
    assert list(check_bfloat16("cpu")) == []


class Single(Net):
    """Works in single precision alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images + torch.zeros(1, 3, 1, 1))


def test_a_plan_notes_why_it_could_not_measure(
    stimuli: Path, capable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    listener = Listener(note=notes.append)
    assert planned(stimuli, Single(), progress=listener).bfloat16_seconds is None
    assert notes[-1].startswith("bfloat16 could not be measured: ")
    monkeypatch.setattr(half_precision, "_SLOW", 0)
    assert planned(stimuli, progress=listener).bfloat16_seconds is None
    assert re.fullmatch(r"bfloat16 is not measured: an image takes \d+ s", notes[-1])


def test_the_plan_command_says_what_bfloat16_would_save(
    stimuli: Path, measured: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(0.5)
    found = replace(planned(stimuli), seconds=60.0)

    def said(seconds: float | None, *options: str) -> str:
        made_up = replace(found, bfloat16_seconds=seconds)
        monkeypatch.setattr("fusiform.engine.doctor.forecast.plan", lambda *_, **__: made_up)
        return CliRunner().invoke(app, ["plan", "resnet18", str(stimuli), *options]).stdout

    last = said(40).splitlines()[-1]
    assert last == f"bfloat16   with --precision bfloat16 about 40 s; {CHANGE_IN_T}"
    for no_less in (58, 80):
        last = said(no_less).splitlines()[-1]
        assert last == "bfloat16   --precision bfloat16 would save nothing on this machine"
    assert "bfloat16" not in said(None)
    assert json.loads(said(40, "--json"))["bfloat16_seconds"] == 40
    assert json.loads(said(None, "--json"))["bfloat16_seconds"] is None


def test_doctor_measures_a_resnet18(measured: Callable[[float], None]) -> None:
    measured(0.5)
    (finding,) = check_bfloat16("cpu")
    assert finding == judge_bfloat16("AVX-512 BF16", 0.5)
    said = "AVX-512 BF16; in bfloat16 a ResNet-18 takes 0.50 of its time in float32, and "
    assert finding.found == said + CHANGE_IN_T
    assert list(check_bfloat16("no such device")) == []


def test_doctor_quotes_no_cost_where_nothing_is_saved() -> None:
    finding = judge_bfloat16("AMX", 1.3)
    assert finding.found == "AMX; in bfloat16 a ResNet-18 takes 1.30 of its time in float32"
    assert finding.severity == "ok"


def test_the_change_in_t_is_the_one_measured() -> None:
    results = (ROOT / "benchmarks" / "results" / "precision.md").read_text()
    of_bfloat16 = re.findall(r"^\| \S+ \|(?:[^|]*\|){4} [\d.]+ \(([\d.]+)\)", results, re.MULTILINE)
    assert len(of_bfloat16) == 10
    (quoted,) = re.findall(r"less than (0\.\d+)", CHANGE_IN_T)
    assert float(quoted) - 0.01 < max(map(float, of_bfloat16)) < float(quoted)
    assert f"less than {quoted}" in (ROOT / "docs" / "reference" / "definitions.md").read_text()
