"""Networks by name: untrained, with local or downloaded weights, or a one-line error."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.networks import backbones
from fusiform.engine.networks.weights import hash_weights
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.spec import Network

from .flat import load_backbone

SMALL = "timm:test_resnet"
State = dict[str, torch.Tensor]


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small(seed: int) -> nn.Module:
    return load_backbone(SMALL, "none", seed).model


# Untrained networks


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("name", "full_name", "preprocessing"),
    [
        ("resnet18", "torchvision:resnet18", Preprocessing()),
        ("torchvision:resnet18", "torchvision:resnet18", Preprocessing()),
        (
            "timm:resnet10t",
            "timm:resnet10t",
            Preprocessing(201, 176, "bicubic"),
        ),
        (SMALL, SMALL, Preprocessing(168, 160, "bilinear", (0.5,) * 3, (0.5,) * 3)),
    ],
)
def test_an_untrained_network_is_built_ready_to_run(
    name: str, full_name: str, preprocessing: Preprocessing
) -> None:
    backbone = load_backbone(name, "none", 3)
    assert backbone.name == full_name
    assert backbone.preprocessing == preprocessing
    assert backbone.weights == "untrained, seed 3"
    assert backbone.weights_hash == hash_weights(backbone.model)
    assert not any(module.training for module in backbone.model.modules())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", SMALL, "timm:test_vit"])
def test_untrained_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = load_backbone(name, "none", 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert load_backbone(name, "none", 0).weights_hash == first.weights_hash
    assert load_backbone(name, "none", 1).weights_hash != first.weights_hash


def test_a_seed_out_of_range_is_refused() -> None:
    assert f"got {2**63}" in refusal(SMALL, "none", 2**63)
    assert "got -1" in refusal(SMALL, "none", -1)


# Local weights


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


WRITERS: dict[str, Callable[[State, Path], None]] = {
    "plain.safetensors": save_file,
    "plain.pth": torch.save,
    "plain.bin": torch.save,
    "older.pt": lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False),
    "nested.pth": lambda s, p: torch.save({"state_dict": s, "epoch": 90}, p),
    "model.ckpt": lambda s, p: torch.save({"model": s, "args": {"lr": 0.1}}, p),
    "parallel.pth": lambda s, p: torch.save({"state_dict": prefixed(s, "module.")}, p),
    "parallel.safetensors": lambda s, p: save_file(prefixed(s, "module."), p),
    "without_suffix": torch.save,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_weights_are_loaded_from_a_local_file(tmp_path: Path, writer: str) -> None:
    model = small(5)
    WRITERS[writer](model.state_dict(), tmp_path / writer)
    backbone = load_backbone(SMALL, str(tmp_path / writer))
    assert backbone.weights == f"file {writer}"
    assert backbone.weights_hash == hash_weights(model)
    assert not any(module.training for module in backbone.model.modules())


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    model = small(5).half()
    save_file(model.state_dict(), tmp_path / "half.safetensors")
    backbone = load_backbone(SMALL, str(tmp_path / "half.safetensors"))
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
    assert backbone.weights_hash == hash_weights(model.float())


def test_weights_of_another_architecture_raise_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    state = small(0).state_dict()
    state["surplus"] = torch.zeros(1)
    state["conv1.0.weight"] = state["conv1.0.weight"][:1].clone()
    del state["fc.bias"], state["fc.weight"]
    torch.save(state, path)
    message = refusal(SMALL, str(path))
    assert f"{path} does not fit {SMALL}" in message
    assert "2 missing (fc.bias, fc.weight)" in message
    assert "1 unknown (surplus)" in message
    assert "1 misshapen (conv1.0.weight)" in message


def test_a_missing_weights_file_raises(tmp_path: Path) -> None:
    assert f"{tmp_path / 'gone.pth'} does not" in refusal(SMALL, str(tmp_path / "gone.pth"))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_weights_file_raises_with_its_name(
    tmp_path: Path, suffix: str, damage: str
) -> None:
    path = tmp_path / f"damaged.{suffix}"
    WRITERS[f"plain.{suffix}"](small(0).state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"weights\n"}[damage])
    assert f"cannot read {path}" in refusal(SMALL, str(path))


@pytest.mark.parametrize("content", [[1, 2], {}, {"weight": 3}, {"state_dict": {"a": "b"}}])
def test_a_weights_file_without_named_tensors_raises(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    assert f"{tmp_path / 'other.pth'} does not" in refusal(SMALL, str(tmp_path / "other.pth"))


class _Malicious:
    """Unpickling this creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.smoke
