"""Weights: load them strictly, hash them, download them."""

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
    """Whether ``weights`` names a local file rather than a library's tag."""
    return local_file(weights) is not None


def load_strictly(
    model: nn.Module, path: Path, key: str, name: str, tower: str = ""
) -> tuple[str, list[str]]:
    """Load a weights file into ``model`` as strictly as ``load_state_dict(strict=True)``.

    Removes what training programs put around weights: see :func:`.checkpoints.find_weights`.
    ``key`` selects one of several sets. If names in the file begin with ``tower`` (``visual`` in a
    whole CLIP checkpoint), only those are loaded.

    Returns
    -------
    a description of the file, and notes on what else it holds

    Raises
    ------
    UserError : the file cannot be read, nothing in it fits, or several sets fit equally well
    """
    found = find_weights(read_checkpoint(path), model.state_dict().keys(), tower)
    if not found:
        raise UserError(f"a weights file holds named tensors (a state dict); {path} does not")
    key = inner_name(key)
    meant = named(found, key) if key else found
    if not meant:
        raise UserError(
            f'`weights="FILE:KEY"` names weights in the file; {path} holds {_listed(found)}; got '
            f"{printable(key)!r}"
        )
    candidates = [one for one in meant if one.key == key or not one.beside or one.is_usual(tower)]
    if not candidates:
        raise UserError(
            f"a weights file holds one network; {path} has more beside {_listed(meant)} "
            f"({shortened(map(printable, meant[0].beside), 2)}): to take a part, name it with "
            f'`weights="{path}:{printable(meant[0].key)}"`'
        )
    taken = _load_likeliest(model, candidates, path, tower)
    if taken is None:
        closest = max(candidates, key=lambda one: one.score)
        where = f"{path}:{printable(closest.key)}" if closest.key else path
        raise UserError(
            f"weights must fit the architecture; {where} does not fit {name}: "
            f"{_misfit(model, closest)}: choose the model they were trained in"
        )
    others = [] if key else [one for one in found if one.is_apart(taken)]
    part = printable(key or (taken.key if others else ""))
    notes = []
    if others:
        notes.append(
            f"{path.name} holds several sets of weights: took {_listed([taken])}; "
            f'`weights="FILE:KEY"` takes another ({_listed(others)})'
        )
    if taken.beside and not (tower and taken.key.endswith(tower)):
        notes.append(
            f"{path.name}: ignored entries beside {_listed([taken])} "
            f"({shortened(map(printable, taken.beside), 2)})"
        )
    return f"file {path.name}" + (f":{part}" if part else ""), notes


def _load_likeliest(
    model: nn.Module, found: Sequence[Weights], path: Path, tower: str
) -> Weights | None:
    """Load the first set of weights that fits, and return it; None if none does.

    Raises
    ------
    UserError : several sets fit equally well
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
                f"a network has one set of weights; {path} holds {_listed(fitting)}: name one with "
                f'`weights="{path}:{printable(fitting[0].key)}"`'
            )
        if fitting:
            if one is not fitting[0]:  # a later set that does not fit has overwritten it
                _misfit(model, fitting[0])
            return fitting[0]
    return None


def _misfit(model: nn.Module, weights: Weights) -> str:
    """Load a set of weights; returns what does not fit in words, or nothing."""
    state = weights.state
    for names in _shared(model):
        if present := [name for name in names if name in state]:
            state.update({name: state[present[0]] for name in names if name not in state})
    try:
        model.load_state_dict(state, strict=True)
    except Exception as error:  # modules have their own hooks that rename and reject entries
        return _differences(str(error)) or type(error).__name__
    return ""


def _shared(model: nn.Module) -> list[list[str]]:
    """Groups of names of the same tensor; a file needs only one of them."""
    names = defaultdict(list)
    for name, tensor in model.state_dict(keep_vars=True).items():
        # Lazy, meta and empty tensors have no address.
        if isinstance(tensor, torch.Tensor) and not is_lazy(tensor) and tensor.data_ptr():
            names[tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype].append(name)
    return [shared for shared in names.values() if len(shared) > 1]


def _differences(message: str) -> str:
    """Short form of a message of ``load_state_dict``."""
    listed = {
        what: [
            name
            for section in re.findall(
                rf"{word} key\(s\) in .*?: (.*?)(?=\n\t|$)", message, re.DOTALL
            )
            for name in re.findall(r'"([^"]+)"', section)
        ]
        for what, word in (("missing", "Missing"), ("unknown", "Unexpected"))
    }
    listed["misshapen"] = re.findall(r"size mismatch for (.+?): ", message, re.DOTALL)
    differences = [
        f"{len(keys)} {what} ({shortened(map(printable, sorted(keys)), 2)})"
        for what, keys in listed.items()
        if keys
    ]
    lines = [line.strip() for line in message.splitlines() if not line.startswith("Error(s) in")]
    return ", ".join(differences) or printable(next(filter(None, lines), ""))


def _listed(found: Sequence[Weights]) -> str:
    return shortened(printable(one.key) or "the top level" for one in found)


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue  # a module's extra state
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def download(fetch: Callable[[], _Loaded], what: str, otherwise: str) -> _Loaded:
    """Run ``fetch``, which may download ``what``; ``otherwise`` says what to do without.

    Raises
    ------
    UserError : the download failed, or there is no folder for it
    """
    folders = (os.environ.get(name) for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME"))
    if all(os.path.expanduser(one or "~").startswith("~") for one in folders):  # noqa: PTH111
        # The libraries would create a folder named ~ in the current one.
        raise UserError(
            f"downloads go to the user's home folder, and this user has none; got {what}: set "
            f"XDG_CACHE_HOME to a folder, or {otherwise}"
        )
    try:
        with quiet(), _offline_at_once():
            return fetch()
    except UserError:
        raise
    except Exception as error:  # network, hub, disk and cache errors of three libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot download {what} ({reason[:120]}): if this machine is offline, {otherwise}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' logging; errors that matter are raised as ours."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _offline_at_once() -> Iterator[None]:
    """Use the hub's cache if its host cannot be resolved, instead of retrying for a minute."""
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
