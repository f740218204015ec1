"""Weights: loading them strictly, and naming them by content."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import UserError, shortened
from .checkpoints import (
    Weights,
    find_weights,
    inner_name,
    local_file,
    named,
    printable,
    read_checkpoint,
)

_Loaded = TypeVar("_Loaded")


def looks_like_file(weights: str) -> bool:
    """Whether ``weights`` means a local file rather than a library's name for its weights."""
    return local_file(weights) is not None


def load_strictly(
    model: nn.Module, path: Path, key: str, name: str, tower: str = ""
) -> tuple[str, list[str]]:
    """Load a weights file into ``model``, as ``load_state_dict(strict=True)`` does.

    What training programs put around weights is taken off: see :func:`.checkpoints.find_weights`.
    Of several sets ``key`` names one. Where names in the file begin with ``tower`` (``visual`` in a
    whole CLIP checkpoint), only those are loaded.

    Returns
    -------
    the file in words, and notes on what it holds besides

    Raises
    ------
    UserError : the file cannot be read, nothing in it fits, or several sets that it does not tell
        apart
    """
    found = find_weights(read_checkpoint(path), model.state_dict().keys(), tower)
    if not found:
        raise UserError(f"a weights file holds named tensors (a state dict); {path} does not")
    key = inner_name(key)
    meant = named(found, key) if key else found
    if not meant:
        raise UserError(
            f"--weights FILE:KEY names weights in the file; {path} holds {_listed(found)}; got "
            f"{printable(key)!r}"
        )
    unasked = [one for one in meant if one.key == key or not one.beside or one.is_usual(tower)]
    if not unasked:
        raise UserError(
            f"a weights file is of one network; {path} has more beside {_listed(meant)} "
            f"({shortened(map(printable, meant[0].beside), 2)}): to take a part, name it by "
            f"--weights {path}:{printable(meant[0].key)}"
        )
    taken = _load_likeliest(model, unasked, path, tower)
    if taken is None:
        likest = max(unasked, key=lambda one: one.score)
        where = f"{path}:{printable(likest.key)}" if likest.key else path
        raise UserError(
            f"weights have to fit the architecture; {where} is not of {name}: "
            f"{_misfit(model, likest)}: choose the model they were trained in"
        )
    others = [] if key else [one for one in found if one.is_apart(taken)]
    said = printable(key or (taken.key if others else ""))
    notes = []
    if others:
        notes.append(
            f"{path.name} holds several sets of weights: {_listed([taken])} is taken; --weights "
            f"FILE:KEY takes another ({_listed(others)})"
        )
    if taken.beside and not (tower and taken.key.endswith(tower)):
        notes.append(
            f"{path.name}: left out what is beside {_listed([taken])} "
            f"({shortened(map(printable, taken.beside), 2)})"
        )
    return f"file {path.name}" + (f":{said}" if said else ""), notes


def _load_likeliest(
    model: nn.Module, found: Sequence[Weights], path: Path, tower: str
) -> Weights | None:
    """Load the first set of weights that fits, and give it; None where none does.

    Raises
    ------
    UserError : several fit, and nothing says which of them is the network's
    """
    for rank, group in groupby(found, key=lambda one: one.rank(tower)[0]):
        fitting: list[Weights] = []
        for one in group:
            if not _misfit(model, one):
                fitting.append(one)
                if rank == 0:
                    break
        if len(fitting) > 1:
            raise UserError(
                f"a network has one set of weights; {path} holds {_listed(fitting)}: name one by "
                f"--weights {path}:{printable(fitting[0].key)}"
            )
        if fitting:
            if one is not fitting[0]:  # which has been overwritten by what does not fit
                _misfit(model, fitting[0])
            return fitting[0]
    return None


def _misfit(model: nn.Module, weights: Weights) -> str:
    """Load a set of weights; in words what does not fit, if anything."""
    state = weights.state
    for names in _shared(model):
        if present := [name for name in names if name in state]:
            state.update({name: state[present[0]] for name in names if name not in state})
    try:
        model.load_state_dict(state, strict=True)
    except Exception as error:  # modules have hooks of their own that translate and refuse names
        return _differences(str(error)) or type(error).__name__
    return ""


def _shared(model: nn.Module) -> list[list[str]]:
    """Names of one and the same tensor: a file need not have it under each."""
    names = defaultdict(list)
    for name, tensor in model.state_dict(keep_vars=True).items():
        # Of a lazy tensor, one on meta and an empty one, nothing tells where it lies.
        if isinstance(tensor, torch.Tensor) and not is_lazy(tensor) and tensor.data_ptr():
            names[tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype].append(name)
    return [shared for shared in names.values() if len(shared) > 1]


def _differences(said: str) -> str:
    """The message of ``load_state_dict``, shortened."""
    listed = {
        what: [
            name
            for section in re.findall(rf"{word} key\(s\) in .*?: (.*?)(?=\n\t|$)", said, re.DOTALL)
            for name in re.findall(r'"([^"]+)"', section)
        ]
        for what, word in (("missing", "Missing"), ("unknown", "Unexpected"))
    }
    listed["misshapen"] = re.findall(r"size mismatch for (.+?): ", said, re.DOTALL)
    differences = [
        f"{len(keys)} {what} ({shortened(map(printable, sorted(keys)), 2)})"
        for what, keys in listed.items()
        if keys
    ]
    lines = [line.strip() for line in said.splitlines() if not line.startswith("Error(s) in")]
    return ", ".join(differences) or printable(next(filter(None, lines), ""))


def _listed(found: Sequence[Weights]) -> str:
    return shortened(printable(one.key) or "the top level" for one in found)


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters and buffers, as loaded."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue  # what a module keeps beside tensors
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
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
