"""Groups: the categories of a stimulus set, each of one or several of its folders.

They are given as a mapping, in words (``faces=adult,child``), as the name of a published localizer,
or as a TOML file with a table ``[groups]``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, nearest, shortened
from .texts import composed
from .values import FrozenMapping, listed

Given = str | Path | Mapping[str, str | Sequence[str]]
Folders = Mapping[str, Sequence[str]]
_Read = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Localizer:
    """A published stimulus set whose folders are joined into domains; ``control`` is in none."""

    title: str
    folders: Mapping[str, tuple[str, ...]]
    control: str

    def is_in(self, categories: Collection[str]) -> bool:
        """Whether all its folders are among some categories."""
        known = set(map(composed, categories))
        return all(known.issuperset(own) for own in self.folders.values())


LOCALIZERS: dict[str, Localizer] = {
    # Domains and folders: Stigliani, Weiner & Grill-Spector 2015, J. Neurosci. 35(36), and the
    # authors' repository VPNL/fLoc.
    "floc": Localizer(
        "fLoc (Stigliani et al. 2015)",
        {
            "faces": ("adult", "child"),
            "bodies": ("body", "limb"),
            "characters": ("word", "number"),
            "objects": ("car", "instrument"),
            "places": ("house", "corridor"),
        },
        "scrambled",
    ),
}

# The name of groups without one, beside those of a definition.
_OWN = "own"


class Groups(FrozenMapping[str, tuple[str, ...]]):
    """Category -> its folders. ``name`` is that of the definition, empty for none."""

    def __init__(self, folders: Folders, name: str = "") -> None:
        super().__init__({category: tuple(own) for category, own in folders.items()})
        self.name = name

    def __str__(self) -> str:
        joined = [f"{category} = {' + '.join(own)}" for category, own in self.items()]
        return f"{self.name and f'{self.name}: '}{shortened(joined)}"

    def as_record(self) -> dict[str, Any]:
        """The groups in plain types, as a store keeps them."""
        return {"name": self.name, "folders": {name: list(own) for name, own in self.items()}}

    @classmethod
    def from_record(cls, record: Any) -> Groups | None:
        """The groups that a store keeps; None if there are none, or they are none of fusiform's."""
        known = (
            isinstance(record, dict)
            and isinstance(record.get("name"), str)
            and isinstance(record.get("folders"), dict)
            and all(isinstance(own, list) and all(isinstance(one, str) for one in own)
                    for own in record["folders"].values())
        )  # fmt: skip
        return cls(record["folders"], record["name"]) if known else None

    @classmethod
    def of(cls, given: Given | Sequence[Given]) -> Groups:
        """Groups given in one of the ways that the module describes, or in several.

        Raises
        ------
        UserError : they are given in another way; a file that cannot be read or has no table
            ``[groups]``; a category that is given twice
        """
        if isinstance(given, Groups):
            return given
        names, found = [], _Read()
        for name, folders in _parts([given] if isinstance(given, Mapping) else listed(given)):
            for category, own in folders.items():
                if category in found:
                    raise UserError(
                        f"a category is given once in `groups`; {category} has two: join them"
                    )
                found[category] = own
            names.append(name)
        named = any(names)
        return cls(found, ", ".join(name or _OWN for name in dict.fromkeys(names)) if named else "")


def remarks(given: Given | Sequence[Given] | None, categories: Collection[str]) -> list[str]:
    """Which folders a definition joins; without groups, the localizer that a set looks like."""
    if given is not None:
        groups = Groups.of(given)
        controls = [own.control for name, own in LOCALIZERS.items()
                    if name in groups.name.split(", ")]  # fmt: skip
        rest = [one for one in controls if not any(one in own for own in groups.values())]
        left = f"; {', '.join(rest)}, the control, is left out" if rest else ""
        return [f"groups of {groups}{left}"] if groups.name else []
    return [
        f'these are the folders of {one.title}: `groups="{name}"` joins them into '
        f"{len(one.folders)} domains"
        for name, one in LOCALIZERS.items()
        if one.is_in(categories)
    ]


def _parts(given: Sequence[Any]) -> Iterator[tuple[str, _Read]]:
    """The name and the folders of every definition."""
    for one in given:
        if isinstance(one, Groups):
            yield one.name, dict(one)
        elif isinstance(one, Mapping):
            yield "", _checked(one)
        elif isinstance(one, str) and "=" in one:
            yield "", _in_words(one)
        elif isinstance(one, str | Path):
            for name in map(str.strip, str(one).split(",") if isinstance(one, str) else [str(one)]):
                yield (name, dict(LOCALIZERS[name].folders)) if name in LOCALIZERS else _file(name)
        else:
            raise _refused(one)


def _in_words(text: str) -> _Read:
    """``CATEGORY=FOLDER,...``; a folder with a comma in its name stands in quotes."""
    category, _, folders = text.partition("=")
    named = re.findall(r'\s*"([^"]+)"\s*(?:,|$)|([^,]+)', folders)
    found = tuple(folder for one in named if (folder := (one[0] or one[1]).strip()))
    if not category.strip() or not found:
        raise _refused(text)
    return {category.strip(): found}


def _file(name: str) -> tuple[str, _Read]:
    """The name of a TOML file, and the folders in it."""
    import tomllib

    path = Path(name)
    if path.suffix.lower() != ".toml":
        raise _refused(name, nearest(name, LOCALIZERS))
    if not os.path.isfile(path):  # noqa: PTH113 - raises nothing
        raise UserError(f"groups are read from a file; {path} is none: name another")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"groups are read from TOML; {path} cannot be read ({reason}): correct it"
        ) from None
    table = found.get("groups")
    if not isinstance(table, dict):
        raise UserError(
            f"a file of groups has a table [groups]; {path} has {shortened(found) or 'nothing'}: "
            'write CATEGORY = ["FOLDER", "FOLDER"] below [groups]'
        )
    return path.name, _checked(table)


def _checked(given: Mapping[Any, Any]) -> _Read:
    """A mapping of category to folders, if it is one."""
    found = {category: listed(own) for category, own in given.items()}
    names = (name for category, own in found.items() for name in (category, *own))
    if not all(isinstance(name, str | Path) for name in names):
        raise _refused(given)
    return {str(category): tuple(map(str, own)) for category, own in found.items()}


def _refused(given: object, remedy: str = "name categories and their folders") -> UserError:
    came = " ".join(repr(given).split())[:120]
    return UserError(
        "groups are CATEGORY=FOLDER,..., a dict of folders, a .toml file, or a localizer "
        f"({', '.join(LOCALIZERS)}); got {came}: {remedy}"
    )
