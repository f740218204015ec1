"""Finding, naming, choosing and capturing the layers of a network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.networks.hooks import capture
from fusiform.engine.networks.layers import Recordable, choose, trial

listed = cache(fusiform.layers)  # each network is built and run once for all tests


def stages(*lengths: int, pattern: str = "layer{}.{}") -> list[str]:
    return [pattern.format(s + 1, b) for s, length in enumerate(lengths) for b in range(length)]


BLOCKS = {
    "resnet18": ["maxpool", *stages(2, 2, 2, 2), "avgpool"],
    "resnet50": ["maxpool", *stages(3, 4, 6, 3), "avgpool"],
    "clip:RN50": ["avgpool", *stages(3, 4, 6, 3), "attnpool"],
    "vit_b_16": [
        "encoder.dropout",
        *(f"encoder.layers.encoder_layer_{block}" for block in range(12)),
        "encoder.ln",
    ],
    "swin_t": [
        "features.0",
        *("features.1.0", "features.1.1", "features.2"),
        *("features.3.0", "features.3.1", "features.4"),
        *(f"features.5.{block}" for block in range(6)),
        *("features.6", "features.7.0", "features.7.1"),
        "avgpool",
    ],
    "timm:test_vit": ["norm_pre", *(f"blocks.{block}" for block in range(6)), "fc_norm"],
    # Its blocks are in a list named "blocks", which never runs itself.
    "timm:eva02_tiny_patch14_224": [
        "norm_pre",
        *(f"blocks.{block}" for block in range(12)),
        "fc_norm",
    ],
}


def names(layers: Any) -> list[str]:
    return [layer.name for layer in layers]


def chosen(found: Recordable, *patterns: str) -> list[str]:
    return names(choose(found, patterns)[0])


def refusal(found: Recordable, *patterns: str) -> str:
    with pytest.raises(UserError) as caught:
        choose(found, patterns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shapes(found: Recordable) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    return {layer.name: (layer.dims, layer.shape) for layer in found.layers}


# Networks of the libraries


@pytest.mark.parametrize("model", BLOCKS)
def test_default_layers_run_from_stem_to_pooled_output(model: str) -> None:
    layers, notes = choose(listed(model), ["blocks"])
    assert names(layers) == BLOCKS[model]
    assert notes == []


def test_blocks_whose_layers_have_norms_of_their_own_are_blocks() -> None:
    from transformers import RegNetConfig, RegNetModel, ResNetConfig, ResNetModel

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 1]}
    blocks = [f"encoder.stages.{block}" for block in ("0.layers.0", "0.layers.1", "1.layers.0")]
    for network in (
        ResNetModel(ResNetConfig(**sizes, layer_type="bottleneck")),
        ResNetModel(ResNetConfig(**sizes, layer_type="basic")),
        RegNetModel(RegNetConfig(**sizes, groups_width=4)),
    ):
        assert trial(network, 32).blocks == ("embedder", *blocks, "pooler")
    parts = [name for name in listed("timm:skresnet18").blocks if name.startswith("layer")]
    assert parts == stages(2, 2, 2, 2)


def test_layers_with_norms_are_the_blocks_of_a_network_without_others() -> None:
    class Whole(Around):
        pass

    parts = [Around(nn.Conv2d(3, 3, 1)) for _ in range(2)]
    network = nn.Sequential(nn.Identity(), Whole(nn.Sequential(*parts)))
    assert trial(network, 8).blocks[1:3] == ("1.inner.0", "1.inner.1")


def test_a_clip_resnet_has_the_blocks_of_resnet50() -> None:
    def blocks(model: str) -> list[str]:
        return [name for name in listed(model).blocks if name.startswith("layer")]

    assert blocks("clip:RN50") == blocks("resnet50") == stages(3, 4, 6, 3)


@pytest.mark.parametrize("model", ["resnet18", "swin_t", "timm:test_vit"])
def test_layers_come_after_their_children_and_predecessors(model: str) -> None:
    order = {name: place for place, name in enumerate(names(listed(model).layers))}
    for name, place in order.items():
        assert all(order[inner] < place for inner in order if inner.startswith(f"{name}."))
    assert all(order[a] < order[b] for a, b in pairwise(BLOCKS[model]))
    assert list(order)[-1] == "output"


def test_dims_name_the_axes_of_a_layer() -> None:
    assert shapes(listed("resnet18"))["layer1.0"] == (("channel", "y", "x"), (64, 56, 56))
    assert shapes(listed("resnet18"))["avgpool"] == (("channel", "y", "x"), (512, 1, 1))
    assert shapes(listed("resnet18"))["fc"] == (("unit",), (1000,))
    assert shapes(listed("swin_t"))["features.1.0"] == (("y", "x", "channel"), (56, 56, 96))
    assert shapes(listed("swin_t"))["avgpool"] == (("channel", "y", "x"), (768, 1, 1))
    assert shapes(listed("vit_b_16"))["encoder.ln"] == (("token", "channel"), (197, 768))
    assert shapes(listed("clip:RN50"))["attnpool"] == (("unit",), (1024,))


def test_units_and_state_are_counted() -> None:
    layer = next(layer for layer in listed("resnet18").layers if layer.name == "layer1.0")
    assert layer.units == 64 * 56 * 56
    assert layer.state_bytes == 20 * layer.units
    assert layer.kind == "BasicBlock"
    (double, *_) = fusiform.layers(nn.Sequential(nn.Conv2d(3, 1, 1)).double(), crop=4).layers
    assert double.dtype == "float64"
    assert double.state_bytes == 24 * 16


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(UserError, match="a model is a name or a torch module; got int"):
        fusiform.layers(3)  # type: ignore[arg-type]


def test_a_network_of_timm_is_listed_at_its_own_size() -> None:
    import timm

    module = timm.create_model("test_vit").train()
    assert shapes(fusiform.layers(module)) == shapes(listed("timm:test_vit"))
    assert module.training


def test_another_crop_changes_shapes_but_not_names() -> None:
    smaller = fusiform.layers("resnet18", crop=64)
    assert names(smaller.layers) == names(listed("resnet18").layers)
    assert shapes(smaller)["layer1.0"] == (("channel", "y", "x"), (64, 16, 16))


@pytest.mark.parametrize("model", ["vit_b_16", "timm:test_vit", "clip:RN50"])
def test_a_network_that_does_not_run_at_the_given_size_raises(model: str) -> None:
    with pytest.raises(UserError, match=r"\[batch, 3, 72, 72\].*choose its input size with `crop`"):
        fusiform.layers(model, crop=72)


def test_a_network_without_blocks_is_recorded_at_its_leaves_with_a_note() -> None:
    found = fusiform.layers("vgg16", crop=64)
    layers, notes = choose(found, ["blocks"])
    assert notes == ["this network has no residual or transformer blocks: recording its leaves"]
    assert names(layers) == list(found.leaves)
    assert names(layers)[:2] == ["features.0", "features.1"]
    assert names(layers)[-1] == "classifier.6"
    assert not {"features", "classifier", "output"} & set(names(layers))


# Choosing


def test_layer_patterns_are_joined_in_network_order() -> None:
    found = listed("resnet18")
    assert chosen(found, "fc", "layer4.?", "conv1", "layer4.1") == [
        "conv1",
        "layer4.0",
        "layer4.1",
        "fc",
    ]
    assert chosen(found, "layer1.0", "blocks") == BLOCKS["resnet18"]
    assert chosen(found, "all") == names(found.layers)
    leaves = chosen(found, "leaf")
    assert "layer1.0.bn2" in leaves
    assert not {"layer1", "layer1.0", "output"} & set(leaves)


def test_a_pattern_that_matches_nothing_raises_with_the_nearest_name() -> None:
    message = refusal(listed("resnet18"), "blocks", "layer4.2")
    assert "no layer matches 'layer4.2'" in message
    assert "did you mean layer4.1" in message
    assert "'nothing*'" in refusal(listed("resnet18"), "nothing*")


def test_a_module_called_twice_raises_by_name_and_is_left_out_of_globs() -> None:
    found = listed("resnet18")
    assert "layer1.0.relu is called 2 times" in refusal(found, "layer1.0.relu")
    layers, notes = choose(found, ["layer1.0.*"])
    assert "layer1.0.relu" not in names(layers)
    assert "layer1.0.bn2" in names(layers)
    (note,) = notes
    assert "left out 1" in note
    assert "layer1.0.relu is called 2 times" in note
    (note,) = choose(found, ["all"])[1]
    assert "left out 8" in note
    assert "5 more" in note


# Outputs of any kind


class Gives(nn.Module):
    """Returns ``wrap(x)``."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(x)


