"""torch.compile, module by module, so that hooks still see every recorded layer."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from .modules import OUTPUT, module_of, named_modules

# Limit on compilations of one function. Blocks of a class share a function and compile it once per
# shape; a shape that changed with every batch would compile forever.
_MOST = 1024


@contextmanager
def compiled(model: nn.Module, layers: Collection[str]) -> Iterator[None]:
    """Run the innermost of ``layers`` compiled inside the context; without layers, do nothing.

    Replaces the ``forward`` of every layer that contains no other layer. Hooks run around it and
    are not traced. Layers that contain others stay eager, or hooks inside them would not run.
    ``layers`` are those of the whole scan even if a pass records only some: bits depend on what is
    compiled. torch keeps compiled code, so entering the context again compiles nothing.

    Raises
    ------
    UserError : no compiler is available, or it cannot compile a layer, or recompiles too often
    """
    if not layers:
        yield
        return
    with warnings.catch_warnings():
        # Before 2.14, torch's compiler imports deprecated parts of torch.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        import torch._dynamo
        import torch._inductor.compile_fx
        import torch._inductor.config
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    modules = innermost(model, layers)
    before = [vars(module).get("forward") for module in modules]  # None: the class's own
    # Deterministic where torch supports it: no choice by measured speed may change bits.
    known = hasattr(torch._inductor.config, "deterministic")
    options: dict[str, Any] = {"deterministic": True} if known else {}
    with torch._dynamo.config.patch(  # type: ignore[no-untyped-call, unused-ignore]
        # Failing to compile is an error, whatever the environment says.
        disable=False,
        suppress_errors=False,
        fail_on_recompile_limit_hit=True,
        # Do not reuse code compiled without a hook (of a lesion, for example) where one is set.
        skip_nnmodule_hook_guards=False,
        recompile_limit=_MOST,
        accumulated_recompile_limit=_MOST,
    ):
        try:
            for module in modules:
                vars(module)["forward"] = torch.compile(
                    module.forward, dynamic=False, options=options
                )
            yield
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            raise UserError(
                "torch.compile must be able to compile every layer here; it fails with "
                f"{_reason(error)!r}: leave out `compile`"
            ) from error
        finally:
            for module, own in zip(modules, before, strict=True):
                vars(module).pop("forward", None)
                if own is not None:
                    vars(module)["forward"] = own


def innermost(model: nn.Module, layers: Collection[str]) -> list[nn.Module]:
    """Modules of ``layers`` that contain no other of them."""
    modules = dict(named_modules(model))
    recorded = dict.fromkeys(module_of(modules, name) for name in layers)
    found = []
    for module in recorded:
        own, *inside = module.modules()
        if recorded.keys().isdisjoint(inside):
            found.append(own)
    return found


def refuse_without_compiler(device: torch.device) -> None:
    """Compile a small module, to fail before a scan begins.

    It also loads the compiler, whose memory is then included when a scan's is measured.

    Raises
    ------
    UserError : nothing can be compiled for this device
    """
    small = nn.GELU()
    with compiled(small, [OUTPUT]), torch.inference_mode():
        small(torch.zeros(8, device=device))


def _reason(error: Exception) -> str:
    """First line of torch's error or of its cause."""
    cause = error.__cause__ if not isinstance(error, RuntimeError) else None
    lines = str(cause or error).strip().splitlines()
    return (lines or [type(error).__name__])[0][:200]
