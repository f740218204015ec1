"""The probe finds networks that depend on the batch or differ between runs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.engine.errors import UserError
from fusiform.engine.networks.hooks import capture
from fusiform.engine.networks.layers import named_modules, trial
from fusiform.engine.networks.probe import probe
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.progress import Listener

from . import flat
from .flat import load_backbone

SMALL = Preprocessing(32, 32)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
Make = Callable[[], nn.Module]


class Gives(nn.Module):
    """Applies ``of`` to its input."""

    def __init__(self, of: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.of(x)


class Forced(nn.Module):
    """Uses batch statistics in every mode, and updates its running ones."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn.train()(x)


class Counting(nn.Module):
    """Scales its output more in every call."""

    times = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.times += 1
        return x * (1 + 0.2 * self.times)


class Stuck(nn.Dropout):
    """Ignores ``eval``."""

    def train(self, mode: bool = True) -> Stuck:
        return super().train(True)


class Dropped(nn.Module):
    """Skips its part at random, one time in five."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(-x) if torch.rand(()) > 0.2 else x


class DrawsInVain(nn.Module):
    """Draws a random number that matters in training only, like LayerDrop of some libraries."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if self.training and torch.rand([]) > 0.5 else x + 0 * torch.rand([])


def varied(x: torch.Tensor) -> torch.Tensor:
    """One of eight channels holds the batch's variation, as in StyleGAN's discriminator."""
    return torch.cat([x[:, :7], x[:, :1].std(0)[None].expand(len(x), 1, -1, -1)], 1)


def around(middle: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ends = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)
        return nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), middle, *ends).eval()


def found(net: nn.Module) -> str | None:
    return probe(net, 32, [name for name, _ in named_modules(net)])


ON_THE_BATCH: dict[str, tuple[Make, str]] = {
    "batch norm": (lambda: nn.BatchNorm2d(8, track_running_stats=False), "2 (BatchNorm2d)"),
    "two": (
        lambda: nn.Sequential(*(nn.BatchNorm2d(8, track_running_stats=False) for _ in range(2))),
        "2.0 (BatchNorm2d, the first of 2)",
    ),
    "forced": (Forced, "2.bn (BatchNorm2d)"),
    "mean": (lambda: Gives(lambda x: x - x.mean(0)), "2 (Gives)"),
    "maximum": (lambda: Gives(lambda x: x / x.amax()), "2 (Gives)"),
    "order": (lambda: Gives(lambda x: x.flip(0)), "2 (Gives)"),
    "neighbour": (lambda: Gives(lambda x: x + x.roll(1, 0)), "2 (Gives)"),
    "number": (lambda: Gives(lambda x: x / len(x)), "2 (Gives)"),
    "softmax": (lambda: Gives(lambda x: x.softmax(0)), "2 (Gives)"),
    "one channel": (lambda: Gives(varied), "2 (Gives)"),
}
ON_THE_RUN: dict[str, tuple[Make, str]] = {
    "functional dropout": (lambda: Gives(lambda x: nn.functional.dropout(x, 0.1)), "2 (Gives)"),
    "dropout": (lambda: Stuck(0.1), "2 (Stuck)"),
    "noise": (lambda: Gives(lambda x: x + 0.1 * torch.randn_like(x)), "2 (Gives)"),
    "rows": (
        lambda: Gives(lambda x: x * (torch.rand(len(x), 1, 1, 1) > 0.3).to(x.dtype)),
        "2 (Gives)",
    ),
    "before a child": (
        lambda: nn.Sequential(Gives(lambda x: x * torch.rand(1).to(x)), nn.ReLU()),
        "2.0 (Gives)",
    ),
    "instance norm": (
        lambda: nn.Sequential(nn.InstanceNorm2d(8, track_running_stats=True), Counting()),
        "2.1 (Counting)",
    ),
    "calls": (Counting, "2 (Counting)"),
    "stochastic depth": (
        lambda: Gives(lambda x: x + x.flip(1) * float(torch.rand(()) > 0.2)),
        "2 (Gives)",
    ),
    "shift": (
        lambda: Gives(lambda x: x.roll(tuple(torch.randint(0, 3, (2,)).tolist()), (2, 3))),
        "2 (Gives)",
    ),
    "layer drop": (Dropped, "2 (Dropped)"),
    "numpy": (lambda: Gives(lambda x: x * float(np.random.rand())), "2 (Gives)"),
    "python": (lambda: Gives(lambda x: x * random.random()), "2 (Gives)"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ON_THE_BATCH)
def test_layers_that_depend_on_the_batch_are_named(name: str, dtype: torch.dtype) -> None:
    make, module = ON_THE_BATCH[name]
    note = found(around(make()).to(dtype))
    assert note is not None
    assert note.startswith("warning: responses to an image depend on the other images")
    assert f"from {module} on" in note


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ON_THE_RUN)
def test_layers_that_differ_between_runs_are_named(name: str, dtype: torch.dtype) -> None:
    make, module = ON_THE_RUN[name]
    random.seed(0)  # two draws may be alike by chance
    np.random.seed(0)
    note = found(around(make()).to(dtype))
    assert note is not None
    assert note.startswith("warning: the network gives different responses to the same images")
    assert f"from {module} on" in note


