"""Commands that run a network over stimuli: scan, record."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fusiform.engine.recording.unit_request import UnitRequest
from fusiform.engine.spec import Design, Network, Resources, Stimuli

from .fields import Of, command
from .notes import stopped_in_a_line
from .options import (
    NOTHING_KEPT,
    CriterionFields,
    GoBack,
    Output,
    Overwrite,
    Preset,
    Quiet,
    Restart,
    criterion_of,
)
from .progress import listener


@command
def scan(
    network: Network,
    stimuli: Stimuli,
    output: Output,
    design: Design,
    resources: Resources,
    overwrite: Overwrite = False,
    restart: Restart = False,
    go_back: GoBack = False,
    quiet: Quiet = False,
) -> None:
    """Show a network every stimulus once and write a store.

    The store holds moments, t, q, CSI and masks. A scan that was stopped, by Ctrl-C, a kill or a
    full disk, resumes with the same command. Options of Preprocessing override single values of
    the model's own.

    Example: fusiform scan resnet50 stimuli/ -o r50.zarr
    """
    from fusiform import scan

    told = listener(quiet)
    with stopped_in_a_line(NOTHING_KEPT):
        scan(
            network,
            stimuli,
            output,
            design=design,
            resources=resources,
            overwrite=overwrite,
            restart=restart,
            go_back=go_back,
            listener=told,
        )
    told.note(f"wrote {output}; next: fusiform summary {output}")


@command
def record(
    network: Annotated[dict[str, Any], Of(given=Network, panel="Network, by default as --from")],
    stimuli: Stimuli,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="The recording to create: NAME.responses.zarr.",
            rich_help_panel="Output",
        ),
    ],
    request: Annotated[
        dict[str, Any],
        Of(("select", "top", "by", "random", "project"), given=UnitRequest, panel="Units"),
    ],
    criterion: CriterionFields,
    design: Annotated[
        dict[str, Any],
        Of(
            ("layers", "units", "folds", "batch_size"),
            given=Design,
            panel="Design, by default as --from",
        ),
    ],
    resources: Annotated[
        Resources, Of(("device", "memory_budget", "decode_workers", "commit_every"))
    ],
    store: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STORE",
            help="A store of the same network: stimuli are shown as in its scan, and its units can "
            "be chosen by selectivity.",
            rich_help_panel="Units",
        ),
    ] = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
    go_back: GoBack = False,
    quiet: Quiet = False,
) -> None:
    """Record the responses of chosen units to every stimulus.

    The second pass. Units are those that a store's criterion selects, the top of a measure, a
    random sample, or, by default, all of --layers; a unit chosen twice is recorded once. A
    recording that was stopped resumes with the same command. fusiform responses asks it.

    Example: fusiform record resnet50 stimuli/ --from r50.zarr --select faces -o r50.responses.zarr
    """
    from fusiform import record

    select = request.get("select")
    units = UnitRequest(
        **request | {"select": "*" if select == ["*"] else select},
        criterion=criterion_of(criterion, preset),
    )
    told = listener(quiet)
    with stopped_in_a_line(NOTHING_KEPT):
        record(
            Network(**network),
            stimuli,
            output,
            store=store,
            units=units,
            design=Design(**design),
            resources=resources,
            overwrite=overwrite,
            restart=restart,
            go_back=go_back,
            listener=told,
        )
    told.note(f"wrote {output}; next: fusiform responses {output}")
