"""Checkpoints load as load_state_dict loads them, or raise with the reason."""

from __future__ import annotations

import argparse
import shutil
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import VisionTransformer

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.networks.checkpoints import local_file
from fusiform.engine.networks.uncompiled import plain
from fusiform.engine.networks.weights import hash_weights, load_strictly
from fusiform.engine.preprocessing import Preprocessing

from . import flat
from .test_backbones import _Malicious

# Before 2.14 torch's compiler imports deprecated parts of torch.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
State = dict[str, Any]


class Net(nn.Module):
    """A stem, a stage of two blocks, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.stage = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
        self.fc = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.stage(self.stem(images)).mean((2, 3)))


def drawn(seed: int, build: Callable[[], nn.Module] = Net) -> nn.Module:
    """A network with random parameters and buffers."""
    torch.manual_seed(seed)
    network = build()
    for tensor in network.state_dict().values():
        if isinstance(tensor, torch.Tensor):
            tensor.copy_(
                torch.rand(tensor.shape) if tensor.is_floating_point() else torch.tensor(7)
            )
    return network


def state(seed: int = 1) -> State:
    return drawn(seed).state_dict()


def under(prefix: str, names: State) -> State:
    return {prefix + name: tensor for name, tensor in names.items()}


def loaded(content: Any, folder: Path, key: str = "", build: Any = Net) -> tuple[str, str, str]:
    """Hash, description and notes of the weights loaded from a checkpoint."""
    torch.save(content, folder / "w.pth")
    network = drawn(0, build)
    described, notes = load_strictly(network, folder / "w.pth", key, "a net")
    return hash_weights(network), described, "; ".join(notes)


def refusal(content: Any, folder: Path, key: str = "", build: Any = Net) -> str:
    with pytest.raises(UserError) as caught:
        loaded(content, folder, key, build)
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) < 600
    return message


def renamed(names: State, old: str, new: str) -> State:
    return {name.replace(old, new): tensor for name, tensor in names.items()}


def averaged() -> State:
    return AveragedModel(drawn(1)).state_dict()


def compiled() -> State:
    network = drawn(1)
    network.stage[1] = torch.compile(network.stage[1])
    state: State = torch.compile(network).state_dict()
    assert "_orig_mod.stage.1._orig_mod.weight" in state
    return state


WRAPPED: dict[str, Callable[[], Any]] = {
    "compiled": lambda: under("_orig_mod.", state()),
    "compiled, then parallel": lambda: under("module._orig_mod.", state()),
    "parallel, then compiled": lambda: under("_orig_mod.module.", state()),
    "twice parallel, in a model": lambda: under("model.module.module.", state()),
    "compiled, parts as well": compiled,
    "a compiled part": lambda: renamed(state(), "stage.", "stage._orig_mod."),
    "a parallel part, as VGG's": lambda: renamed(state(), "stage.", "stage.module."),
    "parallel parts, compiled": lambda: under(
        "_orig_mod.", renamed(state(), "stage.", "stage._orig_mod.module.")
    ),
    "FSDP": lambda: renamed(state(), "stage.", "stage._fsdp_wrapped_module."),
    "averaged": averaged,
    "averaged, kept": lambda: {"swa": averaged(), "epoch": 3},
    "averaged, compiled": lambda: {**under("_orig_mod.", averaged())},
    "Lightning": lambda: {"state_dict": under("model.", state()), "hyper_parameters": {"lr": 0.1}},
    "Lightning, net": lambda: {"state_dict": under("net._orig_mod.", state()), "epoch": 3},
    "torch's tutorial": lambda: {"model_state_dict": state(), "loss": 0.3},
    "net": lambda: {"net": state(), "acc": 91.0},
    "network": lambda: {"network": under("module.", state())},
    "DeepSpeed": lambda: {"module": state(), "global_steps": 7},
    "deeper": lambda: {"trainer": {"model": {"state_dict": state()}}, "epoch": 3},
    "a name of its own": lambda: {"resnet": under("classifier.", state())},
    "with an optimizer": lambda: {
        "model": state(),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "flat, beside values": lambda: {**state(), "epoch": 3},
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_prefixes_and_wrappers_of_training_frameworks_are_removed(
    tmp_path: Path, wrapping: str
) -> None:
    found, described, notes = loaded(WRAPPED[wrapping](), tmp_path)
    assert found == hash_weights(drawn(1))
    assert (described, notes) == ("file w.pth", "")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "net._orig_mod."])
def test_prefixes_are_removed_from_safetensors(tmp_path: Path, prefix: str) -> None:
    save_file(under(prefix, state()), tmp_path / "w.safetensors")
    network = drawn(0)
    load_strictly(network, tmp_path / "w.safetensors", "", "a net")
    assert hash_weights(network) == hash_weights(drawn(1))


def test_tensors_left_out_of_a_checkpoint_are_noted(tmp_path: Path) -> None:
    content = {"state_dict": under("model.", state()) | {"loss.weight": torch.ones(2)}}
    found, described, notes = loaded(content, tmp_path)
    assert found == hash_weights(drawn(1))
    assert described == "file w.pth"
    assert notes == "w.pth: ignored entries beside state_dict.model (loss.weight)"


def test_weights_of_a_part_are_taken_only_when_named(tmp_path: Path) -> None:
    content = under("left_eye.", state()) | {"cortex.weight": torch.ones(2)}
    said = refusal(content, tmp_path)
    assert "has more beside left_eye (cortex.weight): to take a part" in said
    assert said.endswith(f'`weights="{tmp_path / "w.pth"}:left_eye"`')
    found, described, notes = loaded(content, tmp_path, "left_eye")
    assert found == hash_weights(drawn(1))
    assert described == "file w.pth:left_eye"
    assert notes.endswith("ignored entries beside left_eye (cortex.weight)")
    inside = renamed(content, "left_eye.", "left_eye.module.")
    assert loaded(inside, tmp_path, "left_eye.module")[0] == hash_weights(drawn(1))


# Old formats that modules translate themselves


@pytest.mark.parametrize("version", [None, 1])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_an_old_batch_norm_without_batch_counts_loads(
    tmp_path: Path, version: int | None, prefix: str
) -> None:
    content = OrderedDict(under(prefix, state()))
    del content[f"{prefix}stage.0.num_batches_tracked"]
    if version:
        content._metadata = {f"{prefix}stage.0": {"version": version}}  # type: ignore[attr-defined]
    network = drawn(0)
    network.load_state_dict({n.removeprefix(prefix): t for n, t in content.items()}, strict=True)
    found, _, notes = loaded(content, tmp_path)
    assert (found, notes) == (hash_weights(network), "")


def test_module_versions_are_read_under_a_prefix(tmp_path: Path) -> None:
    content = OrderedDict(under("module.", state()))
    del content["module.stage.0.num_batches_tracked"]
    content._metadata = {"module.stage.0": {"version": 2}}  # type: ignore[attr-defined]
    assert "1 missing (stage.0.num_batches_tracked)" in refusal(content, tmp_path)


def transformer() -> nn.Module:
    return VisionTransformer(
        16, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_old_vision_transformer_checkpoint_loads(tmp_path: Path, prefix: str) -> None:
    names = drawn(1, transformer).state_dict()
    old = {n.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t
           for n, t in names.items()}  # fmt: skip
    assert old.keys() != names.keys()
    found, _, notes = loaded({"model": under(prefix, old)}, tmp_path, build=transformer)
    assert (found, notes) == (hash_weights(drawn(1, transformer)), "")


def normed() -> nn.Module:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(4, 2))


def test_old_weight_norm_without_parametrizations_loads(tmp_path: Path) -> None:
    names = drawn(1, normed).state_dict()
    old = {n.replace("parametrizations.weight.original0", "weight_g")
            .replace("parametrizations.weight.original1", "weight_v"): t
           for n, t in names.items()}  # fmt: skip
    assert {"0.weight_g", "0.weight_v"} < old.keys()
    assert loaded(old, tmp_path, build=normed)[0] == hash_weights(drawn(1, normed))


def test_a_scalar_saved_as_a_vector_of_one_loads(tmp_path: Path) -> None:
    content = state()
    content["stage.0.num_batches_tracked"] = torch.tensor([7])
    assert loaded(content, tmp_path)[0] == hash_weights(drawn(1))


class Parallel(nn.Module):
    """Has a part named like a wrapper's."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self._orig_mod = Net(), nn.Sequential(Net())
        self.part = nn.ModuleDict({"module": nn.Linear(2, 2)})


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_parts_named_like_wrappers_are_not_mistaken_for_them(tmp_path: Path, prefix: str) -> None:
    names = drawn(1, Parallel).state_dict()
    assert loaded(under(prefix, names), tmp_path, build=Parallel)[0] == hash_weights(
        drawn(1, Parallel)
    )