@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt", "safetensors"])
@pytest.mark.parametrize("plain_pickle", [False, True])
def test_code_in_a_weights_file_does_not_run(
    tmp_path: Path, suffix: str, plain_pickle: bool
) -> None:
    mark, path = tmp_path / "it-ran", tmp_path / f"malicious.{suffix}"
    content = {"weight": torch.zeros(1), "evil": _Malicious(mark)}
    pickle.loads(pickle.dumps(content))
    assert mark.exists()  # it would run
    mark.unlink()
    if plain_pickle:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    assert f"cannot read {path}" in refusal(SMALL, str(path))
    assert not mark.exists()


def test_local_trained_weights_fit_their_architecture(testdata: Path) -> None:
    path = testdata / "weights" / "resnet18_imagenet_compressed.safetensors"
    backbone = load_backbone("resnet18", str(path))
    assert backbone.preprocessing == Preprocessing(256, 224, "bilinear")
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
    assert f"{path} does not fit torchvision:resnet34" in refusal("resnet34", str(path))


# CLIP


@pytest.fixture(scope="module")
def clip() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = open_clip.create_model("RN50")
    return model.half().float()  # so that small files hold all its bits


def test_a_full_clip_checkpoint_and_its_tower_alone_load_the_same_tower(
    clip: nn.Module, tmp_path: Path
) -> None:
    expected = hash_weights(clip.visual)
    whole = {k: v.half() for k, v in clip.state_dict().items() if "token_embedding" not in k}
    assert any(name.startswith("transformer.") for name in whole)
    save_file(whole, tmp_path / "whole.safetensors")
    backbone = load_backbone("clip:RN50", str(tmp_path / "whole.safetensors"))
    assert backbone.weights_hash == expected
    assert backbone.name == "clip:RN50"
    tower = {k.removeprefix("visual."): v for k, v in whole.items() if k.startswith("visual.")}
    save_file(tower, tmp_path / "tower.safetensors")
    assert load_backbone("clip:RN50", str(tmp_path / "tower.safetensors")).weights_hash == expected


@pytest.mark.parametrize(("tag", "quick"), [("openai", True), ("laion2b_s34b_b79k", False)])
def test_clip_networks_compute_with_the_gelu_they_were_trained_with(
    monkeypatch: pytest.MonkeyPatch, tag: str, quick: bool
) -> None:
    asked: dict[str, Any] = {}

    def create_model(name: str, **options: Any) -> None:
        asked.update(options, name=name)
        raise OSError("built enough")

    monkeypatch.setattr(open_clip, "create_model", create_model)
    assert "built enough" in refusal("clip:ViT-B-32", tag)
    assert asked == {"name": "ViT-B-32", "pretrained": tag, "force_quick_gelu": quick}


# Names and tags


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet81", "did you mean resnet18"),
        ("torchvision:vit_b16", "did you mean vit_b_16"),
        ("clip:RN-50", "did you mean RN50"),
        ("timm:test_resnets", "did you mean test_resnet"),
        ("qqqq", "known: alexnet"),
    ],
)
def test_an_unknown_model_raises_with_the_nearest_name(name: str, suggestion: str) -> None:
    message = refusal(name, "none")
    assert repr(name.rpartition(":")[2]) in message
    assert suggestion in message


def test_an_unknown_tag_raises_with_the_known_tags() -> None:
    message = refusal("resnet50", "IMAGENET1K_V9")
    assert "torchvision:resnet50 (IMAGENET1K_V2, IMAGENET1K_V1)" in message
    assert "'IMAGENET1K_V9'" in message
    assert "clip:RN50 (openai, " in refusal("clip:RN50", "laion5b")
    assert f"{SMALL} (default)" in refusal(SMALL, "r160")


