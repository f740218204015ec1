"""Correspondence of two localizers on one network: categories, contrasts and layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..contrasts.language.contrast import (
    Contrast,
    parse_contrast,
    parse_contrasts,
    place_of,
    translated,
)
from ..contrasts.language.grammar import quoted
from ..errors import UserError, nearest, shortened
from ..layer import Layer
from ..registry import SHOWN
from ..store.identity import difference
from ..store.store_reader import StoreReader
from ..texts import composed
from ..values import listed

# Categories and their counterparts: a mapping, or texts such as "faces,places=houses".
Given = Mapping[str, str] | str | Sequence[str]
_RULE = "`categories` are NAME, or NAME=COUNTERPART in the second store, joined by commas"
# Attributes of a root that two localizers need not share.
_OTHERS = ("layers", "categories", "folds", "batch_size", "device_type", "store_dtype", "null",
           "coordinates", "compiled")  # fmt: skip
# No category has this name.
_NO_NAME = "\0"
_PARTS = re.compile(r"""(?:"[^"]*"|'[^']*'|[^,])+""")


class Pair(NamedTuple):
    """One contrast, in the categories of each of two localizers."""

    own: Contrast
    its: Contrast


def match_categories(
    first: StoreReader, other: StoreReader, given: Given | None
) -> list[tuple[int, int]]:
    """Corresponding categories of two stores: those ``given``, or all of the same name.

    Names are the same if they differ in Unicode form, in case or in spaces around them alone.

    Raises
    ------
    UserError : a category is unknown, or matched twice; fewer than two correspond
    """
    stores = first, other
    if given is None:
        pairs = _same_names(first.categories, other.categories)
    else:
        pairs = [_known(stores, names) for names in _named(given)]
    for side, store in enumerate(stores):
        places = [pair[side] for pair in pairs]
        for place in places:
            if places.count(place) > 1:
                raise UserError(
                    f"a category is matched once; {store.categories[place]} of {store.path} is "
                    "matched twice: leave one out"
                )
    if len(pairs) < 2:
        found = " and ".join(f"{store.path} has {shortened(store.categories)}" for store in stores)
        raise UserError(
            f"localizers are compared on two categories at least that both have; {found}: name "
            f"those that correspond (`categories` {first.categories[0]}={other.categories[0]},...)"
        )
    return pairs


def match_contrasts(
    first: StoreReader,
    other: StoreReader,
    pairs: Sequence[tuple[int, int]],
    contrasts: str | Sequence[str] | None,
) -> list[Pair]:
    """Contrasts in the categories of each of two stores.

    By default every matched category against all other matched ones. Others are written with the
    categories of the first store. One against all others is that in each store, matched or not.

    Raises
    ------
    UserError : a contrast names a category without a match, or cannot be parsed
    """
    if contrasts is None:
        sides = zip(*pairs, strict=True)
        every = [_each_against_others(store.categories, side)
                 for store, side in zip((first, other), sides, strict=True)]  # fmt: skip
        return [Pair(*pair) for pair in zip(*every, strict=True)]
    counterparts = dict(pairs)
    found = []
    for contrast in parse_contrasts(contrasts, first.categories):
        # With a category more, a baseline that was written out is told from "all others".
        own = parse_contrast(contrast.text, (*first.categories, _NO_NAME))
        places = [*own.target, *(own.named or ())]
        for place in places:
            if place not in counterparts:
                name = first.categories[place]
                raise UserError(
                    f"contrasts of two localizers are of categories that both have; {name} of "
                    f"{contrast.text!r} is matched with none of {other.path}: match it "
                    f"(`categories` {name}=...), or leave it out"
                )
        names = [other.categories[counterparts[place]] for place in places]
        found.append(Pair(contrast, translated(own, names, other.categories)))
    return found


def same_network(first: StoreReader, other: StoreReader, allow: Sequence[str]) -> list[str]:
    """Warnings about how two scans of one network differ.

    Raises
    ------
    UserError : networks or units differ, or preprocessing that is not in ``allow``
    """
    stores, warnings = (first, other), []
    both = f"{first.path} and {other.path}"
    shown = [{"preprocessing": store.provenance.get("preprocessing")} for store in stores]
    roots = [{**store.provenance, "units": store.units} for store in stores]
    if found := difference(shown[0], shown[1]):
        text = f"{both} differ in their {found}"
        if "preprocessing" not in allow:
            raise UserError(
                f"one network is shown two localizers in one way; {text}: scan both with the same, "
                "or allow it (`allow` preprocessing), which the result will state"
            )
        warnings.append(text)
        for root in roots:  # to images of their own size
            root.pop("answers", None)
    if found := difference(roots[0], roots[1], but=(*_OTHERS, "preprocessing")):
        raise UserError(
            f"two localizers are compared on one network; {both} differ in their {found}: scan one "
            "network with both"
        )
    return warnings


