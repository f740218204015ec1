"""Networks compiled by torch, module by module, so that every recorded layer is still seen."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from .layers import OUTPUT, named_modules

# How often one function may be compiled in a program. Blocks of one class share theirs, and need it
# once for every shape; what differs from batch to batch would need it for ever.
_MOST = 1024


@contextmanager
def compiled(model: nn.Module, layers: Collection[str]) -> Iterator[None]:
    """While the context lasts, the innermost of ``layers`` run compiled; with no layers, nothing.

    A layer that holds no other of ``layers`` has its ``forward`` replaced: hooks are run around
    that, and never traced. What holds others stays as it is, since they would not be seen in it.
    ``layers`` are those of the whole scan, also where some are shown at a time: bits depend on what
    is compiled. torch keeps compiled code; entered again, the context compiles nothing anew.

    Raises
    ------
    UserError : there is no compiler, it cannot compile a layer, or would have to again and again
    """
    if not layers:
        yield
        return
    with warnings.catch_warnings():
        # Before 2.14 torch's compiler loads parts of torch that are deprecated.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        import torch._dynamo
        import torch._inductor.compile_fx
        import torch._inductor.config
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    modules = innermost(model, layers)
    before = [vars(module).get("forward") for module in modules]  # None where it is the class's
    # Nothing is chosen by its speed that changes bits, where this torch can be told so.
    known = hasattr(torch._inductor.config, "deterministic")
    options: dict[str, Any] = {"deterministic": True} if known else {}
    with torch._dynamo.config.patch(  # type: ignore[no-untyped-call, unused-ignore]
        # What is not compiled is an error, whatever the environment says.
        disable=False,
        suppress_errors=False,
        fail_on_recompile_limit_hit=True,
        # Code that knows nothing of a hook, a lesion's say, is not run where there is one.
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
                "compiled layers are such that torch.compile can make code of them here; it says "
                f"{_reason(error)!r}: leave out --compile"
            ) from error
        finally:
            for module, own in zip(modules, before, strict=True):
                vars(module).pop("forward", None)
                if own is not None:
                    vars(module)["forward"] = own


def innermost(model: nn.Module, layers: Collection[str]) -> list[nn.Module]:
    """The modules of ``layers`` that hold no other of them."""
    modules = dict(named_modules(model))
    recorded = {modules[name] for name in layers}
    found = []
    for name in layers:
        own, *inside = modules[name].modules()
        if recorded.isdisjoint(inside):
            found.append(own)
    return found


def refuse_without_compiler(device: torch.device) -> None:
    """Compile something small: what is missing is said before a scan begins.

    And what the compiler takes of memory by itself is there when a scan's is measured.

    Raises
    ------
    UserError : nothing can be compiled for this device
    """
    small = nn.GELU()
    with compiled(small, [OUTPUT]), torch.inference_mode():
        small(torch.zeros(8, device=device))


def _reason(error: Exception) -> str:
    """What torch has to say in its first line, or what that was caused by."""
    cause = error.__cause__ if not isinstance(error, RuntimeError) else None
    lines = str(cause or error).strip().splitlines()
    return (lines or [type(error).__name__])[0][:200]
