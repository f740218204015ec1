"""Repeated forward passes over the same stimuli: what runs before the lesion runs once.

Modules that end before the first lesioned layer begins give what they gave the intact network. That
a network permits this is tried on a stimulus: its output must have the same bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ..networks.inputs import Inputs, called
from ..networks.modules import module_of, named_modules


class Shortcut:
    """Runs a network again and again from the first of some layers on.

    ``skipped`` are the modules that run once. Of a chain of them only the last output is kept.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], sample: torch.Tensor | Inputs
    ) -> None:
        self._model = model
        self.skipped, chained = _before(model, layers, sample)
        for self._unread in (chained, set[nn.Module]()):
            if self.skipped and self._is_exact(sample):
                return
        self.skipped = []

    @contextmanager
    def intact(self, inputs: torch.Tensor | Inputs) -> Iterator[Any]:
        """Yield the output for ``inputs``. Inside, the network is run on no others."""
        outputs: dict[nn.Module, torch.Tensor] = {}

        def keep(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            # A copy: code behind the module may change it in place. Nobody reads the others.
            unread = output.new_full((), torch.nan).expand(output.shape)
            outputs[module] = unread if module in self._unread else output.clone()

        hooks = [module.register_forward_hook(keep) for module in self.skipped]
        try:
            output = called(self._model, inputs)
        finally:
            for hook in hooks:
                hook.remove()
        with ExitStack() as stack:
            for module in self.skipped:
                stack.enter_context(_giving(module, outputs[module]))
            yield output

    def _is_exact(self, sample: torch.Tensor | Inputs) -> bool:
        with self.intact(sample) as output:
            try:
                return _is_same(output, called(self._model, sample))
            except RuntimeError:  # something writes to an output that nobody should read
                return False


def _before(
    model: nn.Module, layers: Sequence[str], sample: torch.Tensor | Inputs
) -> tuple[list[nn.Module], set[nn.Module]]:
    """Modules that end before any of the ``layers`` begins, without those inside others.

    Also those of them whose output the next one takes. Modules that run twice are left out.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return [], set()
    modules = dict(named_modules(model))
    lesioned, has_begun = {module_of(modules, name) for name in layers}, False
    calls, taken, ended = Counter[nn.Module](), dict[nn.Module, Any](), dict[nn.Module, Any]()

    def enter(module: nn.Module, args: Any, named: Any) -> None:
        nonlocal has_begun
        has_begun = has_begun or module in lesioned
        calls[module] += 1
        taken[module] = args[0] if len(args) == 1 and not named else None

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        if not has_begun:
            for inner in module.modules():
                ended.pop(inner, None)
            ended[module] = output

    hooks = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in model.modules()]
    hooks += [module.register_forward_hook(leave) for module in model.modules()]
    try:
        called(model, sample)
    finally:
        for hook in hooks:
            hook.remove()
    skipped = [module for module, output in ended.items()
               if calls[module] == 1 and isinstance(output, torch.Tensor)]  # fmt: skip
    chained = {one for one, following in pairwise(skipped)
               if taken[following] is ended[one] and ended[one].is_floating_point()}  # fmt: skip
    return skipped, chained


@contextmanager
def _giving(module: nn.Module, output: torch.Tensor) -> Iterator[None]:
    """Let a module return an output whatever it takes."""
    own = vars(module).get("forward")
    is_unread = not any(output.stride())
    module.forward = lambda *_, **__: output if is_unread else output.clone()
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _is_same(one: Any, other: Any) -> bool:
    """Whether two outputs have the same bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return all(_is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, tuple | list):
        return all(map(_is_same, one, other))
    return one is other or one == other