class Around(nn.Module):
    """Runs ``inner`` and returns its own input."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.idle = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner(x)
        return x


def giving(wrap: Callable[[torch.Tensor], Any]) -> Recordable:
    return trial(Around(Gives(wrap)), 8)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: (x,),
        lambda x: [x],
        lambda x: (x, None),
        lambda x: {"out": x},
        lambda x: {"out": x, "aux": None},
        lambda x: (x, (14, 14)),
        lambda x: (x, x.shape[2:], 0.5, "same"),
        lambda x: {"out": x, "size": [8, 8], "dtype": x.dtype},
    ],
)
def test_a_single_tensor_in_a_container_is_recorded(wrap: Callable[[torch.Tensor], Any]) -> None:
    assert shapes(giving(wrap))["inner"] == (("channel", "y", "x"), (3, 8, 8))


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (lambda x: (x, x), "returns a tuple of 2, not one tensor"),
        (lambda x: {"a": x, "b": x}, "returns a dict of 2, not one tensor"),
        (lambda x: (x, [x]), "returns a tuple of 2, not one tensor"),
        (lambda x: (x, object()), "returns a tuple of 2, not one tensor"),
        (lambda x: x[:1].repeat(5, 1, 1, 1), "returns shape [5, 3, 8, 8] for 2 images: no row"),
        (lambda x: x[0, 0], "returns shape [8, 8] for 5 images: no row per image"),
        (lambda x: x.flatten(1) @ x.flatten(1).T, "returns float32 [5] for each of 5 images and"),
        (lambda x: (3,), "returns a tuple of 1, not one tensor"),
        (lambda x: None, "returns a NoneType, not one tensor"),
        (lambda x: x.int(), "returns torch.int32, not floating-point numbers"),
        (lambda x: x.to(torch.float8_e5m2), "returns torch.float8_e5m2, not floating-point"),
        (lambda x: x > 0, "returns torch.bool, not floating-point numbers"),
        (lambda x: x.to(torch.complex64), "returns torch.complex64, not floating-point numbers"),
        (lambda x: x.mean(), "returns shape [] for 5 images: no row per image"),
        (lambda x: x.flatten(0, 1), "returns shape [15, 8, 8] for 5 images: no row per image"),
        (lambda x: x[:, 0, 0, 0], "returns shape [5] for 5 images: no row per image"),
    ],
)
def test_an_unsupported_output_raises_with_the_layers_name(
    wrap: Callable[[torch.Tensor], Any], reason: str
) -> None:
    found = giving(wrap)
    assert found.refused["inner"].startswith(reason)
    assert f"inner {reason}" in refusal(found, "inner")


def test_a_module_that_never_runs_raises_with_its_name() -> None:
    found = giving(lambda x: x)
    assert "idle is not run by a forward pass" in refusal(found, "idle")


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((7,), ("unit",)),
        ((5, 7), ("token", "channel")),
        ((5, 7, 7), ("channel", "y", "x")),
        ((7, 7, 5), ("y", "x", "channel")),
        ((7, 7, 7), ("axis_0", "axis_1", "axis_2")),
        ((5, 7, 9), ("axis_0", "axis_1", "axis_2")),
        ((7, 7, 1), ("axis_0", "axis_1", "axis_2")),
        ((7, 1, 1), ("channel", "y", "x")),
        ((16, 196, 96), ("axis_0", "axis_1", "axis_2")),
        ((17, 7), ("axis_0", "channel")),
        ((2, 3, 4, 5), ("axis_0", "axis_1", "axis_2", "axis_3")),
    ],
)
def test_dims_follow_from_unambiguous_shapes(shape: tuple[int, ...], dims: tuple[str, ...]) -> None:
    found = giving(lambda x: x.new_zeros(len(x), *shape))
    assert shapes(found)["inner"] == (dims, shape)


def test_the_network_itself_is_the_layer_named_output() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    found = trial(network, 2)
    assert names(found.layers) == ["0", "1", "output"]
    recorded = record(network, ["output"], torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(recorded["output"], network[1].bias.expand(1, 5))


def test_blocks_are_recognised_by_class_outside_containers() -> None:
    def block() -> nn.Module:
        return Around(nn.Conv2d(3, 3, 1))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 3, 1)
            self.first, self.second = block(), block()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pool(self.second(self.first(self.stem(x))))

    assert list(trial(Network(), 8).blocks) == ["stem", "first", "second", "pool"]


def test_the_trial_pass_leaves_no_hooks_even_if_it_fails() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Linear(7, 1))
    with pytest.raises(UserError):
        trial(network, 8)
    assert not hooks(network)
    trial(network, 7)
    assert not hooks(network)


# Capturing


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def record(
    network: nn.Module, layers: list[str], *batches: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Activations captured for ``layers``, batches concatenated."""
    seen: dict[str, list[torch.Tensor]] = {}
    with capture(network, layers, lambda k, v: seen.setdefault(k, []).append(v.clone())) as show:
        for batch in batches:
            show(batch)
    return {name: torch.cat(parts) for name, parts in seen.items()}


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(144, 2)).eval()


