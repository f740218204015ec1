"""The command that compares networks, networks with brain regions, and localizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from fusiform.engine.errors import UserError, shortened

from .fields import Of, command
from .notes import note, put, put_heading, tell
from .parsing import names
from .shared_options import (
    Contrasts,
    CriterionFields,
    Every,
    LayerNames,
    Preset,
    Seed,
    Stores,
    To,
    criterion_of,
    remark,
    tabled,
    within_budget,
)
from .tables import PRINTED, Destination, print_titled, put_out

if TYPE_CHECKING:
    from fusiform.engine.comparing.brains.compare import BrainComparison
    from fusiform.engine.comparing.differences import Comparison
    from fusiform.engine.comparing.localizers import LocalizerComparison
    from fusiform.engine.contrasts.language.criterion import Criterion


@dataclass(frozen=True)
class NetworkOptions:
    """Options for networks side by side.

    Parameters
    ----------
    measures
        Measures to compare, joined by commas; repeatable: share, share_of_living,
        replicated, csi, d_prime, share_with_any (of feature maps), entropy, gini; by default
        share,replicated,csi,d_prime,gini.
    pairing
        Pair layers by name, the default, or by relative depth.
    against
        The store that each is compared with, by default the first.
    at
        Positions of checkpoints, such as epochs; with --against previous by default the number in
        which their names differ.
    allow
        Differences that are allowed, and reported: stimuli, preprocessing, units, joined by
        commas; repeatable.
    resamples
        Draws for intervals, by default 1000.
    """

    measures: list[str] | None = None
    pairing: Literal["name", "depth"] | None = None
    against: Literal["first", "previous"] | None = None
    at: list[str] | None = None
    allow: list[str] | None = None
    resamples: int | None = None


@dataclass(frozen=True)
class RegionOptions:
    """Options for a network beside brain regions.

    Parameters
    ----------
    roi
        Compare with brain regions instead; columns: region, category (or stimulus, which takes a
        recording as STORE), response; or region, first, second, distance; optionally subject,
        ceiling.
    correlation
        pearson or spearman; by default pearson of responses, spearman of distances.
    rearrangements
        Permutations of a region's categories or stimuli, for p; by default 10000.
    control_units
        Also compare the other units of each layer, and as many random units. An
        untrained network is a control too: name its store as well.
    each_layer
        All layers, not only the best.
    """

    roi: Path | None = None
    correlation: Literal["pearson", "spearman"] | None = None
    rearrangements: int | None = None
    control_units: bool = False
    each_layer: bool = False


@dataclass(frozen=True)
class LocalizerOptions:
    """Options for two localizers on one network.

    Parameters
    ----------
    localizers
        Compare the stimulus sets of two stores of one network instead: which units both
        select, and how those of one do on the other. Takes --allow preprocessing and --resamples.
    categories
        Categories to compare, with what the second store calls them if that differs,
        joined by commas; repeatable; by default all of the same name.
    """

    localizers: bool = False
    categories: list[str] | None = None


class _Asked(NamedTuple):
    """A comparison of any kind; ``given`` are layers, contrasts and seed."""

    stores: list[str]
    criterion: Criterion
    given: dict[str, Any]
    every: bool
    to: Destination


@command
@tabled
@within_budget
def compare(
    stores: Stores,
    criterion: CriterionFields,
    networks: Annotated[dict[str, Any], Of(given=NetworkOptions, panel="Networks")],
    regions: Annotated[dict[str, Any], Of(given=RegionOptions, panel="With regions")],
    localizers: Annotated[dict[str, Any], Of(given=LocalizerOptions, panel="Two localizers")],
    contrasts: Contrasts = None,
    layers: LayerNames = None,
    preset: Preset = None,
    seed: Seed = 0,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Compare networks layer by layer, a network with brain regions, or two localizers.

    Every network is compared with the first, or with the one before it. Checkpoints of a training
    run also tell when each category first exceeds the untrained network, and chance. Intervals come
    from resampled feature maps, each with all its units. Networks that saw different stimuli, or
    the same resized or cropped differently, are refused unless --allow names it.

    Example: fusiform compare trained.zarr untrained.zarr --measures share,csi
    """
    chosen = criterion_of(criterion, preset)
    given = {"layers": names(layers, "*"), "contrasts": contrasts, "seed": seed}
    asked = _Asked(stores, chosen, given, every, to)
    if localizers.pop("localizers", False):
        _refuse(regions, "is for brain regions; got it with --localizers: leave one out")
        _localizers(asked, {**networks, **localizers})
        return
    _refuse(localizers, "is for --localizers; got it alone: leave it out, or add --localizers")
    if "roi" in regions:
        _refuse(networks, "compares networks; got it with --roi: leave one out")
        _with_regions(asked, regions)
        return
    _refuse(regions, "is for --roi; got it alone: leave it out, or add --roi")
    _networks(asked, networks)


def _refuse(given: Mapping[str, Any], why: str) -> None:
    """Raise for options of another kind of comparison."""
    for name in given:
        raise UserError(f"`{name}` {why}")


