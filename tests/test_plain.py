"""Networks passed through torch.compile are scanned uncompiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.networks.uncompiled import plain, uncompiled
from fusiform.engine.preprocessing import Preprocessing

from . import flat
from .flat import load_backbone
from .fuzz.small import contents
from .test_compiled import needs_compiler

# Before 2.14 torch's compiler imports deprecated parts of torch.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
SMALL = Preprocessing(resize=16, crop=16)
LAYERS = ["stem", "body.0", "body.1", "body", "head", "output"]


class Net(nn.Module):
    """A stem, a body of two layers and a head, with seeded weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 4, stride=2)
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
        self.head = nn.Linear(4, 3)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(self.stem(images)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


def own_method(net: nn.Module, name: str) -> nn.Module:
    setattr(net, name, torch.compile(getattr(net, name)))
    return net


def class_method(name: str) -> nn.Module:
    return type("Net", (Net,), {name: torch.compile(getattr(Net, name))})()


def in_place(module: nn.Module) -> nn.Module:
    module.compile()
    return module


def with_parts(make: Callable[[nn.Module], nn.Module], *parts: str) -> nn.Module:
    net = Net()
    for part in parts:
        net.set_submodule(part, make(net.get_submodule(part)))
    return net


WAYS: dict[str, Callable[[], nn.Module]] = {
    "wrapped": lambda: torch.compile(Net()),
    "in place": lambda: in_place(Net()),
    "wrapped, in place": lambda: torch.compile(in_place(Net())),
    "parts wrapped": lambda: with_parts(torch.compile, "stem", "body.1", "body"),
    "parts in place": lambda: with_parts(in_place, "body.0", "body"),
    "all of it": lambda: torch.compile(with_parts(torch.compile, "stem", "body")),
    "its forward": lambda: own_method(Net(), "forward"),
    "the forward of a part": lambda: with_parts(lambda m: own_method(m, "forward"), "body"),
    "a method": lambda: own_method(Net(), "features"),
    "its class's forward": lambda: class_method("forward"),
    "a method of its class": lambda: class_method("features"),
}


def state_of(net: nn.Module) -> dict[str, dict[str, Any]]:
    return {
        name: {key: dict(value) if isinstance(value, dict) else value
               for key, value in vars(module).items() if key != "training"}
        for name, module in net.named_modules()
    }  # fmt: skip


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("set") / "stimuli", each=4)


def scanned(stimuli: Path, output: Path, net: nn.Module, **options: Any) -> Any:
    options = {"layers": LAYERS, "preprocessing": SMALL, "batch_size": 4, **options}
    return flat.scan(net, stimuli, output, **options)