def test_captured_activations_equal_the_modules_output(network: nn.Sequential) -> None:
    recorded = record(network, ["4", "0", "1"], IMAGES[:4], IMAGES[4:])
    assert list(recorded) == ["0", "1", "4"]
    with torch.inference_mode():
        torch.testing.assert_close(recorded["0"], network[0](IMAGES))
        torch.testing.assert_close(recorded["1"], network[1](network[0](IMAGES)))
        torch.testing.assert_close(recorded["4"], network(IMAGES))


def test_an_in_place_operation_does_not_change_captured_activations(network: nn.Sequential) -> None:
    recorded = record(network, ["1", "2"], IMAGES)
    assert recorded["1"].min() < 0
    assert recorded["2"].min() == 0
    torch.testing.assert_close(recorded["1"].relu(), recorded["2"])


def test_a_tensor_in_a_tuple_is_recorded() -> None:
    network = Around(Gives(lambda x: (2 * x, None)))
    torch.testing.assert_close(record(network, ["inner"], IMAGES)["inner"], 2 * IMAGES)


def test_activations_carry_no_gradients(network: nn.Sequential) -> None:
    assert any(parameter.requires_grad for parameter in network.parameters())
    seen = []
    with capture(network, ["0"], lambda _, x: seen.append(x.requires_grad)) as show:
        show(IMAGES)
    assert seen == [False]