STEADY: list[Make] = [
    DrawsInVain,
    lambda: nn.BatchNorm2d(8),
    lambda: nn.InstanceNorm2d(8),
    lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    lambda: nn.GroupNorm(2, 8),
    lambda: nn.Dropout(0.5),
    # Networks that amplify rounding, unlike those that depend on the batch.
    lambda: Gives(torch.sign),
    lambda: Gives(lambda x: (4 * x).round()),
    lambda: Gives(lambda x: (x + 300) - 300),
    lambda: Gives(lambda x: (x - x.mean((2, 3), keepdim=True)) * 1e4),
    lambda: Gives(lambda x: x.sort(1).values),
    lambda: Gives(torch.zeros_like),
    lambda: Gives(lambda x: x / 0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", STEADY)
def test_rounding_is_not_taken_for_dependence(make: Make, dtype: torch.dtype) -> None:
    assert found(around(make()).to(dtype)) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v3_small", "timm:test_vit"])
def test_library_networks_depend_on_nothing_but_the_image(model: str, dtype: torch.dtype) -> None:
    net = load_backbone(model, "none").model.to(dtype)
    crop = 160 if model.startswith("timm") else 64
    layers = [layer.name for layer in trial(net, crop).layers]
    assert probe(net, crop, layers) is None
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
    assert bool(probe(net, crop, layers)) == (not model.startswith("timm"))


def test_only_recorded_layers_are_probed() -> None:
    net = around(Stuck())
    assert probe(net, 32, ["0", "1"]) is None
    assert "in 2 of 3 layers" in str(probe(net, 32, ["1", "2", "5"]))


@pytest.mark.parametrize("middle", [Forced, Stuck, Counting])
def test_a_probe_does_not_change_network_or_random_state(middle: Make) -> None:
    net = around(middle())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    buffers = [id(buffer) for buffer in net.buffers()]
    state, own, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert found(net)
    assert torch.equal(state, torch.get_rng_state())
    assert random.getstate() == own
    assert str(np.random.get_state()) == str(of_numpy)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert buffers == [id(buffer) for buffer in net.buffers()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


# In a scan


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Any) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("probe") / "set")


def scanned(net: nn.Module, stimuli: Path, output: Path, **options: Any) -> Any:
    return flat.scan(net, stimuli, output, layers="all", preprocessing=SMALL, **options)


def test_a_probe_note_is_kept_in_store_and_recording(stimuli: Path, tmp_path: Path) -> None:
    said: list[str] = []
    net = around(ON_THE_BATCH["batch norm"][0]())
    store = scanned(net, stimuli, tmp_path / "o.zarr", progress=Listener(note=said.append))
    (note,) = store.provenance["notes"]
    assert note in said
    assert "2 (BatchNorm2d)" in note
    assert "`batch_size`" in note
    shown = CliRunner().invoke(app, ["info", str(store.path), "--json"])
    assert json.loads(shown.stdout)["attributes"]["notes"] == [note]
    recording = flat.record(
        net, stimuli, tmp_path / "o.responses.zarr", store=store, random=3, layers="2"
    )
    assert "2 (BatchNorm2d)" in recording.provenance["notes"][0]
    steady = scanned(around(nn.BatchNorm2d(8)), stimuli, tmp_path / "steady.zarr")
    assert "notes" not in steady.provenance


def test_a_scan_can_refuse_batch_dependence_before_the_first_batch(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    with pytest.raises(UserError, match=r'from 2 \(Stuck\) on.*`on_nondeterminism="note"`'):
        scanned(around(Stuck()), stimuli, tmp_path / "o.zarr", on_nondeterminism="stop")
    with pytest.raises(UserError, match="choose note or stop; got 'warn'"):
        scanned(around(Stuck()), stimuli, tmp_path / "o.zarr", on_nondeterminism="warn")
    with pytest.raises(UserError, match=r"from 2 \(Stuck\) on"):
        flat.record(
            around(Stuck()), stimuli, tmp_path / "o.responses.zarr", layers="all",
            preprocessing=SMALL, on_nondeterminism="stop",
        )  # fmt: skip
    module = write_module(
        "from fusiform.tests.test_probe import *\ndef net(): return around(Stuck()), SMALL\n"
    )
    for command in ("scan", "record"):
        arguments = (f"{module}:net", str(stimuli), "-o", str(tmp_path / "o.zarr"))
        stopped = CliRunner().invoke(app, [command, *arguments, "--on-nondeterminism", "stop"])
        assert "2 (Stuck)" in str(stopped.exception)
    assert not (tmp_path / "o.zarr").exists()


# The network after a scan


class Caching(nn.Module):
    """Caches a tensor in its first pass."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.kept = how, None
        self.weight = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kept is None:
            self.kept = torch.linspace(0, 1, 8, device=x.device).view(8, 1, 1)
            if self.how == "buffer":
                self.register_buffer("made", self.kept)
            elif self.how == "input":
                self.kept = x.detach()[0, :, :1, :1]
            elif self.how == "cast":
                self.kept = self.weight.detach().clone()
        return x * self.kept * self.weight


@pytest.mark.parametrize("how", ["attribute", "buffer", "input", "cast"])
@pytest.mark.parametrize("use", ["scan", "record", "layers", "forecast"])
def test_a_network_can_be_trained_after_a_scan(
    stimuli: Path, tmp_path: Path, how: str, use: str
) -> None:
    net = around(Caching(how)).train()
    net[0].requires_grad_(False)
    if use == "scan":
        scanned(net, stimuli, tmp_path / "o.zarr")
    elif use == "record":
        flat.record(net, stimuli, tmp_path / "o.zarr", layers="all", preprocessing=SMALL)
    elif use == "layers":
        fusiform.layers(net, crop=32)
        assert all(module.training for module in net.modules())
    else:
        flat.plan(net, stimuli, layers="all", preprocessing=SMALL)
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True, True]
    net.train()(torch.rand(4, 3, 32, 32)).sum().backward()
    assert net[2].weight.grad is not None


def test_a_scan_does_not_change_running_statistics(stimuli: Path, tmp_path: Path) -> None:
    net, state = around(Forced()), torch.get_rng_state()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scanned(net, stimuli, tmp_path / "o.zarr")
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    scanned(around(Stuck()), stimuli, tmp_path / "stuck.zarr")
    assert torch.equal(state, torch.get_rng_state())


# Rows


class Prompts(nn.Module):
    """Has a table of ``rows`` learned prompts besides the images."""

    def __init__(self, rows: Callable[[int], int]) -> None:
        super().__init__()
        self.rows, self.table = rows, nn.Embedding(64, 6)
        self.body = nn.Conv2d(3, 6, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        prompts = self.table(torch.arange(self.rows(len(x))))
        return self.body(x).mean((2, 3)) + prompts.mean(0)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 32])
def test_a_parameter_table_with_as_many_rows_as_images_is_not_a_layer(
    stimuli: Path, tmp_path: Path, rows: int
) -> None:
    net = Prompts(lambda _: rows).eval()
    reason = trial(net, 32).refused["table"]
    assert "no row per image" in reason
    store = scanned(net, stimuli, tmp_path / "o.zarr", batch_size=min(rows, 5))
    assert [layer.name for layer in store.layers] == ["body", "output"]
    assert not fusiform.check(store.path).problems


@pytest.mark.parametrize("show", ["scan", "record", "workers"])
def test_the_row_count_is_checked_against_every_batch(
    stimuli: Path, tmp_path: Path, show: str, write_module: Callable[[str], str]
) -> None:
    complaint = r"table returned \[5, 6\] for a batch of 8: leave it out of `layers`"
    module = write_module(
        "from fusiform.tests.test_probe import *\n"
        "def net(): return Prompts(lambda n: min(n, 5)), SMALL\n"
    )
    if show == "workers":
        pytest.importorskip("distributed")
    made = flat.record if show == "record" else flat.scan
    workers = {"workers": 1} if show == "workers" else {}
    output = tmp_path / "o.zarr"
    with pytest.raises(UserError, match=complaint):
        made(f"{module}:net", stimuli, output, layers="all", batch_size=8, **workers)
    assert not output.exists()


def test_activations_with_a_wrong_row_count_are_never_passed_on() -> None:
    taken: list[Any] = []
    with (
        capture(Prompts(lambda _: 3), ["table"], lambda *given: taken.append(given)) as show,
        pytest.raises(UserError, match=r"table returned \[3, 6\] for a batch of 2"),
    ):
        show(torch.zeros(2, 3, 32, 32))
    assert not taken


# Precision


class Clashing(nn.Module):
    """Computes one part in float32, whatever the precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x.float().mean((2, 3)), self.weight)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 8))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "make",
    [
        Clashing,
        lambda: Gives(lambda x: nn.functional.conv2d(x.float(), torch.ones(1, 8, 1, 1).to(x))),
        lambda: Gives(lambda x: x.index_put((torch.tensor([0]),), torch.zeros(1).double())),
        lambda: Gives(lambda x: x.flatten(1) @ torch.ones(8 * 14 * 14, 2)),
    ],
)
def test_a_clash_of_precisions_is_named(
    stimuli: Path, tmp_path: Path, make: Make, precision: str
) -> None:
    net = around(make())
    with pytest.raises(UserError) as caught:
        scanned(net, stimuli, tmp_path / "o.zarr", precision=precision)
    message = str(caught.value)
    assert message.startswith(f"a network with {precision} input computes in it throughout; 2 ")
    assert "`crop`" not in message
    assert "choose another `precision`" in message


def test_one_tensor_among_plain_values_can_be_scanned_and_lesioned(
    stimuli: Path, tmp_path: Path
) -> None:
    class Sized(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
            return 2 * x, (x.shape[2], x.shape[3])

    net = nn.Sequential(nn.Conv2d(3, 4, 8, 8), Sized(), Gives(lambda x: x[0])).eval()
    store = scanned(net, stimuli, tmp_path / "o.zarr")
    means = [store.read(store.layer(name), "mean") for name in ("0", "1", "2")]
    np.testing.assert_allclose(means[1], 2 * means[0], rtol=1e-6)
    np.testing.assert_array_equal(means[1], means[2])
    with fusiform.lesion(net, {"1": np.ones(store.layer("1").shape, bool)}):
        assert not net(torch.rand(2, 3, 32, 32)).any()
