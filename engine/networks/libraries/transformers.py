"""transformers: vision models, and the vision towers of larger ones, by ``hf:NAME``.

NAME is a name on the Hugging Face hub or a local folder. No code that comes with a model is run.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from ...errors import UserError, first_line, is_out_of_memory, shortened
from ...preprocessing import Preprocessing
from ..checkpoints import SUFFIXES
from ..weights import download, quiet
from .architecture import Architecture, Built
from .processors import preprocessing_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_Read = TypeVar("_Read")
_ON_THE_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
# Models of pre-training hide a part of the image at random; the encoder inside them need not.
_HIDING = ("ForPreTraining", "ForMaskedImageModeling")


class _Tower(NamedTuple):
    """The part of a model that sees images, and its name there; no name for the whole."""

    kind: type[PreTrainedModel]
    config: PreTrainedConfig
    part: str


def find(name: str) -> Architecture:
    """A vision model of transformers, or the vision tower of a larger one.

    Raises
    ------
    UserError : transformers is missing; unknown name, or a model that does not take images
    """
    try:
        import transformers
    except ImportError:
        raise UserError("hf:NAME needs transformers: pip install 'fusiform[hf]'") from None
    full, folder = f"hf:{name}", _folder(name)
    source = str(folder or name)

    def read() -> tuple[PreTrainedConfig, Preprocessing | UserError]:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        return config, preprocessing_of(source, full)

    def fetch() -> PreTrainedModel:
        return _loaded(source, full, tower)

    configured = f"the configuration of {full}"
    if folder:
        config, preprocessing = _read(read, configured)
    else:
        instead = "name a folder that holds its config.json"
        config, preprocessing = download(read, configured, instead)
    tower = _read(lambda: _tower(full, config), configured)

    def untrained() -> Built:
        with quiet():
            return _in_order(tower.kind(tower.config)), preprocessing

    def trained(_: str) -> Built:
        if folder and not any(path.suffix in SUFFIXES for path in folder.iterdir()):
            raise UserError(
                f"a model is loaded from its config.json and the weights beside it; {folder} has "
                'none: give `weights="none"` for an untrained network'
            )
        model = _read(fetch, f"the weights of {full}") if folder else fetch()
        return _in_order(model), preprocessing

    return Architecture(full, untrained, trained, ["default"], tower.part, "transformers")


def _folder(name: str) -> Path | None:
    """The local folder that ``name`` is; None for a name on the hub.

    Raises
    ------
    UserError : neither of them, or a folder without a configuration
    """
    path = Path(name).expanduser()
    if not path.exists() and _ON_THE_HUB.fullmatch(name):
        return None
    if not (path / "config.json").is_file():
        raise UserError(
            f"hf:NAME is a name on the hub, or a folder with a config.json; got {name!r}"
        )
    return path


def _read(read: Callable[[], _Read], what: str) -> _Read:
    """Run ``read``, which reads ``what`` from this machine.

    Raises
    ------
    UserError : transformers cannot read it
    """
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quiet():
            return read()
    except UserError:
        raise
    except Exception as error:  # transformers raises all kinds
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"transformers cannot read {what} ({first_line(error)}): give a model that it knows, "
            "as save_pretrained writes it"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()


def _tower(full: str, config: PreTrainedConfig) -> _Tower:
    """Find the part of a model that sees images, in the model without weights.

    Raises
    ------
    UserError : it takes something else
    """
    import transformers

    kind: Any = getattr(transformers, (config.architectures or [""])[0], None)
    known = inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel)
    with torch.device("meta"):
        whole: Any = kind(config) if known else transformers.AutoModel.from_config(config)
    hides = type(whole).__name__.endswith(_HIDING)
    tower = (whole.base_model if hides else whole).get_encoder(modality="image")
    first, *others = inspect.signature(tower.forward).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [one for one in others if one.kind not in variable]
    needed = [one.name for one in named if one.default is one.empty]
    if first.name != "pixel_values" or needed:
        raise UserError(
            f"fusiform shows networks images; {type(tower).__name__} of {full} takes "
            f"{', '.join([first.name, *needed])}: choose a model whose vision tower takes "
            "pixel_values alone"
        )
    (path,) = (path for path, module in whole.named_modules() if module is tower)
    return _Tower(type(tower), tower.config, path.rpartition(".")[2])


def _loaded(source: str, full: str, tower: _Tower) -> PreTrainedModel:
    """The tower with its weights from the hub or a folder, in float32.

    Raises
    ------
    UserError : weights are missing or have other shapes, or are in a tower that transformers
        does not load by itself
    """
    if not hasattr(tower.kind, "from_pretrained"):
        raise UserError(
            f"transformers loads {tower.kind.__name__} of {full} inside its whole model alone: "
            "give `weights` as the file that holds them, such as model.safetensors"
        )

    def load(**options: Any) -> tuple[PreTrainedModel, list[str], list[str]]:
        model, found = tower.kind.from_pretrained(
            source,
            config=tower.config,
            dtype=torch.float32,
            key_mapping={rf"^(?:\w+\.)*?{tower.part}\.": ""} if tower.part else None,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            weights_only=True,  # of pickled files
            **options,
        )
        return model, sorted(found["missing_keys"]), sorted(k for k, *_ in found["mismatched_keys"])

    model, missing, misshapen = load()
    if missing and all(name.startswith("pooler.") for name in missing):
        # Of no use to those who trained it; transformers would draw it at random.
        model, missing, misshapen = load(add_pooling_layer=False)
    if missing or misshapen:
        differences = [
            f"{len(names)} {what} ({shortened(names, 2)})"
            for what, names in (("missing", missing), ("misshapen", misshapen))
            if names
        ]
        raise UserError(
            f"weights must fit the architecture; those of {full} do not fit its config.json: "
            f"{', '.join(differences)}"
        )
    return model


def _in_order(model: PreTrainedModel) -> PreTrainedModel:
    """A model that sees all patches of an image in order, as ViT-MAE does not by itself."""
    if type(model).__name__ == "ViTMAEModel":
        model.config.mask_ratio = 0.0
        model.register_forward_pre_hook(_order_patches, with_kwargs=True)
    return model


def _order_patches(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """ViT-MAE shows patches in the order of this noise, which is random by default."""
    images = args[0] if args else kwargs["pixel_values"]
    patches = model.embeddings.patch_embeddings.num_patches
    noise = torch.arange(patches, device=images.device).expand(len(images), -1)
    return args, {**kwargs, "noise": noise}
