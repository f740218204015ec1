"""Sets of weights in a checkpoint file. No pickled code is ever run."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
# Keys and prefixes under which training programs save a network, in order of preference.
_USUAL = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights"),
    *("backbone", "encoder"),
)
# Averages over training: taken only by name, or if the file holds nothing else.
_AVERAGED = re.compile(r"(?<![a-zA-Z])(?i:ema|swa|avg|averaged?|polyak|shadow)(?![a-zA-Z])|EMA|SWA")
# Parts that wrappers insert into names at any depth; DataParallel's "module" comes after the first.
_INSIDE = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
# Tensors that averaging programs save beside the weights.
_COUNTERS = frozenset(("n_averaged",))
# Types of values beside the weights that are skipped without reading.
_UNREAD = (
    *("argparse.Namespace", "datetime.date", "datetime.datetime", "datetime.timedelta"),
    *("numpy.dtype", "numpy.ndarray"),
    *(f"pathlib{m}.{name}Path" for m in ("", "._local") for name in ("", "Posix", "Windows")),
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
)
# Depth of nested dictionaries to search for weights.
_DEEPEST = 4
_State = OrderedDict[str, Any]


class _Unread:
    """Placeholder for a value beside the weights; constructs and runs nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Unread:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None: ...


@dataclass(frozen=True)
class Weights:
    """A set of weights in a checkpoint, by the network's own names.

    ``key`` locates it: keys of dictionaries, then the prefix of its names, joined by dots.
    ``beside`` are names in the same dictionary that it leaves out. ``score`` counts the network's
    names that it has. ``place`` is the dictionary and ``start`` the prefix.
    """

    key: str
    state: _State
    beside: tuple[str, ...]
    score: int
    place: str
    start: str

    def rank(self, tower: str) -> tuple[int, list[int]]:
        """Sort key: the set most likely to be the network itself comes first."""
        usual, parts = (tower, *_USUAL), self.key.split(".") if self.key else []
        if any(map(_AVERAGED.search, parts)):
            return 2, []
        order = [usual.index(part) if part in usual else len(usual) for part in parts]
        return int(len(usual) in order), order

    def is_usual(self, tower: str) -> bool:
        """Whether its names have only the usual prefixes."""
        usual = ("", tower, *_USUAL)
        return all(p in usual or _AVERAGED.search(p) for p in self.start.split("."))

    def is_apart(self, other: Weights) -> bool:
        """Whether neither of the two contains the other."""
        one, two = f"{self.key}.", f"{other.key}."
        return self.place != other.place or not (one.startswith(two) or two.startswith(one))


def local_file(weights: str) -> tuple[Path, str] | None:
    """File and key that ``weights`` names as FILE or FILE:KEY; None for anything else.

    An existing file with a colon in its own name takes precedence.
    """
    if Path(weights).is_file():
        return Path(weights), ""
    parts = weights.split(":")
    cuts = [(":".join(parts[:end]), ":".join(parts[end:])) for end in range(len(parts) - 1, 0, -1)]
    for file, key in cuts:
        if Path(file).is_file():
            return Path(file), key
    for file, key in ((weights, ""), *cuts):
        if file.endswith(SUFFIXES):
            return Path(file), key
    return None


