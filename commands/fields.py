"""Commands that take the engine's values: every field of a value becomes an option.

The name, type, default and help of an option are those of the field; ``FORMS`` holds the
exceptions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer
from typer.models import OptionInfo

from fusiform.engine.contrasts.language.criterion import COMPARED
from fusiform.engine.layer import UNITS
from fusiform.engine.preprocessing import DECODERS, Preprocessing
from fusiform.engine.registry import STORE_DTYPES
from fusiform.engine.spec import ON_ERROR, ON_NONDETERMINISM, PRECISIONS
from fusiform.engine.stimulus_groups import LOCALIZERS
from fusiform.engine.values import Format

from . import parsing
from .notes import FLAGS

Command = Callable[..., None]


@dataclass(frozen=True)
class Of:
    """How a command takes a value: ``Annotated[Network, Of(("model", "crop"))]``.

    Parameters
    ----------
    only : the fields that become options; all where empty
    given : the dataclass; the command then gets a dict of the fields that were given
    panel : the heading in the help; by default the name of the dataclass
    defaults : show the defaults of the dataclass, although they are not passed
    optional : fields without a default that may be left out where the command gets a dict
    """

    only: tuple[str, ...] = ()
    given: type | None = None
    panel: str = ""
    defaults: bool = False
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """A field on the command line, where it differs from the dataclass."""

    kind: Any = None
    flag: str = ""
    metavar: str | None = None
    parse: Callable[[Any], Any] | None = None
    argument: bool = False
    also: str = ""


# Fields that hold a value whose own fields are options.
VALUES: dict[str, type] = {"preprocessing": Preprocessing}
_THREE = tuple[float, float, float]
_REPEATABLE = " The option is repeatable."
_JOINED = " Joined by commas; repeatable."
_GROUPS = f" Also a localizer ({', '.join(LOCALIZERS)}), or a .toml file."
FORMS: dict[str, Form] = {
    "model": Form(str, metavar="MODEL", argument=True),
    "source": Form(Path, metavar="STIMULI", argument=True),
    "groups": Form(list[str], metavar="CATEGORY=FOLDER,...", also=_GROUPS + _REPEATABLE),
    "root": Form(Path, metavar="PATH"),
    "commit_every": Form(metavar="SECONDS"),
    "on_error": Form(Literal[*ON_ERROR]),
    "on_nondeterminism": Form(Literal[*ON_NONDETERMINISM]),
    "precision": Form(Literal[*PRECISIONS]),
    "layers": Form(list[str], metavar="NAME,...", parse=parsing.names, also=_JOINED),
    "units": Form(metavar=f"[{'|'.join(UNITS)}|MODULE:FUNCTION]"),
    "coordinates": Form(Path, metavar="TABLE"),
    "dims": Form(list[str], "", "LAYER=DIM,DIM,...", parsing.dims, also=_REPEATABLE),
    "store_dtype": Form(Literal[*STORE_DTYPES]),
    "memory_budget": Form(str, metavar="SIZE"),
    "scheduler": Form(str, metavar="ADDRESS"),
    "decoder": Form(Literal[*DECODERS]),
    "mean": Form(_THREE),
    "std": Form(_THREE),
    "sides": Form(int),
    "where": Form(metavar="RULE", also=f" Measures: {', '.join(COMPARED)}."),
    "form": Form(
        flag="--format",
        metavar=f"[{'|'.join(get_args(Format))}]",
        also=" parquet and npz need --output.",
    ),
    "output": Form(Path, "--output -o", "FILE"),
    "guard_formulas": Form(
        also=" They begin with =, +, -, @, a tab or a carriage return. For stores from strangers."
    ),
    "controls": Form(list[str], metavar="NAME,...", parse=parsing.names, also=_JOINED),
    "select": Form(list[str], metavar="CONTRAST,...", also=_JOINED),
    "pairing": Form(metavar="<name|depth>"),
    "against": Form(metavar="<first|previous>"),
    "at": Form(list[str], metavar="NUMBER,...", parse=parsing.decimals, also=_JOINED),
    "categories": Form(list[str], metavar="NAME[=NAME],..."),
    "roi": Form(metavar="TABLE.csv"),
}
_SAME = Form()
_METAVARS: dict[Any, str | None] = {
    bool: None, int: "N", float: "X", str: "NAME", Path: "PATH", list[str]: "NAME,...",
    _THREE: "R G B",
}  # fmt: skip
_METAVARS |= {kind | None: metavar for kind, metavar in _METAVARS.items()}


def command(function: Command) -> Command:
    """``function`` with a parameter for every field of the values it takes, as typer reads it."""
    hints = get_type_hints(function, include_extras=True)
    values: dict[str, _Value] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        value = _Value.behind(hints[name], parameter.default)
        if value is None:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=_shown(hints[name]), kind=kind))
        else:
            values[name] = value
            parameters += value.parameters()

    @wraps(function)
    def run(**given: Any) -> None:
        taken = {name: value.taken_from(given) for name, value in values.items()}
        function(**given, **taken)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    FLAGS.update(filter(None, map(_flag_of, parameters)))
    return run


@dataclass(frozen=True)
class _Value:
    """A value that a command takes, and the instance that holds its defaults."""

    noun: type
    of: Of
    default: Any

    @classmethod
    def behind(cls, hint: Any, default: Any) -> _Value | None:
        """The value of a parameter; None for a parameter that is an option itself."""
        found = [one for one in get_args(hint) if isinstance(one, Of)]
        if found:
            return cls(found[0].given or get_args(hint)[0], found[0], default)
        is_noun = isinstance(hint, type) and is_dataclass(hint)
        return cls(hint, Of(), default) if is_noun else None

    def fields(self) -> list[Field[Any]]:
        """The fields that are options."""
        only = self.of.only
        return [
            one
            for one in fields(self.noun)
            if (not only or one.name in only or self._in(one))
            and one.metadata.get("python_only") is None
        ]

    def taken_from(self, given: dict[str, Any]) -> Any:
        """Take the fields out of ``given`` and return the value, or a dict of those not None."""
        taken = {}
        for one in self.fields():
            if inner := self._in(one):
                taken[one.name] = inner.taken_from(given) or None
                continue
            value, parse = given.pop(one.name), FORMS.get(one.name, _SAME).parse
            taken[one.name] = parse(value) if parse and value is not None else value
        if self.of.given:
            return {name: value for name, value in taken.items() if value is not None}
        return self.noun(**taken)

    def parameters(self) -> Iterator[inspect.Parameter]:
        """The parameter of every field."""
        said, hints = documented(self.noun), get_type_hints(self.noun)
        for one in self.fields():
            if inner := self._in(one):
                yield from inner.parameters()
                continue
            form, default = FORMS.get(one.name, _SAME), self._default(one)
            kind = form.kind or hints[one.name]
            if kind == list[str] and isinstance(default, str | tuple):
                default = [default] if isinstance(default, str) else list(default)
            declare = partial(
                typer.Argument if form.argument else typer.Option,
                help=said.get(one.name, "") + form.also + self._unpassed(one),
                metavar=form.metavar or _METAVARS.get(kind, "NAME"),
                rich_help_panel=self.of.panel or self.noun.__name__,
            )
            yield inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[
                    kind if default is not None else kind | None,
                    declare()
                    if form.argument
                    else declare(*(form.flag or _plain_flag(one.name)).split()),
                ],
            )

    def _in(self, one: Field[Any]) -> _Value | None:
        """The value in a field whose own fields are options: a network's preprocessing."""
        inner = VALUES.get(one.name)
        if inner is None:
            return None
        value = _Value(inner, Of(self.of.only, given=inner, panel=self.of.panel), None)
        return value if value.fields() else None

    def _unpassed(self, one: Field[Any]) -> str:
        """The default of a field, in words, which the command fills in by itself."""
        return f"  [default: {one.default}]" if self.of.defaults and one.default else ""

    def _default(self, one: Field[Any]) -> Any:
        if self.of.given and (one.default is not MISSING or one.name in self.of.optional):
            return None
        if is_dataclass(self.default):
            return getattr(self.default, one.name)
        return inspect.Parameter.empty if one.default is MISSING else one.default


