"""Networks of transformers by ``hf:NAME``, and small ones of open_clip and timm beside them."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from scipy import stats
from torch import nn

import fusiform
from fusiform import Preprocessing, UserError
from fusiform.engine.decoding.pictures import prepare
from fusiform.engine.networks.units.transformer import transformer_of

from .flat import load_backbone, scan

hf = pytest.importorskip("transformers")

SIDE = 32
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": SIDE, "patch_size": 8,
}  # fmt: skip
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 100}  # fmt: skip
CLIP_TEXT = {**TEXT, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {"height": SIDE, "width": SIDE}
GIVEN = {"resize": SIDE, "crop": SIDE, "mean": (0.5,) * 3, "std": (0.25,) * 3}


def clip() -> Any:
    return hf.CLIPModel(hf.CLIPConfig(vision_config=VISION, text_config=CLIP_TEXT))


def siglip() -> Any:
    return hf.SiglipModel(hf.SiglipConfig(vision_config=VISION, text_config=CLIP_TEXT))


def dinov2() -> Any:
    own = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    return hf.Dinov2Model(hf.Dinov2Config(**own))


def vit() -> Any:
    return hf.ViTForImageClassification(hf.ViTConfig(**VISION, num_labels=5))


def mae() -> Any:
    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1,
               "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}  # fmt: skip
    return hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**VISION, **decoder))


def llava() -> Any:
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION), text_config=hf.LlamaConfig(**TEXT)
    )
    return hf.LlavaForConditionalGeneration(config)


def blip2() -> Any:
    former = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
              "num_attention_heads": 2, "encoder_hidden_size": 32}  # fmt: skip
    text = hf.OPTConfig(hidden_size=32, ffn_dim=64, num_hidden_layers=1, num_attention_heads=2,
                        vocab_size=100, word_embed_proj_dim=32)  # fmt: skip
    config = hf.Blip2Config(vision_config=VISION, qformer_config=former, text_config=text)
    return hf.Blip2ForConditionalGeneration(config)


def qwen2() -> Any:
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2,
              "patch_size": 8}  # fmt: skip
    rope = {"type": "default", "mrope_section": [2, 3, 3]}
    text = {**TEXT, "num_key_value_heads": 2, "rope_parameters": rope}
    config = hf.Qwen2VLConfig(vision_config=vision, text_config=text)
    return hf.Qwen2VLForConditionalGeneration(config)


# A small model of each kind, its tower, and the image processor it is saved with.
MODELS: dict[str, tuple[Callable[[], Any], str, Any]] = {
    "clip": (clip, "vision_model", hf.CLIPImageProcessor),
    "siglip": (siglip, "vision_model", hf.SiglipImageProcessor),
    "dinov2": (dinov2, "", hf.BitImageProcessor),
    "vit": (vit, "", hf.ViTImageProcessor),
    "mae": (mae, "vit", hf.ViTImageProcessor),
    "llava": (llava, "model.vision_tower", hf.CLIPImageProcessor),
    "blip2": (blip2, "vision_model", hf.BlipImageProcessor),
}
CROPS = (hf.CLIPImageProcessor, hf.BitImageProcessor)


@pytest.fixture(autouse=True)
def _offline(no_network: None) -> None:
    """No test needs the hub."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder with a small model as transformers saves it, with its image processor."""
    root = tmp_path_factory.mktemp("saved")

    def folder(kind: str) -> Path:
        path = root / kind
        if not path.exists():
            build, _, processor = MODELS[kind]
            torch.manual_seed(4)
            with quiet():
                drawn(build()).save_pretrained(path)
            size = {"shortest_edge": 40} if processor in CROPS else SIZE
            processor(size=size, crop_size=SIZE).save_pretrained(path)
        return path

    return folder