@pytest.mark.parametrize("name", ["fcn_resnet50", "raft_small", "maskrcnn_resnet50_fpn"])
@pytest.mark.parametrize("weights", ["default", "none"])
@pytest.mark.usefixtures("no_network")
def test_networks_that_do_not_take_images_raise(name: str, weights: str) -> None:
    assert refusal(name, weights) == (
        f"fusiform scans image classifiers; {name} takes other inputs"
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"crop_mode": "border"}, "pads them"),
        ({"input_size": (3, 160, 96)}, "takes 160 x 96"),
    ],
)
def test_timm_networks_with_unsupported_inputs_raise(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], reason: str
) -> None:
    create_model = timm.create_model

    def create_another(*args: Any, **options: Any) -> nn.Module:
        model = create_model(*args, **options)
        model.pretrained_cfg = {**model.pretrained_cfg, **changed}
        return model

    monkeypatch.setattr(timm, "create_model", create_another)
    assert f"{SMALL} {reason}" in refusal(SMALL, "none")


# The libraries' own weights


@pytest.mark.parametrize("name", ["resnet18", "clip:RN50", SMALL])
@pytest.mark.usefixtures("no_network")
def test_default_weights_without_network_access_raise_with_alternatives(name: str) -> None:
    message = refusal(name)
    assert (
        f"cannot download the weights of {name if ':' in name else 'torchvision:' + name} ("
        in message
    )
    assert "`weights` as a file" in message
    assert '`weights="none"`' in message


@pytest.mark.parametrize(("tag", "resize"), [("default", 232), ("IMAGENET1K_V1", 256)])
def test_torchvision_weights_bring_their_preprocessing(
    monkeypatch: pytest.MonkeyPatch, tag: str, resize: int
) -> None:
    trained = load_backbone("mobilenet_v2", "none", 9).model
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: trained.state_dict()
    )
    backbone = load_backbone("mobilenet_v2", tag)
    assert backbone.weights == ("IMAGENET1K_V2" if tag == "default" else tag)
    assert backbone.preprocessing.resize == resize
    assert backbone.weights_hash == hash_weights(trained)


# A user's own factory

FACTORY = """
import torch
from fusiform import Preprocessing

own = Preprocessing(40, 32, "bicubic")

def network():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())

def with_preprocessing():
    return network(), own

def rubbish():
    return "resnet18"

def nothing():
    return None

def triple():
    return network(), own, 3

def swapped():
    return own, network()

def half():
    return network(), 224
"""


def test_a_factory_returns_a_network_with_or_without_preprocessing(
    write_module: Callable[[str], str],
) -> None:
    module = write_module(FACTORY)
    plain = load_backbone(f"{module}:network", seed=3)
    assert plain.name == f"{module}:network"
    assert plain.preprocessing == Preprocessing()
    assert plain.weights == "as the factory built"
    assert not plain.model.training
    own = load_backbone(f"{module}:with_preprocessing", "none", seed=3)
    assert own.preprocessing == Preprocessing(40, 32, "bicubic")
    assert own.weights == "untrained, seed 3"
    assert own.weights_hash == plain.weights_hash
    assert load_backbone(f"{module}:network", seed=4).weights_hash != plain.weights_hash


@pytest.mark.parametrize(
    ("library", "name"),
    [("timm", "vit_tiny_patch16_224"), ("clip", "RN50"), ("timm", "inception_v4")],
)
def test_a_module_of_a_library_is_shown_images_as_the_library_prepares_them(
    library: str, name: str
) -> None:
    if library == "timm":
        module = timm.create_model(name)
    else:
        module = open_clip.create_model(name, load_weights=False).visual
    named = backbones.load_backbone(Network(f"{library}:{name}", weights="none"))
    given = backbones.load_backbone(module)
    assert given.preprocessing == named.preprocessing != Preprocessing()
    assert given.assumed == ""
    changed = backbones.load_backbone(Network(module, preprocessing={"mean": (0, 0, 0)}))
    assert changed.preprocessing == replace(named.preprocessing, mean=(0, 0, 0))