def read_checkpoint(path: Path) -> Any:
    """Content of a ``.safetensors`` file or a torch checkpoint without code.

    Raises
    ------
    UserError : the file is missing, damaged, or contains code
    """
    if not path.is_file():
        raise UserError(f"weights are in a file that exists; {path} does not")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([(_Unread, name) for name in _UNREAD]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader raises its own kinds of errors
        raise UserError(
            f"weights are a .safetensors file or a torch state dict without code; cannot read "
            f"{path} ({_reason(error)}): save model.state_dict() again"
        ) from None


def _reason(error: Exception) -> str:
    """Reason why a file cannot be read, without torch's advice to trust it."""
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return printable(f"it needs {code[1]}, which is code")
    lines = str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines()
    return printable((lines or [type(error).__name__])[0].partition(". In PyTorch")[0])


def printable(text: str) -> str:
    """``text`` from a file, shortened, with ``?`` for control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:120])


def find_weights(content: Any, expected: Collection[str], tower: str) -> list[Weights]:
    """Sets of weights in a checkpoint for a network with the ``expected`` names, likeliest first.

    ``tower`` is the network's name inside a larger one. If no set has half of the network's names,
    all dictionaries of tensors are returned.
    """
    found: list[Weights] = []
    parts = frozenset(part for name in expected for part in name.split("."))
    for place, state in _dictionaries(content, "", set()):
        names = _without_wrappers(state, parts)
        starts = Counter(
            name[:end]
            for name in names
            for end in (0, *(dot.end() for dot in re.finditer(r"\.", name)))
            if name[end:] in expected
        )
        for start in {"": 0, **starts}:
            if start and 2 * starts[start] < len(expected):
                continue
            key = inner_name(".".join(filter(None, (place, start.rstrip(".")))))
            beside = (n for n in names if not n.startswith(start) and n not in _COUNTERS)
            chosen = _renamed(state, names, start, parts)
            found.append(Weights(key, chosen, tuple(beside), starts[start], place, start))
    fitting = [one for one in found if 2 * one.score >= len(expected)]
    return sorted(fitting or found, key=lambda one: one.rank(tower))


def named(found: Sequence[Weights], key: str) -> list[Weights]:
    """Sets at ``key`` or inside it."""
    return [one for one in found if f"{one.key}.".startswith(f"{key}.")]


def _dictionaries(content: Any, place: str, seen: set[int]) -> Iterator[tuple[str, _State]]:
    """Dictionaries of named tensors, with the keys that lead to them."""
    if not isinstance(content, dict) or id(content) in seen or place.count(".") >= _DEEPEST:
        return
    seen.add(id(content))
    state: _State = OrderedDict(
        (name, value) for name, value in content.items() if _belongs(name, value)
    )
    if any(isinstance(value, torch.Tensor) for value in state.values()):
        versions = getattr(content, "_metadata", None)
        vars(state)["_metadata"] = versions if isinstance(versions, dict) else {}
        yield place, state
    for name, value in content.items():
        if isinstance(name, str) and name not in state:
            yield from _dictionaries(value, f"{place}.{name}" if place else name, seen)


def _belongs(name: Any, value: Any) -> bool:
    """Whether a state dict holds this entry: a tensor, or a module's extra state."""
    if not isinstance(name, str):
        return False
    return isinstance(value, torch.Tensor) or name.rpartition(".")[2] == "_extra_state"


def _without_wrappers(state: _State, own: Collection[str]) -> dict[str, str]:
    """Names in a state dict without wrapper parts -> names as saved."""
    names = {inner_name(name, own): name for name in state}
    return names if len(names) == len(state) else {name: name for name in state}


def inner_name(name: str, own: Collection[str] = ()) -> str:
    """A name without wrapper parts, except parts that the network's own names have."""
    first, *others = [part for part in name.split(".") if part in own or part not in _INSIDE] or [
        ""
    ]
    return ".".join((first, *(part for part in others if part in own or part != "module")))


def _renamed(state: _State, names: dict[str, str], start: str, own: Collection[str]) -> _State:
    """Entries of ``state`` below ``start``, without that prefix, with the modules' versions."""
    chosen: _State = OrderedDict(
        (name.removeprefix(start), state[written])
        for name, written in names.items()
        if name.startswith(start)
    )
    # Modules use their versions to convert old names.
    versions = OrderedDict()
    for written, version in vars(state)["_metadata"].items():
        module = f"{inner_name(str(written), own)}.".removeprefix(".")
        if module.startswith(start):
            versions[module.removeprefix(start).removesuffix(".")] = version
    vars(chosen)["_metadata"] = versions
    return chosen
