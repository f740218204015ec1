"""Default layers of networks of torchvision, timm and open_clip, by their expected names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fusiform.engine.layer import dims_of
from fusiform.engine.networks import layers as found_by
from fusiform.engine.networks.layers import choose, trial

# "NETWORK NAME NAME ...": "layer1.0-2" is layer1.0, layer1.1 and layer1.2.
EXPECTED = dict(
    line.split(" ", 1)
    for line in Path(__file__).with_name("default_layers.txt").read_text().splitlines()
)


def expanded(names: str) -> Iterator[str]:
    for name in names.split():
        if found := re.fullmatch(r"(.+?)(\d+)-(\d+)", name):
            yield from (f"{found[1]}{n}" for n in range(int(found[2]), int(found[3]) + 1))
        else:
            yield name


def built(network: str) -> tuple[nn.Module, int]:
    """A network without values, and the side of its images."""
    library, _, name = network.partition(":")
    with torch.device("meta"):
        if library == "torchvision":
            import torchvision

            starting = {"init_weights": False} if "inception" in name or "google" in name else {}
            side = 299 if name == "inception_v3" else 224
            return torchvision.models.get_model(name, weights=None, **starting).eval(), side
        if library == "timm":
            import timm

            model = timm.create_model(name).eval()
            return model, model.pretrained_cfg["input_size"][-1]
    import open_clip

    visual = open_clip.create_model(name, load_weights=False).visual
    side = visual.image_size
    return visual.to("meta").eval(), side if isinstance(side, int) else side[0]


def test_the_list_names_60_networks_of_three_libraries() -> None:
    assert len(EXPECTED) >= 60
    assert {name.partition(":")[0] for name in EXPECTED} == {"torchvision", "timm", "clip"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", EXPECTED)
def test_default_layers_of_a_network(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On the device that computes shapes alone there are no values to restore or to look at.
    monkeypatch.setattr(found_by, "untouched", lambda _: nullcontext())
    monkeypatch.setattr(found_by, "name_dims", lambda _, output: dims_of(tuple(output.shape[1:])))
    layers, notes = choose(trial(*built(network)), ["blocks"])
    assert [layer.name for layer in layers] == list(expanded(EXPECTED[network]))
    assert notes == []


# The rules, one by one


class Conv(nn.Module):
    """A convolution and its activation: a single layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x))


class Residual(nn.Module):
    """A block of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Conv(), Conv()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


class Around(nn.Module):
    """Calls a function of its parts and the input."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, *self.children())


class Net(nn.Module):
    """Stem, body, what comes after it, pooling and classifier."""

    def __init__(self, body: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.stem, self.body, self.after = nn.Conv2d(3, 4, 1), body, after
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.after(self.body(self.stem(x)))).flatten(1))


def default(body: nn.Module, after: nn.Module | None = None) -> list[str]:
    """Default layers of a network around a body."""
    layers, notes = choose(trial(Net(body, after or nn.Identity()).eval(), 8), ["blocks"])
    assert notes == []
    return [layer.name for layer in layers]


def test_branches_are_no_blocks() -> None:
    def inception() -> nn.Module:
        branch = nn.Sequential(Conv(), Conv())
        return Around(lambda x, one, other: one(x) + other(x), one=branch, other=Conv())

    body = nn.Sequential(inception(), inception())
    assert default(body) == ["stem", "body.0", "body.1", "pool"]


def test_what_stands_between_two_blocks_is_a_default_layer() -> None:
    transition = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.AvgPool2d(2))
    body = nn.Sequential(Residual(), transition, nn.ReLU(), Residual())
    assert default(body) == ["stem", "body.0", "body.1", "body.3", "pool"]


def test_single_layers_before_the_first_block_belong_to_the_stem() -> None:
    body = nn.Sequential(Conv(), Residual(), Conv(), Residual())
    assert default(body) == ["body.0", "body.1", "body.2", "body.3", "pool"]


def test_a_stage_need_not_be_a_container() -> None:
    stage = Around(lambda x, one, two: two(one(x)), one=Residual(), two=Residual())
    assert default(stage) == ["stem", "body.one", "body.two", "pool"]


def test_blocks_without_a_row_per_image_give_way_to_the_module_around_them() -> None:
    def in_rows(x: torch.Tensor, blocks: nn.Module) -> torch.Tensor:
        return blocks(x.reshape(-1, 4, 4, 4)).reshape(x.shape)

    def around() -> nn.Module:
        return Around(in_rows, blocks=nn.Sequential(Residual(), Residual()))

    body = nn.Sequential(Residual(), around(), around())
    assert default(body) == ["stem", "body.0", "body.1", "body.2", "pool"]


def test_blocks_that_return_several_tensors_give_way_to_their_parts() -> None:
    def block() -> nn.Module:
        return Around(lambda x, own: (own(x[0]), x[1]), own=Residual())

    blocks = nn.Sequential(block(), block())
    body = Around(lambda x, blocks: blocks((x, x))[0], blocks=blocks)
    assert default(body) == ["stem", "body.blocks.0.own", "body.blocks.1.own", "pool"]


def test_blocks_that_only_training_runs_are_no_default_layers() -> None:
    body = Around(
        lambda x, used, also, _: also(used(x)), used=Residual(), also=Residual(), aux=Residual()
    )
    assert default(body) == ["stem", "body.used", "body.also", "pool"]


def test_the_pooled_output_is_not_inside_a_module_that_returns_a_map() -> None:
    squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    excited = Around(lambda x, squeeze: x * squeeze(x), squeeze=squeeze)
    body = nn.Sequential(Residual(), Residual())
    assert default(body, excited) == ["stem", "body.0", "body.1", "pool"]
