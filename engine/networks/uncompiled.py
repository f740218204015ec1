"""Networks without torch.compile, so that hooks see their layers."""

from __future__ import annotations

import sys
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from ..errors import UserError

# Attributes that torch.compile, and torch.compiler.disable, set on the functions they make.
_COMPILED, _DISABLED = "_torchdynamo_orig_callable", "_torchdynamo_disable"
_BETWEEN = "torch._dynamo.external_utils"


def plain(model: nn.Module) -> nn.Module:
    """``model`` in evaluation mode and not compiled, nor any of its parts.

    Raises
    ------
    UserError : not a module, a scripted module, or one without evaluation mode
    """
    if not isinstance(model, nn.Module):
        given = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise UserError(f"a model is a name or a torch module; got {given}: pass an instance")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"layers are recorded by hooks, which scripted modules (torch.jit) do not accept; "
                f"{name or 'the network'} is scripted: scan the original network"
            )
    try:
        model.eval()
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"a network is scanned in evaluation mode, which this {type(model).__name__} does not "
            "support: scan the network it was made from"
        ) from error
    return uncompiled(model)


def uncompiled(model: nn.Module) -> nn.Module:
    """``model`` itself or, if any of it is compiled, an uncompiled copy.

    Hooks do not see into compiled code. The copy shares parameters, buffers and hooks; ``model`` is
    not changed.
    """
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is None:  # nothing was compiled in this process
        return model
    wrapper: type[nn.Module] = dynamo.OptimizedModule
    if not any(isinstance(m, wrapper) or _compiled_in(m) for m in model.modules()):
        return model
    return _copied(model, wrapper, {})


def _copied(module: nn.Module, wrapper: type[nn.Module], made: dict[int, nn.Module]) -> nn.Module:
    while isinstance(module, wrapper):
        module = module.get_submodule("_orig_mod")
    if id(module) not in made:
        copy = made[id(module)] = object.__new__(type(module))
        own = vars(copy)
        own.update(vars(module))
        for name, value in (_compiled_in(module) | vars(module)).items():
            function = _original(value) if _is_compiled(value) else value
            if isinstance(function, MethodType) and function.__self__ is module:
                own[name] = MethodType(function.__func__, copy)
            elif function is not value:
                inherited = name not in vars(module)
                own[name] = MethodType(function, copy) if inherited else function
        children = module._modules.items()
        own["_modules"] = {
            name: None if child is None else _copied(child, wrapper, made)
            for name, child in children
        }
    return made[id(module)]


def _compiled_in(module: nn.Module) -> dict[str, Any]:
    """Compiled functions among the attributes of a module or its class."""
    found: dict[str, Any] = {}
    for owner in (*reversed(type(module).__mro__), module):
        for name, value in vars(owner).items():
            found.pop(name, None)
            if _is_compiled(value):
                found[name] = value
    return found


def _is_compiled(value: Any) -> bool:
    if not isinstance(value, FunctionType) or getattr(value, _DISABLED, False):
        return False
    return hasattr(value, _COMPILED)


def _original(compiled: Any) -> Any:
    function = getattr(compiled, _COMPILED)
    # torch.compile wraps torch's own functions once more.
    between = getattr(function, "__globals__", {}).get("__name__") == _BETWEEN
    return function.__wrapped__ if between else function
