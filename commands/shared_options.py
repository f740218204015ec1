"""Options and arguments that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusiform.engine.contrasts.language.criterion import DEFAULT, Criterion
from fusiform.engine.contrasts.language.presets import PRESETS, preset, remarks

from .fields import Command, Of
from .notes import note

if TYPE_CHECKING:
    from fusiform.engine.querying.store import Store

_CRITERION, _OUTPUT = "Criterion", "Output"
NOTHING_KEPT = "nothing was committed yet: nothing is left"
MODEL_HELP = "NAME, torchvision:NAME, timm:NAME, clip:NAME, hf:NAME, or package.module:factory."

Stores = Annotated[list[str], typer.Argument(metavar="STORE", help="Stores that scan wrote.")]
OneStore = Annotated[str, typer.Argument(metavar="STORE", help="A store that scan wrote.")]
StoreOrRecording = Annotated[str, typer.Argument(metavar="STORE", help="A store or recording.")]
Contrasts = Annotated[
    list[str] | None,
    typer.Option(
        "--contrast",
        metavar="CONTRAST,...",
        help="'faces' (against all others), 'faces + bodies > scenes', 'faces - (bodies + "
        "scenes)/2'. Names with other characters stand in quotes. Joined by commas; repeatable. By "
        "default every category.",
    ),
]
LayerNames = Annotated[
    list[str] | None,
    typer.Option("--layers", help="Only these: names or globs, joined by commas; repeatable."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:1; by default a GPU if there is one.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn at random.")]
Resamples = Annotated[int, typer.Option(help="Draws for intervals, chance and permutations.")]
Distance = Annotated[
    Literal["correlation", "euclidean"], typer.Option(help="Distance between two patterns.")
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        help="The store to create: NAME.zarr, or an s3:// URL.",
        rich_help_panel=_OUTPUT,
    ),
]
OutputOrNone = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", help="The store that scan will create.", rich_help_panel=_OUTPUT
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an earlier one.", rich_help_panel=_OUTPUT),
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Discard the progress of an unfinished run.",
        rich_help_panel=_OUTPUT,
    ),
]
GoBack = Annotated[
    bool,
    typer.Option(
        "--go-back",
        help="Resume from the commit before the last, where the last is damaged.",
        rich_help_panel=_OUTPUT,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=_OUTPUT),
]
Every = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Every row of a long table, not only the leading contrasts and layers at even steps.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No notes, no progress.", rich_help_panel=_OUTPUT),
]
MemoryBudget = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory to use at most, as 2GiB. Answers are computed in blocks of some MiB; a "
        "smaller budget takes smaller ones.",
    ),
]

# A criterion: what is not given is the preset's, or the default's.
CriterionFields = Annotated[dict[str, Any], Of(given=Criterion, defaults=True)]
Preset = Annotated[
    str | None,
    typer.Option(
        help=f"The criterion of a publication: {', '.join(PRESETS.own)} (see docs/definitions.md; "
        "margalit2024 used no scrambled pictures).",
        rich_help_panel=_CRITERION,
    ),
]


def within_budget(function: Command) -> Command:
    """A command that takes ``--memory-budget``, and answers within it."""

    @wraps(function)
    def run(memory_budget: str | None = None, **given: Any) -> None:
        from fusiform.engine.blocks import memory_budget as within
        from fusiform.engine.blocks import require_slab

        with within(memory_budget):
            require_slab()
            function(**given)

    signature = inspect.signature(function)
    budget = inspect.Parameter(
        "memory_budget", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MemoryBudget
    )
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), budget]
    )
    run.__annotations__ = {**function.__annotations__, "memory_budget": MemoryBudget}
    return run


def criterion_of(given: dict[str, Any], published: str | None) -> Criterion:
    """The preset, or the default, with the options that were given."""
    return replace(preset(published) if published else DEFAULT, **given)


def remark(
    criterion: Criterion, stores: Sequence[Store], contrasts: Sequence[str] | None = None
) -> None:
    """Note the steps of a preset's authors that its criterion does not include."""
    said = (one for store in stores for one in remarks(criterion, store.categories, contrasts))
    for line in dict.fromkeys(said):
        note(line)