@contextmanager
def quiet() -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def drawn(model: nn.Module) -> nn.Module:
    """A model whose parameters are all random, and as large as those of a trained one."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_t_against_hooks(
    store: fusiform.Store, own: nn.Module, show: Callable[[torch.Tensor], Any], stimuli: Path
) -> None:
    """Stored t of every layer against scipy, on what hooks on ``own`` see of the same pictures."""
    shown: Any = store.network.preprocessing
    assert isinstance(shown, Preprocessing)
    files = [path for k in store.categories for path in sorted((stimuli / k).iterdir())]
    pixels = np.stack([prepare(Image.open(path), shown) for path in files])
    images = (torch.tensor(pixels).permute(0, 3, 1, 2) / 255).sub(
        torch.tensor(shown.mean)[:, None, None]
    ) / torch.tensor(shown.std)[:, None, None]
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, out: Any) -> None:
        out = out if isinstance(out, torch.Tensor) else next(iter(out))
        seen[name] = out.double().flatten(1).numpy()

    for layer in store.layers:
        own.get_submodule(layer.name.removeprefix("output")).register_forward_hook(
            lambda _, __, out, name=layer.name: keep(name, out)
        )
    with torch.no_grad():
        show(images)
    each = len(files) // len(store.categories)
    assert len(store.layers) > 2
    for layer in store.layers:
        x = seen[layer.name]
        alive = np.ptp(x, axis=0) > 1e-4  # the class token is constant before the first block
        assert alive.mean() > 0.25
        for k, _ in enumerate(store.categories):
            inside = np.arange(len(x)) // each == k
            one, rest = x[inside][:, alive], x[~inside][:, alive]
            expected = stats.ttest_ind(one, rest, equal_var=False).statistic
            found = store.read(layer, "t")[k].ravel()[alive]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", MODELS)
def test_t_of_a_scan_equals_hooks_on_the_librarys_own_model(
    kind: str, saved: Callable[[str], Path], stimuli: Path, tmp_path: Path
) -> None:
    folder, (build, tower, _) = saved(kind), MODELS[kind]
    store = scan(f"hf:{folder}", stimuli, tmp_path / "s.zarr", device="cpu", batch_size=8)
    whole = type(build()).from_pretrained(folder, dtype=torch.float32).eval()
    own = whole.get_submodule(tower)
    if kind == "mae":
        own.config.mask_ratio = 0.0
        patches = (SIDE // VISION["patch_size"]) ** 2
        ordered = torch.arange(patches).expand(18, -1)
        check_t_against_hooks(store, own, lambda images: own(images, noise=ordered), stimuli)
    else:
        check_t_against_hooks(store, own, own, stimuli)
    assert store.provenance["model"] == f"hf:{folder}"
    assert store.provenance["versions"]["transformers"] == hf.__version__
    assert {layer.dims for layer in store.layers} <= {("token", "channel"), ("unit",)}
    assert transformer_of(own).has_class_token == (kind != "siglip")


def tiny_clip(folder: Path, kind: str) -> str:
    """A small CLIP in open_clip's registry: a transformer like ViT-B-32, or a ResNet like RN50."""
    vision = {"ViT": {"layers": 2, "width": 64, "patch_size": 8, "image_size": SIDE},
              "RN": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}}  # fmt: skip
    text = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
    name = f"tiny-{kind}"
    config = {"embed_dim": 16, "vision_cfg": vision[kind], "text_cfg": text}
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


@pytest.mark.parametrize("kind", ["clip ViT", "clip RN", "timm"])
def test_t_of_open_clip_and_timm_equals_hooks_on_their_own_models(
    kind: str, stimuli: Path, tmp_path: Path
) -> None:
    library, _, variant = kind.partition(" ")
    name = tiny_clip(tmp_path, variant) if variant else "test_vit"
    torch.manual_seed(6)
    whole = (open_clip if variant else timm).create_model(name).eval()
    drawn(whole)
    torch.save(whole.state_dict(), tmp_path / "own.pth")
    shown = {} if variant == "RN" else {"preprocessing": {"resize": SIDE, "crop": SIDE}}
    shown = shown if variant else {}
    store = scan(
        f"{library}:{name}", stimuli, tmp_path / "s.zarr", weights=str(tmp_path / "own.pth"),
        device="cpu", batch_size=8, **shown,
    )  # fmt: skip
    own = whole.visual if variant else whole
    check_t_against_hooks(store, own, own, stimuli)


