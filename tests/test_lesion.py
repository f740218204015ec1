"""Lesions: silenced units give 0, all others are unchanged."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fusiform
from fusiform.engine.errors import UserError

from . import flat

Pair = namedtuple("Pair", ["first", "second"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(torch.relu(self.conv(x))).flatten(1))


def recorded(net: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = net.get_submodule(layer).register_forward_hook(lambda *a: seen.append(a[2].clone()))
    net(images)
    hook.remove()
    return seen[0]


@torch.no_grad()
def test_lesioned_units_are_silenced_and_restored() -> None:
    net, images = Net().eval(), torch.randn(2, 3, 6, 6)
    mask = np.zeros((4, 6, 6), bool)
    mask[1, 2:5] = True
    before, activation = net(images), recorded(net, "conv", images)
    with fusiform.lesion(net, {"conv": mask}) as lesioned:
        assert lesioned is net
        silenced = recorded(net, "conv", images)
        assert not torch.equal(net(images), before)
    assert (silenced[:, mask] == 0).all()
    assert torch.equal(silenced[:, ~mask], activation[:, ~mask])
    assert torch.equal(net(images), before)
    with fusiform.lesion(net, {"conv": mask, "head": np.arange(5) == 3}, to=-2.5):
        assert (recorded(net, "conv", images)[:, mask] == -2.5).all()
        assert (net(images)[:, 3] == -2.5).all()
    with pytest.raises(ZeroDivisionError), fusiform.lesion(net, {"conv": mask}):
        _ = 1 / 0
    assert torch.equal(net(images), before)


@torch.no_grad()
def test_lesions_silence_tensors_inside_containers() -> None:
    class Inside(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind

        def forward(self, x: torch.Tensor) -> object:
            return {"tuple": (x, None), "list": [x], "dict": {"a": x, "b": None},
                    "named": Pair(x, None)}[self.kind]  # fmt: skip

    x, mask = torch.ones(2, 3), np.array([True, False, True])
    for kind in ("tuple", "list", "dict", "named"):
        net = nn.Sequential(Inside(kind))
        plain = net(x)
        with fusiform.lesion(net, {"0": mask}):
            output = net(x)
        assert type(output) is type(plain)
        tensor = output["a"] if kind == "dict" else output[0]
        assert tensor.tolist() == [[0, 1, 0]] * 2


@torch.no_grad()
def test_impossible_lesions_raise() -> None:
    net, images = Net().eval(), torch.randn(1, 3, 6, 6)
    with pytest.raises(UserError, match="did you mean conv"), fusiform.lesion(net, {"cnv": 1 > 0}):
        pass
    with pytest.raises(UserError, match="a mask is boolean; the mask of conv is float64"):
        fusiform.lesion(net, {"conv": np.zeros((4, 6, 6))}).__enter__()
    with (
        fusiform.lesion(net, {"conv": np.zeros((4, 6, 7), bool)}),
        pytest.raises(UserError, match=r"conv returns \[4, 6, 6\] .* mask is \[4, 6, 7\]"),
    ):
        net(images)


@pytest.mark.smoke
def test_a_scan_of_a_lesioned_network_records_the_lesion(stimuli: Path, tmp_path: Path) -> None:
    options = {
        "layers": ["conv", "head"],
        "preprocessing": fusiform.Preprocessing(resize=32, crop=32),
        "decode_workers": 1,
    }
    net = Net()
    result = flat.scan(net, stimuli, tmp_path / "whole.zarr", **options)
    mask = result.mask("noise", "conv", fusiform.Criterion("rest", "top 10%"))
    assert mask.shape == (4, 32, 32)
    assert mask.sum() == 409
    with fusiform.lesion(net, {"conv": mask}):
        lesioned = flat.scan(net, stimuli, tmp_path / "lesioned.zarr", **options)
    dead = lesioned.query("noise: dead", layers="conv").masks()["conv"]["matches"].values[0]
    assert (dead >= mask).all()
    head = result.layer("head")
    assert not np.array_equal(result.read(head, "mean"), lesioned.read(head, "mean"))
