"""What a result is a result of: under one fingerprint scans go on and stores are merged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from ..errors import shortened
from ..variables import SHOWN, apart

# Stimuli that are turned into text at a time: the whole list would be 200 bytes for each.
_AT_ONCE = 4096
# Attributes of the root that determine the numbers, beside the stimuli.
IDENTITY: dict[str, str] = {
    "model": "network",
    "weights_sha256": "weights",
    "modules_sha256": "modules",
    "configuration_sha256": "modules",
    "preprocessing": "preprocessing",
    "precision": "precision of the network",
    "compiled": "compiled network",
    "units": "units",
    "layers": "layers",
    "categories": "categories",
    "folds": "folds",
    "batch_size": "batch size",
    "device_type": "kind of device",
    "store_dtype": "precision of the store",
    "null": "shuffled labels",
    # Of a recording.
    "recorded": "recorded units",
    "projection": "projection",
}
# Those that name a network, but for its answers.
NETWORK = ("model", "weights_sha256", "modules_sha256", "configuration_sha256", "preprocessing",
           "precision", "units")  # fmt: skip
# How much less another kind of device keeps of answers.
_ELSEWHERE = 10
# What a root, or its preprocessing, means that has not the attribute.
_UNSAID = {"precision": "its own", "compiled": False, "units": "all", "decoder": "pillow"}


def fingerprint(provenance: Mapping[str, Any], stimuli: Mapping[str, Sequence[Any]]) -> str:
    """SHA-256 of everything that determines a result.

    ``provenance`` are the attributes of a store's root, ``stimuli`` the columns of its stimulus
    table, of which those that were shown count: together they also give the order of showing.
    """
    identity = {name: provenance[name] for name in IDENTITY if name in provenance}
    digest, opened = hashlib.sha256(), "{"
    for name in sorted([*identity, "stimuli"]):
        digest.update(f"{opened}{_canonical(name)}:".encode())
        if name == "stimuli":
            for part in _shown_rows(stimuli):
                digest.update(part.encode())
        else:
            digest.update(_canonical(identity[name]).encode())
        opened = ","
    digest.update(b"}")
    return digest.hexdigest()


def _shown_rows(stimuli: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """The list of hash, category and fold of all that were shown, as JSON, in parts."""
    columns = [stimuli[f"stimulus_{name}"] for name in ("sha256", "category", "fold", "status")]
    rows = zip(*columns, strict=True)
    opened = "["
    while part := list(islice(rows, _AT_ONCE)):
        shown = [[str(sha256), int(k), int(f)] for sha256, k, f, status in part if status == SHOWN]
        if shown:
            yield opened + _canonical(shown)[1:-1]
            opened = ","
    yield "[]" if opened == "[" else "]"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def difference(
    one: Mapping[str, Any], other: Mapping[str, Any], but: Collection[str] = ()
) -> str | None:
    """What the attributes of two roots first differ in that determines numbers, and how.

    As the end of a sentence, "weights: ... and ..."; None where they agree in all ``but`` these.
    What layers answer to fixed images is compared where both roots have it.
    """
    for name, shown in IDENTITY.items():
        own, its = (root.get(name, _UNSAID.get(name)) for root in (one, other))
        if own == its or name in but:
            continue
        if name == "configuration_sha256" and None in (own, its):
            continue
        if name == "weights_sha256":
            own, its = (f"{root['weights']} ({str(root.get(name))[:12]})" for root in (one, other))
        if name in ("modules_sha256", "configuration_sha256"):
            own, its = _other_module(one, other, str(own)[:12], str(its)[:12])
        return f"{shown}: {_difference(name, own, its)}"
    return _other_answer(one, other)


def not_compared(roots: Mapping[str, Mapping[str, Any]]) -> str | None:
    """A note on networks that are compared by less than what they compute; None where by that.

    ``roots`` are the attributes of roots, by what these are called.
    """
    without = [name for name, root in roots.items() if "configuration_sha256" not in root]
    if not without:
        return None
    return (
        f"an earlier version made {shortened(without, 3)} and kept neither how modules were set up "
        "nor what they answer: networks were compared by weights and types of modules alone"
    )


def _other_module(
    one: Mapping[str, Any], other: Mapping[str, Any], *hashes: str
) -> tuple[str, str]:
    """The first module that is another, in both networks; of those not listed, the hashes."""
    lists = (list(root.get("modules", ())) for root in (one, other))
    pairs = zip_longest(*lists, fillvalue="none")
    return next(((a, b) for a, b in pairs if a != b), (hashes[0], hashes[1]))


def _other_answer(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first layer of both that does not answer fixed images alike, and how far it is off."""
    kinds = {root.get("device_type") for root in (one, other)}
    for name, own in one.get("answers", {}).items():
        its = other.get("answers", {}).get(name)
        if its is None:
            continue
        far = apart(own, its)
        if far > max(own[-1], its[-1]) * (1 if len(kinds) == 1 else _ELSEWHERE):
            return f"answers: those of {name} to the same images are {far:.2g} of their norm apart"
    return None


def _difference(name: str, own: Any, its: Any) -> str:
    if name == "layers":
        names = [{record["name"] for record in records} for records in (own, its)]
        alone = sorted(names[0] ^ names[1])
        return f"only one has {shortened(alone)}" if alone else "some have other shapes"
    if name == "recorded":
        others = [key for key in {**own, **its} if own.get(key) != its.get(key)]
        return f"others of {shortened(others)}"
    if isinstance(own, Mapping) and isinstance(its, Mapping):
        own, its = (
            {key: one.get(key, _UNSAID.get(key)) for key in {**own, **its}} for one in (own, its)
        )
        keys = [key for key in own if own[key] != its[key]]
        own, its = ({key: one[key] for key in keys} for one in (own, its))
    return f"{own} and {its}"