# ViT-MAE, whose masks are random


def test_vit_mae_shows_all_patches_in_order(saved: Callable[[str], Path]) -> None:
    backbone = load_backbone(f"hf:{saved('mae')}")
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    library = hf.ViTMAEModel.from_pretrained(saved("mae")).eval()
    with torch.no_grad():
        once, again = (backbone.model(images).last_hidden_state for _ in range(2))
        assert torch.equal(once, again)
        assert once.shape[1] == 17
        masked = library(images)
        assert masked.last_hidden_state.shape[1] == 5  # three quarters are hidden by default
        library.config.mask_ratio = 0.0
        shuffled = library(images)
    # The library's own encoder without a mask, whose patches come in another order for each image.
    order = shuffled.ids_restore[:, :, None].expand(-1, -1, once.shape[2])
    patches = shuffled.last_hidden_state[:, 1:].gather(1, order)
    torch.testing.assert_close(once[:, 1:], patches, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(once[:, 0], shuffled.last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)


def test_vit_mae_is_found_deterministic(
    saved: Callable[[str], Path], stimuli: Path, tmp_path: Path
) -> None:
    scan(f"hf:{saved('mae')}", stimuli, tmp_path / "s.zarr", device="cpu", layers="layernorm",
         on_nondeterminism="stop", weights="none")  # fmt: skip


# Preprocessing


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (hf.ViTImageProcessor(), Preprocessing(224, 224, "bilinear", (0.5,) * 3, (0.5,) * 3, True)),
        (
            hf.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=SIZE, image_mean=[0.1] * 3),
            Preprocessing(64, 32, "bicubic", (0.1,) * 3, tuple(hf.CLIPImageProcessor().image_std)),
        ),
        (
            hf.ConvNextImageProcessor(size={"shortest_edge": 56}, resample=2),
            Preprocessing(64, 56, "bilinear", (0.5,) * 3, (0.5,) * 3),
        ),
        (
            hf.ViTImageProcessor(size=SIZE, rescale_factor=1 / 127.5, resample=1),
            Preprocessing(SIDE, SIDE, "lanczos", (0.25,) * 3, (0.25,) * 3, True),
        ),
        (
            hf.ViTImageProcessor(size=SIZE, do_rescale=False, do_normalize=False),
            Preprocessing(SIDE, SIDE, "bilinear", (0.0,) * 3, (1 / 255,) * 3, True),
        ),
    ],
)
def test_preprocessing_is_that_of_the_image_processor(
    processor: Any, expected: Preprocessing, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    hf.AutoConfig.from_pretrained(saved("vit")).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    found = load_backbone(f"hf:{tmp_path}", "none").preprocessing
    assert found.geometry == expected.geometry
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-7)
    np.testing.assert_allclose(found.std, expected.std, atol=1e-7)


def test_a_model_of_a_folder_is_shown_images_as_its_image_processor_prepares_them(
    tmp_path: Path,
) -> None:
    vit().save_pretrained(tmp_path)
    hf.ViTImageProcessor(size=SIZE).save_pretrained(tmp_path)
    module = hf.AutoModel.from_pretrained(tmp_path)
    named = load_backbone(f"hf:{tmp_path}").preprocessing
    assert load_backbone(module).preprocessing == named != Preprocessing()
    assert load_backbone(vit()).preprocessing == Preprocessing()  # built from a configuration


