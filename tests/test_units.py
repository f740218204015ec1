"""Attention heads, patches, inputs of modules and functions of a user, against plain torch code."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
import torch
from torch import nn

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.networks.units.reduction import reduced
from fusiform.engine.networks.units.transformer import Transformer, transformer_of
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener

from . import flat
from .fuzz.small import contents
from .test_compiled import needs_compiler
from .test_distributing import ONE_THREAD
from .test_resume import stopping_after

# Images of 32 pixels in 16 patches.
SMALL = Preprocessing(resize=32, crop=32)
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 48, "image_size": 32, "patch_size": 8}  # fmt: skip


def timm_vit() -> nn.Module:
    """Of timm, with a class token and four registers."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, reg_tokens=4, num_classes=5
    )


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(32, 8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=48)


def open_clip_vit() -> nn.Module:
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        image_size=32, patch_size=8, width=24, layers=2, heads=3, mlp_ratio=2, output_dim=8
    )


def transformers_vit() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    return ViTModel(ViTConfig(**SIZES))


def registers_vit() -> nn.Module:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    torch.manual_seed(0)
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES, num_register_tokens=4))


def dpt_vit() -> nn.Module:
    """Of transformers, with attention in a module of its own beside its output projection."""
    from transformers import DPTConfig, DPTModel

    torch.manual_seed(0)
    return DPTModel(DPTConfig(**SIZES, backbone_out_indices=[0, 0, 1, 1]))


def blip2_vit() -> nn.Module:
    from transformers import Blip2VisionConfig, Blip2VisionModel

    torch.manual_seed(0)
    return Blip2VisionModel(Blip2VisionConfig(**SIZES))


def internvl_vit() -> nn.Module:
    from transformers import InternVLVisionConfig, InternVLVisionModel

    torch.manual_seed(0)
    own = {"image_size": [32, 32], "patch_size": [8, 8], "attention_bias": True}
    return InternVLVisionModel(InternVLVisionConfig(**{**SIZES, **own}))


class Kept:
    """What modules of a network take and return in the batches of a recording, in its order."""

    def __init__(self, net: nn.Module, *names: str) -> None:
        self._taken: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        self._given: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        for name in names:
            module = net.get_submodule(name)
            module.register_forward_pre_hook(self._taking(name), with_kwargs=True)
            module.register_forward_hook(self._giving(name))

    def _taking(self, name: str) -> Callable[..., None]:
        def keep(_: nn.Module, args: Any, kwargs: Any) -> None:
            first = args[0] if args else next(iter(kwargs.values()))
            self._taken[name].append(first.double().clone())

        return keep

    def _giving(self, name: str) -> Callable[..., None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            self._given[name].append(output.double().clone())

        return keep

    def inputs(self, name: str, rows: int) -> torch.Tensor:
        return self._last(self._taken[name], rows)

    def outputs(self, name: str, rows: int) -> torch.Tensor:
        return self._last(self._given[name], rows)

    @staticmethod
    def _last(batches: list[torch.Tensor], rows: int) -> torch.Tensor:
        return torch.cat(batches[-math.ceil(rows / 4) :])[:rows]


def recorded(net: nn.Module, stimuli: Path, output: Path, **design: Any) -> Any:
    return flat.record(net.eval(), stimuli, output, preprocessing=SMALL, batch_size=4, **design)


@torch.no_grad()
def plain_heads(x: torch.Tensor, *weights: tuple[torch.Tensor, torch.Tensor | None]) -> np.ndarray:
    """Norm of the output of each of three heads, averaged over tokens; weights of q, k and v."""
    found = torch.zeros(len(x), 3, dtype=torch.double)
    q, k, v = (
        nn.functional.linear(x, w.double(), None if b is None else b.double()) for w, b in weights
    )
    for head in range(3):
        own = slice(8 * head, 8 * head + 8)
        attention = (q[..., own] @ k[..., own].transpose(1, 2) / 8**0.5).softmax(-1)
        found[:, head] = ((attention @ v[..., own]) ** 2).sum(-1).sqrt().mean(1)
    return found.numpy()


def of_qkv(attention: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True))


def of_each(*linear: Any) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    return [(one.weight, one.bias) for one in linear]


