"""Options come from the fields of the engine's values; help is complete, grouped and short."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.commands.comparing import LocalizerOptions, NetworkOptions, RegionOptions
from fusiform.commands.fields import FORMS, VALUES, documented
from fusiform.commands.notes import flagged
from fusiform.commands.tables import Destination
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.lesion_request import LesionRequest
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.recording.unit_request import UnitRequest
from fusiform.engine.spec import Design, Network, Resources, Stimuli

from .fuzz.options import LINES, options

NOUNS = (
    Network, Preprocessing, Stimuli, Design, Resources, UnitRequest, LesionRequest,
    Criterion, Destination, NetworkOptions, RegionOptions, LocalizerOptions,
)  # fmt: skip
ENGINE = sorted((Path(__file__).parents[1] / "engine").rglob("*.py"))
_FLAG = re.compile(r"(?<![\w-])--[a-z]")


def shown(command: str, width: int = 80) -> str:
    found = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=width)
    assert found.exit_code == 0
    return found.output


@pytest.mark.parametrize("noun", NOUNS)
def test_every_field_is_documented(noun: type) -> None:
    assert documented(noun).keys() == {one.name for one in fields(noun)}
    assert all(documented(noun).values())


def test_forms_belong_to_fields_of_one_type() -> None:
    types: dict[str, set[str]] = {}
    for noun in NOUNS:
        for one in fields(noun):
            if "python_only" in one.metadata:
                continue
            types.setdefault(one.name, set()).add(str(get_type_hints(noun)[one.name]))
    assert {*FORMS, *VALUES} <= types.keys()
    # A form is found by the name alone, and so is a flag's meaning.
    assert not {name: own for name, own in types.items() if name in FORMS and len(own) > 1}


@pytest.mark.parametrize("command", LINES)
def test_help_has_an_example_and_fits_on_a_page(command: str) -> None:
    text = shown(command, 100)
    assert f"Example: fusiform {command}" in text
    assert len(text.splitlines()) < 90
    assert max(map(len, text.splitlines())) <= 100
    assert "``" not in text


def test_every_option_says_what_it_does() -> None:
    assert all(said.strip() for _, _, _, said in options())


def test_options_stand_below_their_value() -> None:
    text = shown("scan")
    headings = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert headings == ["Arguments", "Network", "Preprocessing", "Stimuli", "Design", "Resources",
                        "Output"]  # fmt: skip
    design = text.partition("\nDesign:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  --([a-z-]+)", design, re.MULTILINE) == [
        one.name.replace("_", "-") for one in fields(Design)
    ]


def test_scan_and_plan_take_the_same_values() -> None:
    taken = {name: {flag for command, flag, *_ in options() if command == name}
             for name in ("scan", "plan")}  # fmt: skip
    assert taken["plan"] - taken["scan"] == {"json", "wide"}
    assert taken["scan"] <= taken["plan"]
    python = [list(signature(one).parameters) for one in (fusiform.scan, fusiform.plan)]
    assert python[0] == python[1]


# Parameters as flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leave out `decoder`", "leave out --decoder"),
        ("`batch_size=8` fits", "--batch-size 8 fits"),
        ("or `on_error='skip'`", "or --on-error skip"),
        ("choose another, or `overwrite=True`", "choose another, or --overwrite"),
        ("`groups` x names 'blob'", "--groups x names 'blob'"),
        ("name it by `store`", "name it by --from"),
        ("`nothing` and `x=1`, layers=3", "`nothing` and `x=1`, layers=3"),
    ],
)
def test_parameters_become_flags(text: str, expected: str) -> None:
    assert flagged(text) == expected


def test_the_engine_names_parameters_and_no_flags() -> None:
    # What other programs are given, by name.
    allowed = ("pip install", "tar --")
    for path in ENGINE:
        if path.name == "images.py" and path.parent.name == "bench":  # runs the command line
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                is_flag = _FLAG.search(text) and not any(one in text for one in allowed)
                assert not is_flag, f"{path}:{node.lineno}: {text}"


# Completion


def test_the_shell_can_complete_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        asked = {"_FUSIFORM_COMPLETE": "complete_bash", "COMP_WORDS": words,
                 "COMP_CWORD": str(len(words.split(" ")) - 1)}  # fmt: skip
        code = "import sys; sys.argv = ['fusiform']; from fusiform.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, env={**os.environ, **asked}, check=False,
        )  # fmt: skip
        return done.stdout.split()

    assert completed("fusiform sc") == ["scan"]
    assert completed("fusiform scan --batch") == ["--batch-size"]
    assert completed("fusiform scan --on-error s") == ["stop", "skip"]