@pytest.mark.parametrize(
    ("processor", "culprit"),
    [
        (None, "has none that transformers reads"),
        (hf.LevitImageProcessor(), "LevitImageProcessor"),
        (hf.MobileViTImageProcessor(), "MobileViTImageProcessor"),  # blue comes first
        (hf.CLIPImageProcessor(do_resize=False), "CLIPImageProcessor"),
        (hf.CLIPImageProcessor(do_center_crop=False), "CLIPImageProcessor"),
        (hf.CLIPImageProcessor(crop_size={"height": 32, "width": 48}), "CLIPImageProcessor"),
    ],
)
def test_other_image_processors_ask_for_the_preprocessing(
    processor: Any, culprit: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    hf.AutoConfig.from_pretrained(saved("vit")).save_pretrained(tmp_path)
    if processor:
        processor.save_pretrained(tmp_path)
    name = f"hf:{tmp_path}"
    asks = "give `resize`, `crop`, `interpolation`, `mean` and `std`"
    for said in (refusal(name, "none"), refusal(name, "none", preprocessing={"crop": SIDE})):
        assert culprit in said
        assert said.endswith(asks)
    assert load_backbone(name, "none", preprocessing=GIVEN).preprocessing == Preprocessing(**GIVEN)
    whole = Preprocessing(SIDE, SIDE)
    assert load_backbone(name, "none", preprocessing=whole).preprocessing == whole
    listed = fusiform.layers(name, crop=SIDE)
    assert listed == fusiform.layers(fusiform.Network(name, preprocessing={"crop": SIDE}))
    assert listed.layers[-1].name == "output"


# Names and weights


def test_untrained_weights_depend_on_the_seed_alone(saved: Callable[[str], Path]) -> None:
    name = f"hf:{saved('llava')}"
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = load_backbone(name, "none", 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.weights == "untrained, seed 0"
    assert type(first.model).__name__ == "CLIPVisionModel"
    assert load_backbone(name, "none", 0).weights_hash == first.weights_hash
    assert load_backbone(name, "none", 1).weights_hash != first.weights_hash
    assert not any(parameter.is_meta for parameter in first.model.parameters())


def test_a_weights_file_of_the_whole_model_yields_its_tower(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = saved("clip")
    torch.save(hf.CLIPModel.from_pretrained(folder).state_dict(), tmp_path / "whole.pth")
    loaded = load_backbone(f"hf:{folder}", str(tmp_path / "whole.pth"))
    assert loaded.weights_hash == load_backbone(f"hf:{folder}").weights_hash


def test_a_tower_that_is_no_model_of_its_own_takes_a_weights_file(tmp_path: Path) -> None:
    sizes = {"embed_dim": 32, "image_size": SIDE, "intermediate_size": 64, "patch_size": 8,
             "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
    config = hf.IdeficsConfig(**TEXT, vision_config=sizes, use_resampler=False)
    whole: Any = drawn(hf.IdeficsForVisionText2Text(config))
    with quiet():
        whole.save_pretrained(tmp_path)
    name = f"hf:{tmp_path}"
    said = f"IdeficsVisionTransformer of {name} inside its whole model alone: give `weights` as"
    assert said in refusal(name, preprocessing=GIVEN)
    loaded = load_backbone(name, str(tmp_path / "model.safetensors"), preprocessing=GIVEN).model
    own = whole.get_submodule("model.vision_model").state_dict()
    assert all(torch.equal(own[key], tensor) for key, tensor in loaded.state_dict().items())


def test_half_precision_weights_are_widened(saved: Callable[[str], Path], tmp_path: Path) -> None:
    with quiet():
        hf.AutoModel.from_pretrained(saved("dinov2")).bfloat16().save_pretrained(tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}", preprocessing=GIVEN)
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}


def test_a_model_saved_without_its_pooler_has_none(tmp_path: Path) -> None:
    with quiet():
        hf.ViTModel(hf.ViTConfig(**VISION), add_pooling_layer=False).save_pretrained(tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}", preprocessing=GIVEN)
    assert not [name for name, _ in backbone.model.named_parameters() if "pooler" in name]


def rewritten(folder: Path, copy: Path, **changed: Any) -> str:
    """A copy of a saved model with another configuration."""
    copy.mkdir(exist_ok=True)
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text()) | changed
    (copy / "config.json").write_text(json.dumps(config))
    return f"hf:{copy}"


def test_weights_of_another_architecture_raise_with_the_difference(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    deeper = rewritten(saved("vit"), tmp_path / "deeper", num_hidden_layers=3)
    said = refusal(deeper)
    assert f"those of {deeper} do not fit its config.json: 16 missing (vit." in said
    wider = refusal(rewritten(saved("vit"), tmp_path / "wider", intermediate_size=96))
    assert "6 misshapen (" in wider


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_weights_raise_with_their_folder(
    damage: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    name = rewritten(saved("vit"), tmp_path)
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"1"}[damage])
    assert f"transformers cannot read the weights of {name}" in refusal(name)


def test_a_folder_without_weights_is_built_untrained_only(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    name = rewritten(saved("vit"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert f'{tmp_path} has none: give `weights="none"`' in refusal(name)
    assert load_backbone(name, "none").name == name
    assert f"{name} (default); got 'main'" in refusal(name, "main")


@pytest.mark.parametrize("name", ["", "gone/folder/deeper", "./gone", "/gone", "two words", "a:b"])
def test_a_name_that_is_neither_folder_nor_on_a_hub_raises(name: str) -> None:
    assert f"a folder with a config.json; got {name!r}" in refusal(f"hf:{name}", "none")


def test_a_folder_or_file_without_configuration_raises(tmp_path: Path) -> None:
    assert f"got '{tmp_path}'" in refusal(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    assert f"got '{tmp_path / 'config.json'}'" in refusal(f"hf:{tmp_path / 'config.json'}")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("not json", "valid JSON"),
        ("{}", "model_type"),
        ('{"model_type": "vit-of-nowhere"}', "vit-of-nowhere"),
        ('{"model_type": "vit", "hidden_size": "wide"}', "hidden_size"),
    ],
)
def test_a_configuration_that_transformers_does_not_know_raises(
    config: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(config)
    said = refusal(f"hf:{tmp_path}", "none")
    assert f"transformers cannot read the configuration of hf:{tmp_path}" in said
    assert reason in said


@pytest.mark.parametrize("weights", ["default", "none"])
def test_a_hub_name_that_is_not_cached_raises_at_once(weights: str) -> None:
    said = refusal("hf:nobody/nothing-of-this-name", weights)
    assert "cannot download the configuration of hf:nobody/nothing-of-this-name (" in said
    assert "name a folder that holds its config.json" in said


def test_a_hub_name_that_is_cached_needs_no_network(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached, commit = tmp_path / "hub" / "models--lab--tiny", "0" * 40
    shutil.copytree(saved("clip"), cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found, local = load_backbone("hf:lab/tiny"), load_backbone(f"hf:{saved('clip')}")
    assert (found.name, found.weights) == ("hf:lab/tiny", "default")
    assert found.weights_hash == local.weights_hash
    assert found.preprocessing == local.preprocessing
    (cached / "snapshots" / commit / "model.safetensors").unlink()
    assert "cannot download the weights of hf:lab/tiny (default) (" in refusal("hf:lab/tiny")


def test_models_that_take_no_images_raise(tmp_path: Path) -> None:
    with quiet():
        qwen2().config.save_pretrained(tmp_path / "qwen2")
        hf.BertConfig(**TEXT).save_pretrained(tmp_path / "bert")
    said = refusal(f"hf:{tmp_path / 'qwen2'}", "none")
    assert f"of hf:{tmp_path / 'qwen2'} takes hidden_states, grid_thw: choose a model" in said
    assert "takes input_ids" in refusal(f"hf:{tmp_path / 'bert'}", "none")


def test_missing_transformers_raises_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert refusal("hf:any/thing") == "hf:NAME needs transformers: pip install 'fusiform[hf]'"


class _Malicious:
    """Unpickling this creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_code_that_comes_with_a_model_does_not_run(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    mark = tmp_path / "it-ran"
    name = rewritten(saved("vit"), tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save({"w": _Malicious(mark)}, tmp_path / "pickled" / "pytorch_model.bin")
    assert f"cannot read the weights of {name}" in refusal(name)
    own = rewritten(
        saved("vit"), tmp_path / "own", model_type="own", auto_map={"AutoConfig": "own.Own"}
    )
    (tmp_path / "own" / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert f"cannot read the configuration of {own}" in refusal(own)
    assert not mark.exists()
    pickle.loads(pickle.dumps(_Malicious(mark)))
    assert mark.exists()  # it would run
