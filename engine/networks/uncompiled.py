"""The network as it was before torch.compile, whose layers can be seen."""

from __future__ import annotations

import sys
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from ..errors import UserError

# What torch.compile leaves on a function that it makes, and torch.compiler.disable as well.
_COMPILED, _DISABLED = "_torchdynamo_orig_callable", "_torchdynamo_disable"
_BETWEEN = "torch._dynamo.external_utils"


def plain(model: nn.Module) -> nn.Module:
    """``model`` in evaluation mode, without what torch.compile made of it or of its parts.

    Raises
    ------
    UserError : it is no module, or scripted, or a part of it is; it has no evaluation mode
    """
    if not isinstance(model, nn.Module):
        said = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise UserError(f"a model is a name, or a torch module; got {said}: give an instance")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"layers are recorded by hooks, which scripted modules (torch.jit) do not take; "
                f"{name or 'the network'} is one: scan the network as it was before"
            )
    try:
        model.eval()
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"a network is scanned in evaluation mode, which this {type(model).__name__} does not "
            "have: scan the network that it was made of"
        ) from error
    return uncompiled(model)


def uncompiled(model: nn.Module) -> nn.Module:
    """``model`` itself, or if torch.compile made any of it, a copy that runs as it was written.

    Hooks do not see into compiled code. The copy has the same parameters, buffers and hooks, and
    ``model`` is left as it is.
    """
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is None:  # nothing was compiled in this program
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
    """Attributes of a module or of its class that torch.compile made."""
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
    # What is torch's own, torch.compile first puts into a function that calls it.
    between = getattr(function, "__globals__", {}).get("__name__") == _BETWEEN
    return function.__wrapped__ if between else function