def test_an_assumed_preprocessing_is_said(
    write_module: Callable[[str], str], stimuli: Path, tmp_path: Path
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1))
    said = backbones.load_backbone(module).assumed
    assert said.startswith("warning: nothing tells how images are prepared for this network; ")
    assert "resize 256, crop 224, mean (0.485, 0.456, 0.406), std" in said
    assert "give `resize`, `crop`, `mean`, `std`" in said
    small = {"resize": 32, "crop": 32}
    assert backbones.load_backbone(Network(module, preprocessing=small)).assumed.endswith(
        "assumed: mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225) "
        "(others: give `mean`, `std`)"
    )
    module.preprocess_cfg = {"size": 3}  # no preprocessing of open_clip
    module.pretrained_cfg = "no preprocessing of timm"
    assert backbones.load_backbone(module).assumed == said
    del module.preprocess_cfg
    assert backbones.load_backbone(module).assumed == said
    for known in (Preprocessing(), {**small, "mean": (0, 0, 0), "std": (1, 1, 1)}):
        assert backbones.load_backbone(Network(module, preprocessing=known)).assumed == ""
    written = write_module("from torch import nn\ndef make():\n    return nn.Conv2d(3, 1, 1)")
    assert backbones.load_backbone(f"{written}:make").assumed == said
    notes: list[str] = []
    network = Network(module, preprocessing=small)
    fusiform.scan(network, stimuli, tmp_path / "o.zarr", progress=Listener(notes.append))
    assert sum("nothing tells how images are prepared" in note for note in notes) == 1
    tensors = {name: torch.randn(4, 3, 8, 8) for name in ("faces", "words")}
    notes.clear()
    fusiform.scan(module, tensors, progress=Listener(notes.append))
    assert not any("prepared" in note for note in notes)


def test_a_factory_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "networks_lying_here.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert load_backbone("networks_lying_here:network").name == "networks_lying_here:network"
    del sys.modules["networks_lying_here"]


def test_local_weights_are_loaded_into_a_factorys_network(
    write_module: Callable[[str], str], tmp_path: Path
) -> None:
    name = f"{write_module(FACTORY)}:network"
    model = load_backbone(name, "none", 8).model
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    backbone = load_backbone(name, str(tmp_path / "own.safetensors"))
    assert backbone.weights_hash == hash_weights(model)


@pytest.mark.parametrize(
    ("function", "culprit"),
    [
        ("rubbish", "returned str"),
        ("nothing", "returned NoneType"),
        ("triple", "returned Sequential, Preprocessing, int"),
        ("swapped", "returned Preprocessing, Sequential"),
        ("half", "returned Sequential, int"),
        ("own", "is a Preprocessing"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_factory_that_returns_no_network_raises(
    write_module: Callable[[str], str], function: str, culprit: str
) -> None:
    name = f"{write_module(FACTORY)}:{function}"
    message = refusal(name)
    assert name in message
    assert culprit in message


@pytest.mark.parametrize("name", ["no.such.module:network", "./networks.py:network", ":f", "a:"])
def test_a_factory_module_that_cannot_be_imported_raises(name: str) -> None:
    assert f"cannot import {name!r}" in refusal(name)


def test_a_factory_with_a_tag_raises(write_module: Callable[[str], str]) -> None:
    message = refusal(f"{write_module(FACTORY)}:network", "openai")
    assert "got 'openai', which does not exist" in message


# Hashing weights


def holding(tensor: torch.Tensor, name: str = "weight", buffer: bool = False) -> nn.Module:
    network = nn.Module()
    if buffer:
        network.register_buffer(name, tensor)
    else:
        network.register_parameter(name, nn.Parameter(tensor))
    return network


def test_the_weights_hash_depends_on_values_names_types_and_shapes() -> None:
    zeros = torch.zeros(6)  # the same bytes in every type and shape
    changed = zeros.clone()
    changed[4] = torch.finfo(torch.float32).smallest_normal
    networks = [
        holding(zeros),
        holding(changed),
        holding(changed, buffer=True).double(),
        holding(zeros, "bias"),
        holding(zeros.reshape(2, 3)),
        holding(zeros.reshape(3, 2)),
        holding(torch.zeros(3, dtype=torch.float64)),
        holding(torch.zeros(12, dtype=torch.float16)),
        holding(torch.zeros(12, dtype=torch.bfloat16)),
    ]
    assert len({hash_weights(network) for network in networks}) == len(networks)
    assert hash_weights(holding(zeros, buffer=True)) == hash_weights(holding(zeros))


def test_the_weights_hash_ignores_memory_format_mode_and_gradients() -> None:
    model = small(0)
    expected = hash_weights(model)
    model.to(memory_format=torch.channels_last).train().requires_grad_(True)
    assert any(not p.is_contiguous() for p in model.parameters())
    assert hash_weights(model) == expected