def same_stimuli(first: StoreReader, other: StoreReader) -> list[str]:
    """Warnings about stimuli that both localizers show."""
    own, its = (_shown(store) for store in (first, other))
    common = len(own & its)
    if not common:
        return []
    said = "all" if own == its else f"{common:,} of {len(own):,} and of {len(its):,}"
    return [
        f"{first.path} and {other.path} have {said} stimuli in common: of these, one store is no "
        "cross-validation of the other"
    ]


def same_layers(
    first: StoreReader, other: StoreReader, layers: str | Sequence[str]
) -> tuple[list[tuple[Layer, Layer]], list[str]]:
    """Layers of both stores, and warnings about those that only the first has.

    Raises
    ------
    UserError : a layer is unknown, or has other units in the other store; no layer is in both
    """
    known = {layer.name: layer for layer in other.layers}
    named = first.layers_named(layers)
    pairs = [(layer, known[layer.name]) for layer in named if layer.name in known]
    for own, its in pairs:
        if (own.shape, own.dims) != (its.shape, its.dims):
            raise UserError(
                f"a layer of one network has the same units in both stores; {own.name} is "
                f"{own.shape} in {first.path} and {its.shape} in {other.path}: scan both with the "
                "same preprocessing and `dims`, or leave the layer out"
            )
    alone = [layer.name for layer in named if layer.name not in known]
    warnings = [f"{other.path} has no {shortened(alone)}"] if alone else []
    if not pairs:
        raise UserError(f"localizers are compared layer by layer; {warnings[0]}: scan it again")
    return pairs, warnings


def _each_against_others(categories: Sequence[str], places: Sequence[int]) -> list[Contrast]:
    """Each of some categories against the rest of them."""
    names = [categories[place] for place in places]
    if len(names) == len(categories):
        return [parse_contrast(name, categories) for name in names]
    sides = [quoted(name) for name in names]
    texts = [f"{side} > {' + '.join(sides[:k] + sides[k + 1 :])}" for k, side in enumerate(sides)]
    return [parse_contrast(text, categories) for text in texts]


def _same_names(first: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Places of the categories that have the same name in both stores."""
    exact = {name: place_of(name, other) for name in first}
    taken = set(exact.values())
    folded = {_folded(name): k for k, name in reversed([*enumerate(other)]) if k not in taken}
    pairs = []
    for k, name in enumerate(first):
        place = exact[name] if exact[name] is not None else folded.pop(_folded(name), None)
        if place is not None:
            pairs.append((k, place))
    return pairs


def _folded(name: str) -> str:
    return composed(composed(name).strip().casefold())


def _named(given: Given) -> Iterator[tuple[str, str]]:
    """Pairs of names as they were given."""
    if isinstance(given, Mapping):
        yield from given.items()
        return
    for text in listed(given):
        if not isinstance(text, str):
            raise UserError(f"{_RULE}; got {text!r}")
        for part in _PARTS.findall(text):
            own, equals, its = (side.strip() for side in part.partition("="))
            if not own or (equals and not its):
                raise UserError(f"{_RULE}; got {part.strip()!r}")
            yield own, its or own


def _known(stores: tuple[StoreReader, StoreReader], names: tuple[str, str]) -> tuple[int, int]:
    """The places of two categories in their stores."""
    found = []
    for store, name in zip(stores, names, strict=True):
        if not isinstance(name, str):
            raise UserError(f"{_RULE}; got {name!r}")
        place = place_of(name, store.categories)
        if place is None:  # a name with a comma stands in quotes
            place = place_of(name.strip("\"'"), store.categories)
        if place is None:
            raise UserError(
                f"{_RULE}; {store.path} has no {name}: {nearest(name, store.categories)}"
            )
        found.append(place)
    return found[0], found[1]


def _shown(store: StoreReader) -> set[str]:
    """Checksums of the stimuli that were shown."""
    status, sha = (store.stimulus_column(f"stimulus_{name}") for name in ("status", "sha256"))
    return {str(one) for one, said in zip(sha, status, strict=True) if said == SHOWN and one}