@pytest.mark.parametrize(
    ("build", "attention", "projection", "weights"),
    [
        (timm_vit, "blocks.1.attn", "blocks.1.attn.proj", of_qkv),
        (transformers_vit, "layers.1.attention", "layers.1.attention.o_proj",
         lambda a: of_each(a.q_proj, a.k_proj, a.v_proj)),
        (dpt_vit, "encoder.layer.1.attention", "encoder.layer.1.attention.output.dense",
         lambda a: of_each(a.attention.query, a.attention.key, a.attention.value)),
        (blip2_vit, "encoder.layers.1.self_attn", "encoder.layers.1.self_attn.projection", of_qkv),
        (internvl_vit, "encoder.layer.1.attention", "encoder.layer.1.attention.projection_layer",
         lambda a: of_each(a.q_proj, a.k_proj, a.v_proj)),
    ],
)  # fmt: skip
def test_heads_are_the_norms_of_their_outputs(
    stimuli: Path, tmp_path: Path, build: Any, attention: str, projection: str, weights: Any
) -> None:
    net = build()
    kept = Kept(net, attention)
    result = recorded(net, stimuli, tmp_path / "o.responses.zarr", units="head")
    names = [layer.name for layer in result.layers]
    assert len(names) == 2
    name = f"{projection}.input"
    assert result.layer(name).dims == ("head",)
    found = result.responses(name).compute()
    x = kept.inputs(attention, len(found))
    expected = plain_heads(x, *weights(net.get_submodule(attention)))
    assert expected.std(0).min() > 0
    np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize(
    ("build", "block", "first"),
    [
        (timm_vit, "blocks.1", 5),
        (torchvision_vit, "encoder.layers.encoder_layer_1", 1),
        (open_clip_vit, "transformer.resblocks.1", 1),
        (transformers_vit, "layers.1", 1),
        (registers_vit, "encoder.layer.1", 5),
    ],
)
def test_patches_leave_out_class_token_and_registers(
    stimuli: Path, tmp_path: Path, build: Any, block: str, first: int
) -> None:
    net, notes = build(), list[str]()
    kept = Kept(net, block)
    path = tmp_path / "o.responses.zarr"
    result = recorded(
        net, stimuli, path, layers=block, units="patch", progress=Listener(note=notes.append)
    )
    found = result.responses(block).compute()
    x = kept.outputs(block, len(found))
    assert x.shape[1:] == (first + 16, 24)
    np.testing.assert_allclose(found, x[:, first:].mean(1), rtol=1e-5, atol=1e-6)
    assert result.provenance["prefix_tokens"] == {block: first}
    assert f"units patch: of {block} the first {first} tokens are left out" in notes
    assert not any("no name in the network" in note for note in notes)


def test_patches_are_told_by_number_where_no_name_tells_and_a_note_says_so() -> None:
    def of(tokens: int, transformer: Transformer) -> tuple[int, bool]:
        return transformer.before_patches(tokens)

    assert of(197, Transformer()) == (1, True)
    assert of(196, Transformer(prefix=1)) == (0, False)  # a class token that comes later
    assert of(9, Transformer(prefix=5, grids=frozenset({4}))) == (5, False)
    assert of(9, Transformer(prefix=5, grids=frozenset({9}))) == (0, False)
    assert of(7, Transformer(grids=frozenset({6}))) == (1, True)  # of 2 x 3 patches
    layers = [Layer("own", "Block", ("token", "channel"), (21, 8), "float32"),
              Layer("mixed", "Block", ("axis_0", "channel"), (21, 8), "float32"),
              Layer("maps", "Conv2d", ("channel", "y", "x"), (6, 4, 4), "float32")]  # fmt: skip
    found = reduced(layers, "patch", Transformer())
    assert [(layer.name, layer.shape) for layer in found.layers] == [("own", (8,)), ("maps", (6,))]
    assert found.reductions["own"].first == 5
    left_out, first, warning = found.notes
    assert left_out == "units patch: left out layers without tokens: mixed"
    assert first == "units patch: of own the first 5 tokens are left out"
    assert warning.startswith("warning: no name in the network tells how many tokens come before")


@pytest.mark.parametrize("build", [torchvision_vit, open_clip_vit])
def test_heads_inside_torch_are_refused_with_the_way_out(stimuli: Path, build: Any) -> None:
    said = r"torch's MultiheadAttention computes it inside \(.*\): scan a network that calls it as"
    for units in ({"units": "head"}, {"layers": "*.out_proj.input"}):
        with pytest.raises(UserError, match="MultiheadAttention computes it inside"):
            flat.plan(build(), stimuli, preprocessing=SMALL, **units)
    with pytest.raises(UserError, match=said):
        fusiform.layers(build(), crop=32, units="head")
    with pytest.raises(UserError, match="this network has none with a known number of heads"):
        fusiform.layers(nn.Sequential(nn.Conv2d(3, 4, 4)), crop=32, units="head")


