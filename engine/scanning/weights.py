"""Weights files: reading them safely, loading them strictly, and naming them by content."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from torch import nn

from ..errors import UserError, shortened

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_Loaded = TypeVar("_Loaded")


def looks_like_file(weights: str) -> bool:
    """Whether ``weights`` means a local file rather than a library's name for its weights."""
    return weights.endswith(SUFFIXES) or Path(weights).is_file()


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a ``.safetensors`` file or a torch checkpoint without code in it.

    Checkpoints that keep it under ``state_dict`` or ``model`` are opened, and the ``module.`` that
    data-parallel training puts before every name is taken off.

    Raises
    ------
    UserError : file missing, damaged, with code in it, or without a state dict
    """
    if not path.is_file():
        raise UserError(f"--weights names a file that exists; {path} does not")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own kinds; none of them is our defect
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"weights are a .safetensors file or a torch state dict without code; cannot read "
            f"{path} ({reason[:120]}): save model.state_dict() anew"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not _all_tensors(content):
        raise UserError(f"a weights file holds named tensors (a state dict); {path} does not")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(content)


def _all_tensors(content: dict[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())


def load_strictly(model: nn.Module, path: Path, name: str, tower: str = "") -> None:
    """Load a weights file into ``model``; every name and shape has to agree.

    Where names in the file begin with ``tower`` (``visual.`` in a whole CLIP checkpoint), only
    those are loaded.

    Raises
    ------
    UserError : as :func:`read_state_dict`, or weights of another architecture
    """
    state = read_state_dict(path)
    if tower and any(key.startswith(tower) for key in state):
        state = {k.removeprefix(tower): v for k, v in state.items() if k.startswith(tower)}
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    misshapen = [key for key in expected.keys() & found.keys() if expected[key] != found[key]]
    differences = [
        f"{len(keys)} {what} ({shortened(sorted(keys), 2)})"
        for what, keys in (("missing", missing), ("unknown", unexpected), ("misshapen", misshapen))
        if keys
    ]
    if differences:
        raise UserError(
            f"weights have to fit the architecture; {path} is not of {name}: "
            f"{', '.join(differences)}: choose the model they were trained in"
        )
    model.load_state_dict(state, strict=True)


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters and buffers, as loaded."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def download(fetch: Callable[[], _Loaded], what: str) -> _Loaded:
    """Run ``fetch``, which may download weights.

    Raises
    ------
    UserError : it could not, or has no folder for them; with the ways to go on without
    """
    folders = (os.environ.get(name) for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME"))
    if all(os.path.expanduser(one or "~").startswith("~") for one in folders):  # noqa: PTH111
        # The libraries would make a folder called ~ where the program runs.
        raise UserError(
            f"downloaded weights are kept in the user's home, and this user has none; got {what}: "
            "set XDG_CACHE_HOME to a folder, or give --weights FILE or none"
        )
    try:
        with quiet(), _offline_at_once():
            return fetch()
    except UserError:
        raise
    except Exception as error:  # network, hub, disk and cache errors of three libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot get the weights of {what} ({reason[:120]}): if this machine is offline, give "
            "--weights FILE, or --weights none for an untrained network"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' log lines off the terminal: what matters in them reaches it as ours."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _offline_at_once() -> Iterator[None]:
    """Where the hub's host cannot be found, use its cache instead of retrying for a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
