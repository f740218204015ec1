"""Single stimuli that are objects of the program, and batches of them.

A picture is a PIL image, a uint8 array ``[y, x, 3]`` or a uint8 tensor ``[3, y, x]``; the network's
preprocessing applies to it, as to a file. Other tensors, and tuples and dictionaries of them, are
what the network takes, and are shown as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError, shortened
from ..networks.inputs import Inputs, tensors_in
from ..preprocessing import Preprocessing
from ..stimuli.images import orientation_of, upright
from .pictures import prepare

_PICTURES = (
    "pictures are PIL images, uint8 arrays [height, width, 3] or uint8 tensors [3, height, width]"
)
_OTHERS = "other inputs are tensors, or tuples or dictionaries of them"


def rows_of(images: Any, name: str) -> Sequence[Any]:
    """Single stimuli of several in a row: an array, tensor or list, or tensors for each argument.

    Raises
    ------
    UserError : it is none of these
    """
    if isinstance(images, np.ndarray) and (images.dtype != np.uint8 or images.ndim != 4):
        raise UserError(
            f"arrays of pictures are uint8 [n, height, width, 3]; {name} is {images.dtype} "
            f"{list(images.shape)}: convert it, or give a tensor, which is shown as it is"
        )
    if isinstance(images, Mapping) or (
        isinstance(images, tuple) and all(isinstance(one, torch.Tensor) for one in images)
    ):
        images = _inputs(images, name)
        sizes = {len(one) if one.ndim else 0 for one in tensors_in(images)}
        if len(sizes) != 1:
            raise UserError(
                f"tensors of a batch have a row per stimulus; those of {name} have "
                f"{shortened(sorted(sizes)) or 'none'}: give as many of each"
            )
        return _Rows(Inputs(images), *sizes)
    if isinstance(images, torch.Tensor):
        images = _inputs(images, name)
    is_single = isinstance(images, str | bytes | type) or getattr(images, "ndim", 1) == 0
    if is_single or not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise UserError(
            f"the stimuli of {name} are several, in an array, a tensor or a list; got "
            f"{type(images).__name__}: collect them in a list"
        )
    return images  # type: ignore[no-any-return]


class _Rows(Sequence[Any]):
    """The rows of tensors, one input after the other."""

    def __init__(self, inputs: Inputs, number: int) -> None:
        self._inputs, self._number = inputs, number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, row: Any) -> Any:
        return self._inputs[row].values


def item_of(given: Any, name: str) -> Any:
    """A stimulus as an upright picture, or as what the network takes.

    Raises
    ------
    UserError : it is neither
    """
    if isinstance(given, Image.Image) and all(given.size):
        return upright(given, orientation_of(given), Path(name))
    is_array = isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.size
    if is_array and given.shape[2:] == (3,):
        return Image.fromarray(given)
    if isinstance(given, torch.Tensor) and given.dtype == torch.uint8 and _is_picture(given):
        return Image.fromarray(given.permute(1, 2, 0).cpu().contiguous().numpy())
    return _inputs(given, name)


def _is_picture(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 3 and len(tensor) == 3 and tensor.numel() > 0


def _inputs(given: Any, name: str) -> Any:
    if isinstance(given, torch.Tensor):
        if given.layout != torch.strided or given.is_meta or given.is_nested:
            kind = "meta" if given.is_meta else str(given.layout).removeprefix("torch.")
            kind = "nested" if given.is_nested else kind
            raise UserError(
                f"tensors hold their values in a dense block; {name} is a {kind} tensor: convert it"
            )
        return given.detach()
    if isinstance(given, Mapping) and given and all(isinstance(key, str) for key in given):
        return {key: _inputs(one, name) for key, one in given.items()}
    if isinstance(given, tuple | list) and given:
        return tuple(_inputs(one, name) for one in given)
    kind = type(given).__name__
    if isinstance(given, np.ndarray):
        kind = f"an array of {given.dtype} {list(given.shape)}"
    raise UserError(f"{_PICTURES}; {_OTHERS}; {name} is {kind}: convert it")


def form_of(item: Any) -> str:
    """Kind, types and shapes of a stimulus; pictures may have any size."""
    if isinstance(item, Image.Image):
        return "a picture"
    if isinstance(item, torch.Tensor):
        return f"{str(item.dtype).removeprefix('torch.')} {list(item.shape)}"
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{key}: {form_of(one)}" for key, one in item.items()) + "}"
    return "(" + ", ".join(map(form_of, item)) + ")"


def require_form(item: Any, form: str, name: str) -> None:
    """Raise unless a stimulus has the form of the first.

    Raises
    ------
    UserError : it has another
    """
    if (own := form_of(item)) != form:
        raise UserError(
            f"all stimuli have the form of the first, {form}; {name} is {own}: give all of them "
            "one kind, type and shape"
        )


def digest_of(item: Any) -> bytes:
    """SHA-256 of a picture's pixels, or of an input."""
    digest = hashlib.sha256(form_of(item).encode())
    if isinstance(item, Image.Image):
        digest.update(f"{item.mode} {item.size}".encode())
        digest.update(np.asarray(item).tobytes())
    else:
        for tensor in tensors_in(item):
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def shown(item: Any, name: str, preprocessed: bool) -> Any:
    """A stimulus as it is shown: tensors as pictures, if a preprocessing is given for them.

    Raises
    ------
    UserError : a preprocessing is given for an input that is no picture
    """
    if isinstance(item, Image.Image) or not preprocessed:
        return item
    like = isinstance(item, torch.Tensor) and _is_picture(item) and item.is_floating_point()
    if not like or not ((item >= 0) & (item <= 1)).all():
        beyond = f" from {item.min():.3g} to {item.max():.3g}" if like else ""
        raise UserError(
            "a preprocessing is for pictures, as PIL images, uint8, or float tensors [3, height, "
            f"width] from 0 to 1; {name} is {form_of(item)}{beyond}: convert it, or leave out "
            "`preprocessing`"
        )
    pixels = (item.float() * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().contiguous().numpy())


def batch_of(
    items: Sequence[Any], names: Sequence[str], preprocessing: Preprocessing | None
) -> NDArray[np.uint8] | Inputs:
    """A batch of single stimuli: pixels ``[stimulus, crop, crop, 3]``, or inputs.

    Raises
    ------
    UserError : a picture cannot be resized
    """
    if preprocessing is None:
        return Inputs.joined(list(items))
    pictures = [shown(item, name, True) for item, name in zip(items, names, strict=True)]
    return np.stack([prepare(picture, preprocessing) for picture in pictures])