def test_inputs_of_modules_are_layers_by_name(stimuli: Path, tmp_path: Path) -> None:
    net = timm_vit()
    kept = Kept(net, "blocks.0.attn.proj", "blocks.0.mlp.fc2", "blocks.1")
    layers = ["*.0.attn.proj.input", "blocks.0.mlp.fc2.input", "blocks.1.input", "blocks.0.mlp.act"]
    result = recorded(net, stimuli, tmp_path / "o.responses.zarr", layers=layers)
    assert [layer.name for layer in result.layers] == [
        "blocks.0.attn.proj.input", "blocks.0.mlp.act", "blocks.0.mlp.fc2.input", "blocks.1.input",
    ]  # fmt: skip
    for layer in result.layers:
        found = result.responses(layer.name).compute()
        if layer.name.endswith(".input"):
            x = kept.inputs(layer.name.removesuffix(".input"), len(found)).flatten(1)
            np.testing.assert_array_equal(found, x)
        assert layer.dims == ("token", "channel")
    hidden = [result.responses(f"blocks.0.mlp.{name}").compute() for name in ("act", "fc2.input")]
    np.testing.assert_array_equal(*hidden)
    assert set(result.provenance["answers"]) > {"blocks.0.attn.proj.input", "blocks.1.input"}
    with pytest.raises(UserError, match=r"no layer matches 'blocks.3.input'"):
        flat.plan(net, stimuli, layers="blocks.3.input", preprocessing=SMALL)


def test_a_module_named_input_is_a_layer_like_any_other() -> None:
    net = nn.Sequential()
    net.add_module("one", nn.Sequential())
    net.one.add_module("input", nn.Conv2d(3, 4, 4))
    found = fusiform.layers(net, crop=32)
    assert [layer.name for layer in found.layers] == ["one.input", "one", "output"]


@torch.no_grad()
def test_a_lesion_of_heads_and_inputs_silences_these_alone() -> None:
    net, images = timm_vit().eval(), torch.randn(2, 3, 32, 32)

    def changed(layer: str, mask: np.ndarray, units: str) -> torch.Tensor:
        found: list[torch.Tensor] = []
        for lesioned in ({}, {layer: mask}):
            with fusiform.lesion(net, lesioned, to=-1.5, units=units):
                hook = net.blocks[1].attn.proj.register_forward_pre_hook(
                    lambda _, given: found.append(given[0].clone())
                )
                net(images)
            hook.remove()
        return found[0] != found[1]

    where = changed("blocks.1.attn.proj.input", np.array([False, True, False]), "head")
    assert where[..., 8:16].all()
    assert where.sum() == 2 * 21 * 8
    element = np.zeros((21, 24), bool)
    element[3, 5] = True
    where = changed("blocks.1.attn.proj.input", element, "all")
    assert where[:, 3, 5].all()
    assert where.sum() == 2


@torch.no_grad()
def test_a_lesion_of_patches_leaves_class_token_and_registers() -> None:
    net, images = timm_vit().eval(), torch.randn(2, 3, 32, 32)
    kept: list[torch.Tensor] = []
    mask = np.arange(24) == 7
    with fusiform.lesion(net, {"blocks.1": mask}, units="patch"):
        hook = net.blocks[1].register_forward_hook(lambda *given: kept.append(given[2]))
        net(images)
    hook.remove()
    assert (kept[0][:, 5:, 7] == 0).all()
    assert (kept[0][:, :5] != 0).all()
    assert (kept[0][:, 5:, [0, 8]] != 0).all()
    for layer, units, said in (
        ("blocks.1", "head", "reduced to units head; blocks.1 returns"),
        ("blocks.1.attn.proj.input", "patch", "its mask is"),
    ):
        with (
            fusiform.lesion(net, {layer: np.ones(3, bool)}, units=units),
            pytest.raises(UserError, match=said),
        ):
            net(images)


UNITS = [("head", "blocks"), ("patch", "blocks"), ("all", "*.attn.proj.input"),
         ("own_latents:latents", "blocks.1,*.fc2.input")]  # fmt: skip
