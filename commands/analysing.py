"""Commands that analyse and report stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusiform.engine.errors import shortened
from fusiform.engine.texts import in_bytes

from .fields import command
from .notes import note, note_unless, put, put_heading
from .parsing import decimals, names, paths
from .shared_options import (
    Contrasts,
    CriterionFields,
    Distance,
    Every,
    LayerNames,
    OneStore,
    Positions,
    Preset,
    Quiet,
    Regions,
    Resamples,
    Seed,
    ShownStimuli,
    Stores,
    To,
    criterion_of,
    remark,
    tabled,
    within_budget,
)
from .tables import PRINTED, print_titled, put_out

if TYPE_CHECKING:
    from fusiform.engine.analyses.analyse import Analysis


@command
@tabled
@within_budget
def analyse(
    path: OneStore,
    criterion: CriterionFields,
    analyses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ANALYSIS...]",
            help="Some of shares, specificity, spread, localisation, strength, overlap, confusion, "
            "consistency; by default all but those that would take long.",
        ),
    ] = None,
    contrasts: Contrasts = None,
    preset: Preset = None,
    layers: LayerNames = None,
    resamples: Resamples = 1000,
    neighbours: Annotated[
        Literal["rook", "queen"],
        typer.Option(help="Neighbours on a map, for Moran's I: by an edge, or also by a corner."),
    ] = "rook",
    distance: Distance = "correlation",
    similarities: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="How consistency compares layers: spearman, kendall, cka, cka_unbiased; all by "
            "default. Repeatable.",
        ),
    ] = None,
    agreement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRESET,...",
            help="Whether the criteria of publications select the same units. Joined by commas; "
            "repeatable.",
        ),
    ] = None,
    seed: Seed = 0,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Describe the selective units of each layer.

    shares: with intervals over feature maps. specificity: CSI and d' on held-out stimuli. spread:
    over feature maps, against as many random units. localisation: over places, Moran's I.
    strength: responses on the layer's own scale. overlap: between contrasts. confusion: preferred
    category, fold against fold. consistency: dissimilarity of categories, layer by layer.
    docs/reference/definitions.md has formulas and references; --format csv also has maps,
    histograms and dissimilarities.

    Example: fusiform analyse r50.zarr shares overlap --preset floc
    """
    from fusiform import analyse, open_store
    from fusiform.engine.contrasts.language.presets import preset as published

    chosen = criterion_of(criterion, preset)
    others = [published(name) for name in names(agreement)]
    asked: dict[str, Any] = {"analyses": names(analyses) or None}
    if similarities:
        asked["similarities"] = names(similarities)
    store = open_store(path)
    for one in (chosen, *others):
        remark(one, [store], contrasts)
    found = analyse(
        store, chosen, names(layers, "*"), contrasts, **asked, resamples=resamples,
        seed=seed, neighbours=neighbours, distance=distance, agreement=others, note=note,
    )  # fmt: skip
    for line in found.left_out:
        note(line)
    if found.nameless:
        said = shortened(found.nameless)
        note(f"no names of all dimensions, and so no maps of {said}: scan with --dims")
    if to.is_table:
        _print_analysis(found, every)
        return
    put_out(found.tables(), to)


@command
@within_budget
def report(
    stores: Stores,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The HTML file to write.", rich_help_panel="Output"),
    ],
    criterion: CriterionFields,
    layers: LayerNames = None,
    contrasts: Contrasts = None,
    preset: Preset = None,
    at: Positions = None,
    roi: Regions = None,
    recording: Annotated[
        list[str] | None,
        typer.Option(
            help="A recording of one of these networks: the page shows the stimuli that drive its "
            "strongest units. Joined by commas; repeatable."
        ),
    ] = None,
    stimuli: ShownStimuli = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write every figure into this folder, and one composed for a paper, as SVG, "
            "PDF and PNG (needs matplotlib).",
            rich_help_panel="Output",
        ),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page about stores, side by side.

    The file needs nothing else. It shows what was scanned, the share of selective units by depth
    with intervals, their selectivity on held-out stimuli, their places, how categories and layers
    relate, how selectivity develops in training, two localizers on one network, and the method in
    words that a paper can quote. A category, a layer and a threshold can
    be chosen, values read by pointer or keyboard, and every figure saved as SVG or PNG, its numbers
    as CSV.

    Example: fusiform report trained.zarr untrained.zarr -o report.html
    """
    import fusiform

    fusiform.report(
        stores,
        output,
        criterion=criterion_of(criterion, preset),
        layers=names(layers, "*"),
        contrasts=contrasts,
        at=None if at is None else decimals(at),
        roi=roi,
        recordings=paths(recording),
        stimuli=stimuli,
        figures=figures,
        resamples=resamples,
        seed=seed,
        note=note_unless(quiet),
    )
    if not quiet:
        note(f"wrote {output} ({in_bytes(output.stat().st_size)})")


def _print_analysis(analysis: Analysis, every: bool) -> None:
    """The tables of a store's analyses, and what they could not say."""
    from fusiform.engine.analyses.tables import tables

    model, weights = analysis.provenance["model"], analysis.provenance["weights"]
    put_heading(analysis.store, f"{model} ({weights})")
    put(f"selective: {analysis.criterion}")
    for table in tables(analysis, every):
        print_titled(table)
    print()
    put(
        "95 %: over draws of whole feature maps. by chance: the same number of living units, drawn "
        "at random (95 % of draws)"
    )
    if any(row.exclusive for row in analysis.overlap):
        print()
        put("no overlap (-): no unit responds more to each of two categories than to the other")
        put("with the baseline pooled a unit can be selective for both: --test rest")
    if analysis.folds == 1:
        said = "no held-out stimuli: no specificity, strength or confusion"
        print()
        put(f"{analysis.store}: {said}: the scan had --folds 1")