def _networks(asked: _Asked, options: dict[str, Any]) -> None:
    from fusiform import compare, open_store

    opened = [open_store(path) for path in asked.stores]
    remark(asked.criterion, opened, asked.given["contrasts"])
    measures = names(options.pop("measures", None), "share", "replicated", "csi", "d_prime",
                     "gini")  # fmt: skip
    allow = names(options.pop("allow", None))
    found = compare(
        opened, asked.criterion, measures=measures, allow=allow, **options, **asked.given
    )
    if asked.to.is_table:
        _print_comparison(found, asked.every)
        return
    put_out(found.tables(), asked.to)
    warn(found, note)


def _with_regions(asked: _Asked, options: dict[str, Any]) -> None:
    from fusiform import Recording, compare_regions
    from fusiform.engine.comparing.brains.compare import opened

    table, each_layer = options.pop("roi"), options.pop("each_layer", False)
    sources = [opened(path) for path in asked.stores]
    selecting = [one for one in sources if not isinstance(one, Recording)]
    remark(asked.criterion, selecting, asked.given["contrasts"])
    found = [
        compare_regions(source, table, asked.criterion, **options, **asked.given)
        for source in sources
    ]
    if asked.to.is_table:
        _print_brains(found, each_layer, asked.every)
    else:
        put_out((table for one in found for table in one.tables()), asked.to)


def _localizers(asked: _Asked, options: dict[str, Any]) -> None:
    from fusiform import compare_localizers, open_store

    given = options.keys() & {"measures", "pairing", "against", "at"}
    others = {name: options.pop(name) for name in sorted(given)}
    _refuse(others, "compares networks; got it with --localizers: leave one out")
    opened = [open_store(path) for path in asked.stores]
    remark(asked.criterion, opened, asked.given["contrasts"])
    allow = names(options.pop("allow", None))
    found = compare_localizers(opened, asked.criterion, allow=allow, **options, **asked.given)
    if asked.to.is_table:
        _print_localizers(found, asked.every)
        return
    put_out(found.tables(), asked.to)
    warn(found, note)


def warn(found: Comparison | LocalizerComparison, say: Callable[[str], None] = tell) -> None:
    """Say what two stores of a comparison differ in."""
    for warning in found.warnings:
        say(f"warning: {warning}")


def _print_comparison(found: Comparison, every: bool) -> None:
    """Networks side by side: a table for every measure."""
    from fusiform.engine.comparing.tables import differences, labels, onsets

    names = labels(found)
    for name, path, said in zip(names, found.stores, found.provenance, strict=True):
        put_heading(path, f"{said['model']} ({said['weights']})", f"{name:>{len(names[0])}}  ")
    put(f"selective: {found.criterion}")
    warn(found)
    for table in (*differences(found, every), *onsets(found, every)):
        print_titled(table)
    of = f" of the difference from the {found.against} network" if len(found.stores) > 2 else ""
    print()
    draws = f"over {found.resamples:,} draws of whole feature maps"
    put(f"95 %: {draws}. *: the interval{of} excludes 0")
    references = {
        "untrained": "the interval of the difference from the first network lies above 0",
        "chance": "the share is larger than the one that 5 % of the network's shuffles reach",
    }
    for reference in dict.fromkeys(one.reference for one in found.onsets):
        put(f"{reference}: {references[reference]}. -: never")
    if found.onsets:
        put(f"for good: at every later {found.axis} too, of which the last has none")


def _print_brains(results: list[BrainComparison], each_layer: bool, every: bool) -> None:
    """Networks beside regions of brains."""
    from fusiform.engine.comparing.tables import correlations, legend, unknown

    for number, found in enumerate(results, 1):
        print(end="\n" if number > 1 else "")
        said = found.provenance
        place = f"{number}  " if len(results) > 1 else ""
        put_heading(found.source, f"{said['model']} ({said['weights']})", place)
        put(found.chosen)
        put(f"regions: {found.regions}")
        for line in found.notes:
            tell(line)
        print_titled(correlations(found, each_layer, every, results))
        if left_out := unknown(found):
            print()
            put(f"too few selective units in every layer: {shortened(left_out)}")
        if not found.held_out and found.chosen.startswith("selective"):
            print()
            put("measured on the stimuli that selected the units: the scan had --folds 1")
    print()
    for line in legend(results, each_layer):
        put(line)


def _print_localizers(found: LocalizerComparison, every: bool) -> None:
    """Two localizers: their overlap, and a table for every measure of one on the other."""
    from fusiform.engine.comparing.tables import localizers

    for number, (path, said) in enumerate(zip(found.stores, found.provenance, strict=True), 1):
        stimuli = f"{said['n_stimuli']:,} stimuli of {shortened(said['categories'])}"
        put_heading(path, f"{said['model']} ({said['weights']}), {stimuli}", f"{number}  ")
    put(f"matched: {shortened(map(' = '.join, found.matched))}")
    for number, alone in enumerate(found.unmatched, 1):
        if alone:
            put(f"without a counterpart in {3 - number}: {shortened(alone)}")
    put(f"selective: {found.criterion}")
    warn(found)
    for table in localizers(found, every):
        print_titled(table)
    print()
    put("1 on 2: units that 1 selects on all its stimuli, measured on those of 2. 1 on 1: units of "
        "one fold, measured on the others. all on 2: all living units")  # fmt: skip
    put("chance: both, if each set selected as many units at random among living units, or within "
        "its feature maps; the middle 95 % of draws")  # fmt: skip
    put(f"95 %: over {found.resamples:,} draws of whole feature maps. Exploratory: not corrected "
        "for the number of layers and contrasts")  # fmt: skip
