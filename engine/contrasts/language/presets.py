"""Criteria of publications; docs/reference/definitions.md describes them and their differences."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UserError, nearest, shortened
from ...plugins import Plugins
from .contrast import parse_contrasts
from .criterion import Criterion

PRINCE2024 = Criterion("student", "q <= 0.05 and t > 0", sides=2, correction="by", pairwise=True)
MARGALIT2024 = Criterion("rest", "t >= 10")
FLOC = Criterion("glm", "t > 3")
ALKHAMISSI2025 = Criterion("rest", "top 1% of model")
PRESETS = Plugins(
    "fusiform.presets",
    {
        "prince2024": f"{__name__}:PRINCE2024",
        "margalit2024": f"{__name__}:MARGALIT2024",
        "floc": f"{__name__}:FLOC",
        "alkhamissi2025": f"{__name__}:ALKHAMISSI2025",
    },
)


def preset(name: str) -> Criterion:
    """The criterion of a publication.

    Raises
    ------
    UserError : the preset is unknown, or a plug-in that fails or is no criterion
    """
    found = PRESETS.load(name)
    if found is None:
        known = nearest(name, PRESETS.names())
        raise UserError(f"a preset names a publication; got {name!r}: {known}")
    if not isinstance(found, Criterion):
        raise UserError(
            f"a plug-in of {PRESETS.group} is a fusiform.Criterion; {name!r} is a "
            f"{type(found).__name__}: see docs/how-to/plugins.md"
        )
    return found


def remarks(
    criterion: Criterion, categories: Sequence[str], contrasts: str | Sequence[str] | None = None
) -> list[str]:
    """Notes on steps of a preset's authors that the criterion does not include."""
    if criterion == ALKHAMISSI2025:
        return [
            "alkhamissi2025: the authors compared absolute activations; these have signs: where "
            "they can be negative, scan with a function of your own as `units`"
        ]
    if criterion != MARGALIT2024:
        return []
    sides = [(*one.target, *one.baseline) for one in parse_contrasts(contrasts, categories)]
    used = [categories[k] for k in sorted({k for side in sides for k in side})]
    scrambled = [name for name in used if "scrambl" in name.casefold()]
    if not scrambled:
        return []
    return [
        "margalit2024: the authors left scrambled images out; this store has "
        f"{shortened(scrambled)}: name contrasts without them, or scan without them (`groups`)"
    ]