class Minded(Net):
    """Keeps extra state beside its tensors."""

    seen = "nothing"

    def get_extra_state(self) -> Any:
        return {"seen": self.seen}

    def set_extra_state(self, kept: Any) -> None:
        self.seen = kept["seen"]


def test_extra_state_of_modules_is_loaded(tmp_path: Path) -> None:
    content = under("module.", {**drawn(1, Minded).state_dict(), "_extra_state": {"seen": "much"}})
    torch.save(content, tmp_path / "w.pth")
    network = drawn(0, Minded)
    load_strictly(network, tmp_path / "w.pth", "", "a net")
    assert network.seen == "much"
    assert hash_weights(network) == hash_weights(drawn(1, Minded)) == hash_weights(drawn(1))


# Weights that modules share


class Tied(nn.Module):
    """Two layers with a shared weight, and a buffer that is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.two.weight = self.one.weight
        self.register_buffer("kept", self.two.bias.detach())


@pytest.mark.parametrize("wrap", [lambda n: n, torch.compile, nn.DataParallel])
def test_shared_weights_may_be_saved_once(tmp_path: Path, wrap: Any) -> None:
    save_model(wrap(drawn(1, Tied)), str(tmp_path / "w.safetensors"))
    network = drawn(0, Tied)
    load_strictly(network, tmp_path / "w.safetensors", "", "a net")
    assert hash_weights(network) == hash_weights(drawn(1, Tied))
    names = drawn(1, Tied).state_dict()
    for alias in ("one.weight", "two.weight"):
        once = {name: tensor for name, tensor in names.items() if name != alias}
        assert loaded(once, tmp_path, build=Tied)[0] == hash_weights(drawn(1, Tied))


def test_a_missing_unshared_weight_raises(tmp_path: Path) -> None:
    names = drawn(1, Tied).state_dict()
    del names["one.weight"], names["two.weight"]
    assert "2 missing (one.weight, two.weight)" in refusal(names, tmp_path, build=Tied)


# Other entries beside weights


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.3),
        np.int64(3),
        np.bool_(True),
        np.arange(4.0),
        argparse.Namespace(lr=0.1, out=Path("runs")),
        Path("runs"),
        datetime.now(),
        np.random.RandomState(0).get_state(),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("zipped", [True, False])
def test_plain_values_beside_weights_are_left_unread(
    tmp_path: Path, value: Any, zipped: bool
) -> None:
    content = {"state_dict": state(), "best": value, "args": {"all": [value, value]}}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    network, allowed = drawn(0), set(torch.serialization.get_safe_globals())
    load_strictly(network, tmp_path / "w.pth", "", "a net")
    assert hash_weights(network) == hash_weights(drawn(1))
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_pickled_objects_are_refused_by_name(tmp_path: Path) -> None:
    assert f"(it needs {Net.__module__}.Net, which is code)" in refusal(drawn(1), tmp_path)
    spoken = {"state_dict": state(), "run": shutil.rmtree}
    assert "(it needs shutil.rmtree, which is code)" in refusal(spoken, tmp_path)
    assert "PyTorch" not in refusal(spoken, tmp_path)


@pytest.mark.parametrize("beside", [argparse.Namespace, lambda **kept: np.array([kept], object)])
def test_code_in_ignored_checkpoint_entries_does_not_run(tmp_path: Path, beside: Any) -> None:
    mark = tmp_path / "it-ran"
    said = refusal({"state_dict": state(), "args": beside(evil=_Malicious(mark))}, tmp_path)
    assert "(it needs getattr, which is code)" in said
    assert not mark.exists()


def test_arrays_in_place_of_tensors_raise(tmp_path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in state().items()}
    assert "a weights file holds named tensors" in refusal(arrays, tmp_path)


# Several sets of weights


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "average", ["state_dict_ema", "model_ema", "ema", "module_ema", "ema_state_dict", "modelEMA"]
)
@pytest.mark.parametrize("own", ["state_dict", "model", "net"])
def test_plain_weights_are_preferred_to_an_average_and_noted(
    tmp_path: Path, own: str, average: str, first: bool
) -> None:
    both = {own: state(1), average: under("module.", state(2)) | {"n_averaged": torch.tensor(3)}}
    content = both if first else dict(reversed(both.items()))
    found, described, notes = loaded(content, tmp_path)
    assert found == hash_weights(drawn(1))
    assert described == f"file w.pth:{own}"
    assert notes == (
        f'w.pth holds several sets of weights: took {own}; `weights="FILE:KEY"` takes another '
        f"({average})"
    )
    for key in (average, f"{average}.module"):
        found, described, notes = loaded(content, tmp_path, key)
        assert found == hash_weights(drawn(2))
        assert (described, notes) == (f"file w.pth:{average}", "")
    assert loaded(content, tmp_path, own)[:2] == (hash_weights(drawn(1)), f"file w.pth:{own}")


def test_an_average_in_the_same_dictionary_is_recognised(tmp_path: Path) -> None:
    content = {"state_dict": under("ema_model.module.", state(2)) | under("model.", state(1))}
    found, described, notes = loaded(content, tmp_path)
    assert (found, described) == (hash_weights(drawn(1)), "file w.pth:state_dict.model")
    assert "takes another (state_dict.ema_model)" in notes
    assert loaded(content, tmp_path, "state_dict.ema_model")[0] == hash_weights(drawn(2))


def test_an_average_alone_is_loaded(tmp_path: Path) -> None:
    found, described, notes = loaded({"ema": state(2), "decay": 0.99}, tmp_path)
    assert (found, described, notes) == (hash_weights(drawn(2)), "file w.pth", "")


def test_weight_sets_that_do_not_fit_are_skipped(tmp_path: Path) -> None:
    other = {name: torch.zeros(1) for name in state()}
    for content in ({"model": other, "net": state()}, {"a": state(), "b": other},
                    {"a": other, "b": state()}):  # fmt: skip
        assert loaded(content, tmp_path)[0] == hash_weights(drawn(1))


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_equally_fitting_weight_sets_require_a_name(tmp_path: Path, prefix: str) -> None:
    content = {"student": under(prefix, state(1)), "teacher": under(prefix, state(2))}
    said = refusal(content, tmp_path)
    assert "holds student" in said
    assert ", teacher" in said
    assert f'name one with `weights="{tmp_path / "w.pth"}:student' in said
    assert loaded(content, tmp_path, "teacher")[0] == hash_weights(drawn(2))


def test_an_unknown_weights_key_raises_with_the_known_keys(tmp_path: Path) -> None:
    content = {"state_dict": state(1), "state_dict_ema": state(2)}
    said = refusal(content, tmp_path, "em\x1ba")
    assert "holds state_dict, state_dict_ema; got 'em?a'" in said


def test_control_characters_in_checkpoint_names_are_not_printed(tmp_path: Path) -> None:
    odd = "\x1b[31mred\x07\nnext\u202e"
    assert "?[31mred??next?" in refusal({**state(), odd: torch.zeros(1)}, tmp_path)
    assert "?[31mred??next?" in refusal({odd: {"a": torch.zeros(1)}}, tmp_path)
    found, described, notes = loaded({"model": state(1), odd: state(2)}, tmp_path)
    assert (found, described) == (hash_weights(drawn(1)), "file w.pth:model")
    assert "(?[31mred??next?)" in notes
    beside = under("model.", state()) | {odd: torch.zeros(1)}
    assert loaded(beside, tmp_path)[2].endswith("(?[31mred??next?)")


def test_a_checkpoint_that_contains_itself_is_read(tmp_path: Path) -> None:
    content: State = {"model": state()}
    content["model_again"] = content["trainer"] = content
    assert loaded(content, tmp_path)[0] == hash_weights(drawn(1))


def test_malformed_module_versions_are_refused_or_ignored(tmp_path: Path) -> None:
    for versions in (3, {3: 4}, {"": "x"}, {"stage.0": None}):
        content = OrderedDict(state())
        content._metadata = versions  # type: ignore[attr-defined]
        torch.save(content, tmp_path / "w.pth")
        with suppress(UserError):
            load_strictly(drawn(0), tmp_path / "w.pth", "", "a net")


# File names and the provenance of the choice


@pytest.mark.parametrize(
    ("given", "file", "key"),
    [
        ("w.pth", "w.pth", ""),
        ("w.pth:ema", "w.pth", "ema"),
        ("w.pth:a.b:c", "w.pth", "a.b:c"),
        ("run 12:30.pth", "run 12:30.pth", ""),
        ("run 12:30.pth:ema", "run 12:30.pth", "ema"),
        ("plain:ema", "plain", "ema"),
        ("both.pth:ema", "both.pth:ema", ""),
        ("gone.pth", "gone.pth", ""),
        ("gone.pth:ema", "gone.pth", "ema"),
    ],
)
def test_a_weights_file_may_have_a_colon_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, file: str, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "run 12:30.pth", "plain", "both.pth", "both.pth:ema"):
        Path(name).touch()
    assert local_file(given) == (Path(file), key)


@pytest.mark.parametrize("given", ["default", "none", "openai", "a:b", "IMAGENET1K_V1"])
def test_a_weights_tag_is_not_taken_for_a_file(given: str) -> None:
    assert local_file(given) is None


def test_the_store_says_which_weights_were_loaded(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module("from fusiform.tests.test_checkpoints import Net\n")
    path = tmp_path / "run.pth"
    torch.save({"model": state(1), "model_ema": state(2)}, path)

    def scanned(weights: str) -> dict[str, Any]:
        flat.scan(
            f"{module}:Net", stimuli, tmp_path / "o.zarr", weights=weights, layers="fc",
            preprocessing=Preprocessing(16, 16), overwrite=True,
        )  # fmt: skip
        return dict(fusiform.info(tmp_path / "o.zarr").attributes)

    plain = scanned(str(path))
    assert plain["weights"] == "file run.pth:model"
    assert plain["weights_sha256"] == hash_weights(drawn(1))
    assert plain["notes"] == [
        'run.pth holds several sets of weights: took model; `weights="FILE:KEY"` takes another '
        "(model_ema)"
    ]
    average = scanned(f"{path}:model_ema")
    assert average["weights"] == "file run.pth:model_ema"
    assert average["weights_sha256"] == hash_weights(drawn(2))
    assert not average.get("notes")


@pytest.mark.parametrize("key", ["", ":model_ema"])
def test_a_recording_finds_the_weights_of_its_scan(
    stimuli: Path,
    tmp_path: Path,
    write_module: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    name = f"{write_module('from fusiform.tests.test_checkpoints import Net')}:Net"
    path = tmp_path / "run.pth"
    torch.save({"model": state(1), "model_ema": state(2)}, path)
    monkeypatch.chdir(tmp_path)
    store = flat.scan(name, stimuli, "o.zarr", weights=f"run.pth{key}", layers="fc",
                      preprocessing=Preprocessing(16, 16))  # fmt: skip
    assert store.provenance["weights_path"] == f"{path}{key}"
    monkeypatch.chdir("/")
    found = flat.record(name, stimuli, tmp_path / "r.zarr", store=store)
    assert found.provenance["weights_sha256"] == store.provenance["weights_sha256"]
    path.rename(tmp_path / "moved.pth")
    with pytest.raises(UserError, match="which is not where it was: name it with `weights`"):
        flat.record(name, stimuli, tmp_path / "s.zarr", store=store)
    torch.save({"model": state(3), "model_ema": state(4)}, path)  # another network's
    with pytest.raises(UserError, match="differ in their weights"):
        flat.record(name, stimuli, tmp_path / "s.zarr", store=store)
    moved = f"{tmp_path}/moved.pth{key}"
    assert flat.record(name, stimuli, tmp_path / "s.zarr", store=store, weights=moved).counts.sum()


def test_a_compiled_factory_loads_the_weights_of_the_plain_network(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pth")
    network = plain(torch.compile(drawn(0)))
    load_strictly(network, tmp_path / "w.pth", "", "a net")
    assert hash_weights(network) == hash_weights(drawn(1))