@pytest.fixture(scope="module")
def expected(stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scanned(stimuli, tmp_path_factory.mktemp("plain") / "o.zarr", Net())


@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_network_is_scanned_as_its_original(
    stimuli: Path, tmp_path: Path, expected: Any, way: str
) -> None:
    net = WAYS[way]()
    before = state_of(net)
    found = [layer.name for layer in fusiform.layers(net, crop=16).layers]
    assert found == ["stem", "body.0", "body.1", "body", "head", "output"]
    store = scanned(stimuli, tmp_path / "o.zarr", net)
    assert contents(store.path) == contents(expected.path)
    for name in ("model", "weights_sha256", "modules_sha256", "fingerprint"):
        assert store.provenance[name] == expected.provenance[name], name
    assert state_of(net) == before
    assert uncompiled(net) is not net  # which is still compiled


@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_network_from_a_factory_is_scanned_as_its_original(
    write_module: Callable[[str], str], way: str
) -> None:
    source = f"from fusiform.tests.test_plain import WAYS\nmake = WAYS[{way!r}]\n"
    backbone = load_backbone(f"{write_module(source)}:make")
    assert [name for name, _ in backbone.model.named_modules()] == [
        name for name, _ in Net().named_modules()
    ]
    assert backbone.weights_hash == load_backbone("fusiform.tests.test_plain:Net").weights_hash
    assert uncompiled(backbone.model) is backbone.model


def test_a_network_that_is_not_compiled_is_not_copied() -> None:
    net = Net()
    assert plain(net) is net
    assert not net.training


def test_a_shared_part_stays_shared() -> None:
    net = Net()
    net.again = net.body[1] = torch.compile(net.body[1])
    copy = uncompiled(net)
    assert copy.again is copy.body[1]
    assert type(copy.again) is nn.Conv2d


def test_a_function_with_compilation_disabled_stays_disabled() -> None:
    net = Net()
    net.features = torch.compiler.disable(net.features)
    assert uncompiled(net) is net


def test_the_uncompiled_copy_shares_state_with_the_network() -> None:
    net = torch.compile(Net().eval())
    copy = uncompiled(net)
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        net.head.weight.mul_(2)
        net.body[0].running_mean.add_(1)
        hook = net.head.register_forward_hook(lambda *given: given[2] + 5)
        own = Net().eval()
        own.load_state_dict(copy.state_dict())
        assert torch.equal(copy(images), own(images) + 5)
        hook.remove()
        assert torch.equal(copy(images), own(images))
        copy.double()
    assert {tensor.dtype for tensor in net.parameters()} == {torch.float64}


@needs_compiler
@pytest.mark.parametrize("way", ["wrapped", "in place", "parts wrapped", "its class's forward"])
def test_a_compiled_network_is_recompiled_on_request(
    stimuli: Path, tmp_path: Path, expected: Any, way: str
) -> None:
    store = scanned(stimuli, tmp_path / "o.zarr", WAYS[way](), compile=True)
    assert store.provenance["compiled"] is True
    for layer in store.layers:
        mean = expected.read(layer, "mean")
        np.testing.assert_allclose(store.read(layer, "mean"), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_a_lesion_takes_effect_in_a_compiled_network(way: str) -> None:
    net, own, images = WAYS[way]().eval(), Net().eval(), torch.rand(2, 3, 16, 16)
    masks = {"stem": np.arange(4 * 49).reshape(4, 7, 7) % 2 == 0, "output": np.arange(3) == 1}
    with fusiform.lesion(own, masks):
        silenced = own(images)
    with fusiform.lesion(net, masks) as lesioned:
        assert lesioned is net
        assert torch.equal(net(images), silenced)
    assert not any(module._forward_hooks for module in net.modules())


def scripted(net: nn.Module) -> Any:
    return torch.jit.script(net)


def traced(net: nn.Module) -> Any:
    return torch.jit.trace(net, torch.zeros(1, 3, 16, 16))


SCRIPTED: dict[str, Callable[[], Any]] = {
    "scripted": lambda: scripted(Net()),
    "traced": lambda: traced(Net()),
    "frozen": lambda: torch.jit.freeze(scripted(Net().eval())),
    "a part": lambda: with_parts(scripted, "body.1"),
    "a part, compiled": lambda: torch.compile(with_parts(traced, "stem")),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("way", SCRIPTED)
def test_scripted_networks_are_refused_in_one_line(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str], way: str
) -> None:
    source = f"from fusiform.tests.test_plain import SCRIPTED\nmake = SCRIPTED[{way!r}]\n"
    name = f"{write_module(source)}:make"
    for refused in (
        lambda: scanned(stimuli, tmp_path / "o.zarr", SCRIPTED[way]()),
        lambda: scanned(stimuli, tmp_path / "o.zarr", name),  # type: ignore[arg-type]
        lambda: fusiform.layers(SCRIPTED[way]()),
        lambda: load_backbone(name),
    ):
        with pytest.raises(
            UserError, match=r"hooks, which scripted modules .* is scripted: scan"
        ) as error:
            refused()
        assert "\n" not in str(error.value)


def test_an_exported_network_is_refused_in_one_line(stimuli: Path, tmp_path: Path) -> None:
    exported = torch.export.export(Net().eval(), (torch.zeros(5, 3, 16, 16),)).module()
    with pytest.raises(UserError, match=r"evaluation mode, which this .*: scan the network it"):
        scanned(stimuli, tmp_path / "o.zarr", exported)
