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
    design: Design = Design(),
    resources: Resources = Resources(),
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
def record() -> None:
    """Not yet."""