SOURCE = """
import torch
CALLS = []

def latents(x):
    own = torch.Generator().manual_seed(0)
    CALLS.append(tuple(x.shape))
    weights = torch.randn(x.shape[-1], 7, generator=own)
    return torch.relu(x.mean(1).float() @ weights)

def network():
    from fusiform import Preprocessing
    from fusiform.tests.test_units import SMALL, timm_vit
    return timm_vit(), SMALL

def raises(x):
    return x @ torch.zeros(3, 3)

def changes(x):
    return x.mul_(2).flatten(1)

def whole(x):
    return x.flatten(1) > 0

def bare(x):
    return x.mean()

def fewer(x):
    return x[1:].flatten(1)

def by_batch(x):
    return x.flatten(1)[:, :len(x)]

def a_list(x):
    return [x]

def asks(x):
    return float(input()) * x.flatten(1)

def leaves(x):
    raise SystemExit(3)

def around(x):
    x.data.mul_(2)
    return x.flatten(1)

def by_numpy(x):
    x.numpy()[:] = 0
    return x.flatten(1)

def centred(x):
    return (x - x.mean(0)).flatten(1)

def drops(x):
    return torch.nn.functional.dropout(x.flatten(1), 0.5)

def counts(x):
    CALLS.append(0)
    return x.flatten(1) * len(CALLS)

def narrow(x):
    return x.flatten(1).to(torch.float8_e4m3fn)

def elsewhere(x):
    return x.flatten(1).to("meta")

number = 3
"""


@pytest.fixture
def own_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with functions of a user, imported anew."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_latents.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    monkeypatch.delitem(sys.modules, "own_latents", raising=False)
    return folder / "own_latents.py"


def scanned(stimuli: Path, output: Path, units: str, layers: str, **options: Any) -> Any:
    given = {"batch_size": 4, "commit_every": 0, "null": 2, "null_units": 3, **options}
    return flat.scan(
        "own_latents:network", stimuli, output, units=units, layers=layers.split(","), **given
    )


@pytest.mark.parametrize(("units", "layers"), UNITS)
def test_a_stopped_scan_of_any_units_continues_to_the_same_bits(
    stimuli: Path, tmp_path: Path, own_latents: Path, units: str, layers: str
) -> None:
    whole = scanned(stimuli, tmp_path / "whole.zarr", units, layers)
    with pytest.raises(Interrupted):
        scanned(stimuli, tmp_path / "o.zarr", units, layers, progress=stopping_after(2))
    resumed = scanned(stimuli, tmp_path / "o.zarr", units, layers)
    assert contents(resumed.path) == contents(whole.path)
    assert not fusiform.check(resumed.path).problems
    assert resumed.units == units
    assert fusiform.open_store(resumed.path).layers == whole.layers