@cache
def documented(noun: type) -> dict[str, str]:
    """First sentences on the fields, from the section Parameters of a dataclass's docstring."""
    _, _, section = (inspect.getdoc(noun) or "").partition("\nParameters\n----------\n")
    text = section.partition("\n\n")[0]
    entries = re.findall(r"^(\w+)(?: : .*)?\n((?: .*\n?)+)", text, re.MULTILINE)
    return {name: _first_sentence(" ".join(said.split())) for name, said in entries}


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) (?=[A-Z`])", text)[0].replace("``", "")


def _with(option: OptionInfo, metavar: str | None) -> OptionInfo:
    option = copy(option)
    option.metavar = metavar
    return option


def _shown(hint: Any) -> Any:
    """An option's annotation, with a short name for its value."""
    kind, *declared = get_args(hint)
    if declared and isinstance(declared[0], OptionInfo) and declared[0].metavar is None:
        metavar = _METAVARS.get(kind)
        return Annotated[kind, _with(declared[0], metavar)]
    return hint


def _plain_flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _flag_of(parameter: inspect.Parameter) -> tuple[str, str] | None:
    """A parameter and its flag; None for an argument."""
    for one in get_args(parameter.annotation):
        if isinstance(one, OptionInfo):
            declared = [one.default, *(one.param_decls or ())]
            flags = [flag for flag in declared if isinstance(flag, str)]
            return parameter.name, (flags or [_plain_flag(parameter.name)])[0]
    return None
