"""The four nouns: validated where they are made, immutable, and given back by stores."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fusiform
from fusiform import (
    Design,
    Network,
    Preprocessing,
    Resources,
    Stimuli,
    UnitRequest,
    UserError,
    open_recording,
    open_store,
)

SMALL = {"resize": 32, "crop": 32}
EXAMPLES = (
    Network("resnet18", "none", 3, {"crop": 64, "mean": [0.1, 0.2, 0.3]}, "float32", True, "stop"),
    Stimuli("stimuli/", {"faces": ["adult", "child"], "words": "words"}, "/data", "skip"),
    Design(["a", "b.*"], "channel", {"a": ["channel", "y", "x"]}, 3, 10, 5, 8, "float32"),
    Resources("cpu", "8GiB", 2, 0, 2, None, 1),
    UnitRequest(["faces", "words"], top=3, by="csi", random=4, project=16),
)


@pytest.mark.parametrize(
    ("noun", "fields", "said"),
    [
        (Network, {"seed": -1}, "a seed is a whole number"),
        (Network, {"seed": 2**63}, r"at most 2\*\*63 - 1"),
        (Network, {"precision": "int8"}, "a network computes in float32, .*; got 'int8'"),
        (Network, {"preprocessing": {"crob": 3}}, "preprocessing has no 'crob': .*crop"),
        (Network, {"preprocessing": 3}, "preprocessing is a fusiform.Preprocessing or"),
        (Network, {"on_nondeterminism": "warn"}, "choose note or stop; got 'warn'"),
        (Stimuli, {"source": 3}, "stimuli are a path or URL, .* got 3"),
        (Stimuli, {"root": 3}, "a location is a path or a URL; got 3"),
        (
            Stimuli,
            {"groups": "flok"},
            "groups are CATEGORY=FOLDER,.* got 'flok': did you mean floc",
        ),
        (Stimuli, {"groups": {"a": [3]}}, r"groups are CATEGORY=FOLDER,.* got \{'a': \[3\]\}"),
        (Stimuli, {"on_error": "wait"}, "is stop or skip; got 'wait'"),
        (Design, {"units": "pixel"}, "or package.module:function; got 'pixel'"),
        (Design, {"dims": "channel,y,x"}, r"dimensions are \{layer: names\}"),
        (Design, {"folds": 0}, "folds and batch size are at least 1; got 0"),
        (Design, {"folds": 2.5}, "folds has to be a whole number; got 2.5"),
        (Design, {"batch_size": 0}, "folds and batch size are at least 1"),
        (Design, {"batch_size": 10**7}, "batch size may be at most 1,000,000"),
        (Design, {"null": -1}, "a null has 0 shuffles"),
        (Design, {"null_units": 0}, "at least 1 unit per layer"),
        (Design, {"store_dtype": "float16"}, "store_dtype is float64 or float32; got 'float16'"),
        (Resources, {"memory_budget": "much"}, "a memory budget is a number of bytes"),
        (Resources, {"memory_budget": 0}, "a number of bytes above 0"),
        (Resources, {"commit_every": -1}, "commit_every is a number of seconds"),
        (Resources, {"decode_workers": 0}, "decoding needs at least 1 thread"),
        (Resources, {"workers": 0}, "workers are at least 1"),
        (Resources, {"threads_per_worker": 0}, "threads per worker are at least 1"),
        (UnitRequest, {"project": 0}, "a projection has at least 1 dimension"),
        (UnitRequest, {"top": "3"}, "top has to be a whole number; got '3'"),
        (Preprocessing, {"crop": 0}, "numbers of pixels, at least 1"),
        (Preprocessing, {"interpolation": "cubic"}, "interpolation is one of"),
    ],
)
def test_a_wrong_field_raises_where_the_noun_is_made(
    noun: Any, fields: dict[str, Any], said: str
) -> None:
    first = {Network: {"model": "resnet18"}, Stimuli: {"source": "stimuli"}}.get(noun, {})
    with pytest.raises(UserError, match=said) as caught:
        noun(**{**first, **fields})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: type(one).__name__)
def test_nouns_are_immutable_hashable_and_survive_pickling(example: Any) -> None:
    name = dataclasses.fields(example)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(example, name, "other")
    again = pickle.loads(pickle.dumps(example))
    assert again == example
    assert hash(again) == hash(example)
    public = {name: getattr(fusiform, name) for name in fusiform.__all__}
    assert eval(repr(example), public) == example


def test_sequences_and_mappings_are_copied() -> None:
    layers, groups, dims = ["a"], {"faces": ["adult"]}, {"a": ["channel"]}
    design, stimuli = Design(layers, dims=dims), Stimuli("s", groups)
    network = Network("resnet18", preprocessing=(given := {"crop": 64}))
    layers.append("b")
    groups["faces"].append("child")
    dims["b"] = ["unit"]
    given["crop"] = 32
    assert design == Design("a", dims={"a": ("channel",)})
    assert stimuli.groups == {"faces": ("adult",)}
    assert network.preprocessing == {"crop": 64}
    with pytest.raises(TypeError):
        stimuli.groups["words"] = ("words",)  # type: ignore[index]


def test_the_order_of_groups_counts() -> None:
    assert Stimuli("s", {"a": "a", "b": "b"}) != Stimuli("s", {"b": "b", "a": "a"})


def test_strings_paths_and_modules_are_promoted() -> None:
    assert Network.of("resnet18") == Network("resnet18")
    assert Network.of(module := torch.nn.Identity()).model is module
    assert Network.of(network := Network("resnet18", seed=3)) is network
    assert Stimuli.of(Path("s")) == Stimuli(Path("s"))
    assert Stimuli.of(stimuli := Stimuli("s", root="r")) is stimuli


def test_memory_budgets_are_read_as_bytes() -> None:
    assert Resources(memory_budget="8GiB").memory_bytes == 8 * 2**30
    assert Resources(memory_budget=1000).memory_bytes == 1000
    assert Resources().memory_bytes is None


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert dir(fusiform) == fusiform.__all__
    assert all(hasattr(fusiform, name) for name in fusiform.__all__)
    assert isinstance(fusiform.__version__, str)


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("spec") / "stimuli", each=6)


@pytest.mark.parametrize(
    ("network", "groups", "design"),
    [
        (
            Network("resnet18", "none", 7, SMALL),
            None,
            Design("avgpool", folds=3, null=4, null_units=9, batch_size=4),
        ),
        (
            Network("resnet18", "none", preprocessing=SMALL, precision="bfloat16"),
            {"patterns": ["stripes", "noise"], "blobs": "blobs"},
            Design(["layer4.1", "fc"], units="channel", store_dtype="float32"),
        ),
    ],
)
def test_a_store_gives_back_the_nouns_of_its_scan(
    stimuli: Path, tmp_path: Path, network: Network, groups: Any, design: Design
) -> None:
    cpu = Resources("cpu")
    store = fusiform.scan(
        network, Stimuli(stimuli, groups), tmp_path / "a.zarr", design=design, resources=cpu
    )
    assert (store.network.weights, store.network.seed) == ("none", network.seed)
    assert (store.design.units, store.design.folds) == (design.units, design.folds)
    assert tuple(store.design.layers) == tuple(layer.name for layer in store.layers)
    again = fusiform.scan(
        store.network, store.stimuli, tmp_path / "b.zarr", design=store.design, resources=cpu
    )
    assert again.provenance["fingerprint"] == store.provenance["fingerprint"]
    assert again.network == store.network
    assert again.stimuli == store.stimuli
    assert again.design == store.design
    for layer in store.layers:
        own, other = store.dataset(layer.name), again.dataset(layer.name)
        for name in own.data_vars:
            np.testing.assert_array_equal(own[name], other[name])


def test_a_recording_gives_back_the_nouns_it_was_made_with(stimuli: Path, tmp_path: Path) -> None:
    network, cpu = Network("resnet18", "none", preprocessing=SMALL), Resources("cpu")
    fusiform.scan(network, stimuli, tmp_path / "s.zarr", design=Design("fc"), resources=cpu)
    store = open_store(tmp_path / "s.zarr")
    fusiform.record(
        store.network, store.stimuli, tmp_path / "r.zarr", store=store, resources=cpu,
        units=UnitRequest(random=5), design=store.design,
    )  # fmt: skip
    recording = open_recording(tmp_path / "r.zarr")
    assert (recording.network, recording.stimuli) == (store.network, store.stimuli)
    assert recording.design == dataclasses.replace(store.design, null_units=1000)
    again = fusiform.record(
        recording.network, recording.stimuli, tmp_path / "q.zarr", design=recording.design,
        units=UnitRequest(random=5), resources=cpu,
    )  # fmt: skip
    np.testing.assert_array_equal(again.responses("fc"), recording.responses("fc"))