def test_workers_give_the_same_bits_for_any_units(
    stimuli: Path, tmp_path: Path, own_latents: Path
) -> None:
    threads, given = torch.get_num_threads(), {"null": 0, "null_units": 1000}
    torch.set_num_threads(1)  # as the workers have
    try:
        with distributed.LocalCluster(
            2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as both:
            for number, (units, layers) in enumerate(UNITS):
                paths = [tmp_path / f"{number}{name}.zarr" for name in ("alone", "both")]
                scanned(stimuli, paths[0], units, layers, **given)
                scanned(stimuli, paths[1], units, layers, scheduler=both, **given)
                assert contents(paths[0]) == contents(paths[1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_worker_processes_import_the_function_of_a_user(
    stimuli: Path, tmp_path: Path, own_latents: Path
) -> None:
    def written(name: str, *options: str) -> dict[str, Any]:
        command = [
            *(sys.executable, "-m", "fusiform", "scan", "own_latents:network", str(stimuli)),
            *("-o", str(tmp_path / name), "--layers", "blocks.1", "--units", UNITS[3][0]),
            *("--batch-size", "4", "-q", *options),
        ]
        environment = {**os.environ, **ONE_THREAD}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        return contents(tmp_path / name)

    assert written("both.zarr", "--workers", "2") == written("alone.zarr")


@needs_compiler
@pytest.mark.parametrize(("units", "layers"), UNITS[:1] + UNITS[3:])
def test_compiled_networks_have_these_units_too(
    stimuli: Path, tmp_path: Path, own_latents: Path, units: str, layers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    eager = scanned(stimuli, tmp_path / "eager.zarr", units, layers)
    found = scanned(stimuli, tmp_path / "o.zarr", units, layers, compile=True)
    for layer in eager.layers:
        means = (store.read(layer, "mean") for store in (found, eager))
        np.testing.assert_allclose(*means, rtol=1e-4, atol=1e-4)


def test_a_function_of_the_user_makes_units(
    stimuli: Path, tmp_path: Path, own_latents: Path
) -> None:
    net = timm_vit()
    kept = Kept(net, "blocks.1", "blocks.0.mlp.fc2")
    result = recorded(
        net, stimuli, tmp_path / "o.responses.zarr", units="own_latents:latents",
        layers=["blocks.1", "blocks.0.mlp.fc2.input"],
    )  # fmt: skip
    import own_latents as module  # type: ignore[import-not-found]

    for layer in result.layers:
        assert (layer.dims, layer.shape, layer.dtype) == (("unit",), (7,), "float32")
        found = result.responses(layer.name).compute()
        x = kept.outputs("blocks.1", len(found)) if layer.name == "blocks.1" else kept.inputs(
            "blocks.0.mlp.fc2", len(found))  # fmt: skip
        np.testing.assert_allclose(found, module.latents(x.float()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", r"own_latents:raises raised RuntimeError for \[5, 21, 24\] \(.*line 17\)"),
        ("changes", "own_latents:changes changes it in place: let it work on a copy"),
        ("whole", r"own_latents:whole returned torch.bool"),
        ("bare", r"own_latents:bare returned shape \[\] for 5 stimuli"),
        ("fewer", r"own_latents:fewer returned shape \[4, 504\] for 5 stimuli"),
        ("by_batch", r"own_latents:by_batch makes \[5\] of blocks.1 for 5, and \[2\] for 2"),
        ("around", "own_latents:around changes it in place: let it work on a copy"),
        ("by_numpy", "own_latents:by_numpy changes it in place"),
        ("centred", "gives the same for a stimulus in every batch; own_latents:centred does not"),
        ("drops", "own_latents:drops does not: .* draw nothing at random"),
        ("counts", "own_latents:counts does not: take nothing from other stimuli or calls"),
        ("narrow", "own_latents:narrow returned torch.float8_e4m3fn"),
        ("elsewhere", "own_latents:elsewhere returned one on meta for cpu"),
        ("a_list", "own_latents:a_list returned list"),
        ("asks", "own_latents:asks raised EOFError"),
        ("leaves", "own_latents:leaves raised SystemExit"),
        ("number", "own_latents:number is a int"),
        ("absent", "cannot import 'own_latents:absent'"),
    ],
)
def test_functions_that_give_no_units_are_refused_before_a_scan(
    stimuli: Path, tmp_path: Path, own_latents: Path, function: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        scanned(stimuli, tmp_path / "o.zarr", f"own_latents:{function}", "blocks.1")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "o.zarr").exists()


def test_a_changed_function_is_another_scan(
    stimuli: Path, tmp_path: Path, own_latents: Path
) -> None:
    units = "own_latents:latents"
    first = scanned(stimuli, tmp_path / "first.zarr", units, "blocks.1")
    with pytest.raises(Interrupted):
        scanned(stimuli, tmp_path / "o.zarr", units, "blocks.1", progress=stopping_after(2))
    own_latents.write_text(SOURCE + "\n# changed\n")
    for output, options in ((tmp_path / "o.zarr", {}),):
        with pytest.raises(UserError, match=r"differ in their function of the units: own_latents"):
            scanned(stimuli, output, units, "blocks.1", **options)
    with pytest.raises(UserError, match="function of the units"):
        flat.record(
            "own_latents:network", stimuli, tmp_path / "o.responses.zarr", store=first, top=3
        )
    with pytest.raises(UserError, match="which of them a unit of own_latents:latents depends on"):
        fusiform.lesion(timm_vit(), {"blocks.1": np.ones(7, bool)}, units=units).__enter__()
    with pytest.raises(UserError, match="units of a function are known of the layers that a scan"):
        fusiform.layers(timm_vit(), crop=32, units=units)


def test_no_function_runs_unless_it_is_named(own_latents: Path) -> None:
    with pytest.raises(UserError, match=r"units are all, .* or package.module:function"):
        fusiform.Design(units="own_latents.latents")
    assert fusiform.Design(units="own_latents:latents").units == "own_latents:latents"
    assert "own_latents" not in sys.modules
    assert transformer_of(timm_vit()).prefix == 5
