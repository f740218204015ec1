"""The command that measures lesions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusiform.engine.contrasts.lesion_request import LesionRequest
from fusiform.engine.spec import Design, Network, Resources, Stimuli

from .fields import Of, command
from .notes import put, put_heading, stopped_in_a_line
from .progress import listening
from .shared_options import (
    Contrasts,
    CriterionFields,
    Every,
    Preset,
    Quiet,
    Resamples,
    To,
    criterion_of,
    remark,
    tabled,
)
from .tables import PRINTED, print_titled, put_out

if TYPE_CHECKING:
    from fusiform.engine.lesions.result import LesionEffects


@command
@tabled
def lesion(
    network: Annotated[
        dict[str, Any],
        Of(
            ("model", "weights"),
            given=Network,
            panel="Network, by default as --from",
            optional=("model",),
        ),
    ],
    stimuli: Annotated[
        dict[str, Any],
        Of(given=Stimuli, panel="Stimuli, by default as --from", optional=("source",)),
    ],
    store: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STORE",
            help="The store of a scan: it selects the units, and its network is shown its stimuli.",
            rich_help_panel="Lesions",
        ),
    ],
    request: Annotated[
        dict[str, Any],
        Of(
            ("layers", "controls", "draws", "seed"),
            given=LesionRequest,
            panel="Lesions",
        ),
    ],
    criterion: CriterionFields,
    design: Annotated[dict[str, Any], Of(("batch_size",), given=Design, panel="Resources")],
    resources: Annotated[Resources, Of(("device", "memory_budget", "decode_workers"))],
    contrasts: Contrasts = None,
    preset: Preset = None,
    readout: Annotated[
        str | None,
        typer.Option(
            metavar="[classes|MODULE:FUNCTION]",
            help="What is measured: by default the probabilities of the network's classes. A "
            "function takes the network's output and the stimuli's categories, and returns numbers "
            "[stimulus] or [stimulus, quantity].",
            rich_help_panel="Lesions",
        ),
    ] = None,
    resamples: Resamples = 1000,
    every: Every = False,
    to: To = PRINTED,
    quiet: Quiet = False,
) -> None:
    """Silence selective units, and as many others, and measure what changes.

    Every stimulus is shown to the network intact and with each lesion, contrast by contrast. Units
    are selected on one fold of the scan and silenced for the stimuli of the other. MODEL and
    STIMULI are those of --from; for other stimuli name both.

    Example: fusiform lesion --from r50.zarr --contrast faces --layers layer4.2
    """
    from fusiform import measure_lesions, open_store
    from fusiform.engine.contrasts.controls import candidates
    from fusiform.engine.contrasts.language.contrast import parse_contrasts
    from fusiform.engine.recording.earlier_scan import (
        network_again,
        refuse_other_settings,
        stimuli_again,
    )

    source = open_store(store)
    chosen = criterion_of(criterion, preset)
    remark(chosen, [source], contrasts)
    asked = [LesionRequest(one.text, **request, criterion=chosen)
             for one in parse_contrasts(contrasts, source.categories)]  # fmt: skip
    # Options that equal a default count here, unlike in Python.
    refuse_other_settings(source, network)
    shown = Network(**network) if "model" in network else replace(network_again(source), **network)
    seen = Stimuli(**stimuli) if "source" in stimuli else replace(stimuli_again(source), **stimuli)
    if "source" not in stimuli:  # a contrast without units loses what others measured before it
        for following in asked[1:]:
            candidates(source, following, [*range(source.folds)] if source.folds > 1 else [None])
    with stopped_in_a_line("a lesion keeps nothing"), listening(quiet) as told:
        found = [
            measure_lesions(
                source,
                one,
                shown,
                seen,
                readout=readout,
                resamples=resamples,
                batch_size=design.get("batch_size"),
                resources=resources,
                progress=told,
            )
            for one in asked
        ]
    if not to.is_table:
        put_out((table for one in found for table in one.tables()), to)
        return
    for number, one in enumerate(found):
        print(end="\n" if number else "")
        _print_effects(one, every)


def _print_effects(found: LesionEffects, every: bool) -> None:
    """Changes by every lesion, and on which stimuli units were selected."""
    from fusiform.engine.lesions.tables import tables

    said = found.provenance
    put_heading(found.store, f"{said['model']} ({said['weights']})")
    put(f"silenced: units selective for {found.contrast}, and as many control units")
    put(f"selective: {found.criterion}")
    for table in tables(found, every):
        print_titled(table)
    print()
    drawn = any(row.draw_low is not None for row in found.effects)
    of = f". draws: smallest and largest of {found.draws} draws of units" if drawn else ""
    put(f"95 %: over {found.resamples:,} draws of stimuli. *: the interval excludes 0{of}")
    if found.contrast_row:
        put(f"{found.contrast_row}: the change of the target less that of the baseline")
    measured = {
        "other folds": "units selected on one fold were silenced for the stimuli of the others",
        "other stimuli": "units were selected on all stimuli of the scan, and silenced for others",
        "the same stimuli": "units were selected on the stimuli that measure the lesion: the scan "
        "had --folds 1",
    }
    put(measured[found.selected_on])