def test_the_forward_pass_stops_after_the_last_captured_layer(network: nn.Sequential) -> None:
    def fail(_: torch.Tensor) -> None:
        raise AssertionError("ran a module that nobody asked for")

    network[3] = Gives(fail)
    recorded = record(network, ["2", "0"], IMAGES[:3], IMAGES[3:])
    assert recorded["2"].shape == (6, 4, 6, 6)
    with pytest.raises(AssertionError, match="nobody asked"):
        record(network, ["4"], IMAGES)


def test_hooks_are_removed_after_capturing(network: nn.Sequential) -> None:
    with capture(network, ["0", "1"], lambda *_: None):
        assert hooks(network) == 2
    assert not hooks(network)


def test_hooks_are_removed_after_an_exception(network: nn.Sequential) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("elsewhere")

    with pytest.raises(KeyError, match="elsewhere"), capture(network, ["0"], fail) as show:
        show(IMAGES)
    assert not hooks(network)
    with pytest.raises(RuntimeError), capture(network, ["4"], lambda *_: None) as show:
        show(IMAGES[..., :5])
    assert not hooks(network)


class Moody(nn.Module):
    """Runs ``step`` as many times as the first pixel says."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Identity()
        self.last = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.flatten()[0])):
            x = self.step(x)
        return self.last(x)


@pytest.mark.parametrize(
    ("times", "complaint"), [(0, "step was skipped in one"), (2, "step is called twice")]
)
def test_a_layer_that_does_not_run_once_in_a_later_pass_is_named(
    times: int, complaint: str
) -> None:
    ones = torch.ones(2, 3, 4, 4)
    with capture(Moody(), ["step", "last"], lambda *_: None) as show:
        show(ones)
        with pytest.raises(UserError, match=complaint):
            show(times * ones)


def test_a_layer_that_gives_no_tensor_in_a_later_pass_is_named() -> None:
    network = Around(Gives(lambda x: x if len(x) > 1 else "nothing"))
    with pytest.raises(UserError, match="inner returned str"):
        record(network, ["inner"], IMAGES, IMAGES[:1])


def test_a_block_that_cannot_be_recorded_is_noted() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inside(x)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Block(), Block()])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks[1](self.blocks[0](self.blocks[0](x)))

    layers, notes = choose(trial(Twice(), 8), ["blocks"])
    assert "blocks.1" in names(layers)
    assert "blocks.0" not in names(layers)
    assert "blocks.0 is called 2 times" in notes[0]


def test_an_empty_list_of_patterns_raises() -> None:
    with pytest.raises(UserError, match="at least one layer"):
        choose(listed("resnet18"), [])


def test_a_module_named_output_keeps_its_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Conv2d(3, 2, 1)
            self.count = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.count(self.output(x))

    found = trial(Named(), 8)
    assert names(found.layers) == ["output", "output_"]
    assert found.refused == {"count": "has a name reserved by the store"}


@pytest.mark.parametrize("crop", [0, -5])
def test_an_image_side_below_one_pixel_raises(crop: int) -> None:
    with pytest.raises(UserError, match="1 pixel or more"):
        fusiform.layers("resnet18", crop=crop)
