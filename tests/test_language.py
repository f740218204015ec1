"""The languages of contrasts and rules: parsing, and carets at syntax errors."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiform.engine.contrasts.language.contrast import (
    every_category,
    pairs,
    parse_contrast,
    parse_contrasts,
)
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.language.grammar import quoted
from fusiform.engine.contrasts.language.presets import ALKHAMISSI2025, MARGALIT2024, remarks
from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import make_plan

CATEGORIES = ("faces", "bodies", "scenes", "top-hat", "été", "2nd")


def sides(text: str) -> tuple[list[str], list[str]]:
    contrast = parse_contrast(text, CATEGORIES)
    assert not contrast.weighted
    names = [[CATEGORIES[k] for k in side] for side in (contrast.target, contrast.baseline)]
    return names[0], names[1]


@pytest.mark.parametrize(
    ("text", "target", "baseline"),
    [
        ("faces", ["faces"], ["bodies", "scenes", "top-hat", "été", "2nd"]),
        (" faces  ", ["faces"], ["bodies", "scenes", "top-hat", "été", "2nd"]),
        ("été + faces", ["faces", "été"], ["bodies", "scenes", "top-hat", "2nd"]),
        ("faces > scenes", ["faces"], ["scenes"]),
        ("faces>scenes+bodies", ["faces"], ["bodies", "scenes"]),
        ("(faces + bodies) > (scenes)", ["faces", "bodies"], ["scenes"]),
        ("'top-hat' > \"2nd\" + été", ["top-hat"], ["été", "2nd"]),
    ],
)
def test_contrasts_are_parsed_into_target_and_baseline(
    text: str, target: list[str], baseline: list[str]
) -> None:
    assert sides(text) == (target, baseline)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ("faces, scenes", ["faces", "scenes"]),
        (["faces,été > 2nd", "scenes"], ["faces", "été > 2nd", "scenes"]),
        ("faces > 'top-hat','top-hat'", ["faces > 'top-hat'", "'top-hat'"]),
        ("a, b", ["a, b"]),  # the name of a category
        ("'a, b', faces > \"a, b\"", ["'a, b'", 'faces > "a, b"']),
        ("faces, a, b", None),
        ("faces,", None),
        (",", None),
        ("'a, b", None),
        ("'" * 3000 + ",faces", None),
    ],
)
def test_commas_separate_contrasts(texts: Any, names: list[str] | None) -> None:
    categories = (*CATEGORIES, "a, b")
    if names is None:
        with pytest.raises(UserError):
            parse_contrasts(texts, categories)
        return
    found = parse_contrasts(texts, categories)
    assert [one.text for one in found] == names
    assert parse_contrasts([one.text for one in found], categories) == found


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("faces - scenes", {"faces": 1, "scenes": -1}),
        ("faces - (bodies + scenes)/2", {"faces": 1, "bodies": "-1/2", "scenes": "-1/2"}),
        ("-scenes + faces", {"faces": 1, "scenes": -1}),
        ("2*faces - scenes - bodies", {"faces": 2, "scenes": -1, "bodies": -1}),
        ("faces*2 - (scenes + bodies)", {"faces": 2, "scenes": -1, "bodies": -1}),
        ("0.5*(faces + bodies) - scenes", {"faces": "1/2", "bodies": "1/2", "scenes": -1}),
        ("faces/3 - scenes*(1/3) + bodies - bodies", {"faces": "1/3", "scenes": "-1/3"}),
    ],
)
def test_weighted_sums_are_parsed(text: str, weights: dict[str, int | str]) -> None:
    contrast = parse_contrast(text, CATEGORIES)
    assert contrast.weighted
    found = zip((*contrast.target, *contrast.baseline), contrast.weights, strict=True)
    assert {CATEGORIES[k]: weight for k, weight in found} == {
        name: Fraction(weight) for name, weight in weights.items()
    }
    assert all(weight > 0 for weight in contrast.weights[: len(contrast.target)])
    with pytest.raises(UserError, match="has no pairs"):
        pairs(contrast)


@pytest.mark.parametrize(
    ("text", "column", "fragment"),
    [
        ("face > bodies", 0, "did you mean faces"),
        ("faces > bodys", 8, "did you mean bodies"),
        ("faces >", 7, "continues with a category"),
        ("> faces", 0, "continues with a category"),
        ("faces > bodies > scenes", 15, "should end"),
        ("faces bodies", 6, "should end"),
        ("faces > (bodies + scenes", 24, "needs ')'"),
        ("faces & bodies", 6, "invalid syntax"),
        ("'faces > bodies", 0, "quote is not closed"),
        ("faces > faces + scenes", 6, "faces is on both"),
        ("2*faces > scenes", 8, "without weights"),
        ("faces > scenes - bodies", 6, "without weights"),
        ("faces * bodies", 6, "not a product"),
        ("faces / bodies", 6, "divided by numbers"),
        ("faces / 0", 6, "other than 0"),
        ("top-hat > faces", 0, 'did you mean "top-hat"'),
        ("faces\n> x", 8, "known"),
        ("(" * 51 + "faces" + ")" * 51, 50, "50 deep"),
        ("1e9999*faces - scenes", 0, "invalid syntax"),
        ("1" * 50 + "*faces - scenes", 0, "invalid syntax"),
        ("1.2.3*faces - scenes", 0, "invalid syntax"),
    ],
)
def test_a_contrast_syntax_error_points_at_its_place(text: str, column: int, fragment: str) -> None:
    with pytest.raises(UserError, match=r"got") as refused:
        parse_contrast(text, CATEGORIES)
    message, shown, caret = str(refused.value).split("\n")
    assert fragment in message
    assert shown == "  " + text.replace("\n", "?")
    assert caret == "  " + " " * column + "^"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("faces - bodies/2", "sum to 0; those of 'faces - bodies/2' sum to 1/2"),
        ("faces - 1", "sum to 0"),
        ("2*faces", "sum to 0"),
        ("faces - faces", "sum to 0"),
        ("3", "sum to 0"),
        ("", "got nothing"),
        ("faces + bodies + scenes + 'top-hat' + été + '2nd'", "leaves none"),
    ],
)
def test_contrasts_that_compare_nothing_raise(text: str, fragment: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_contrast(text, CATEGORIES)
    assert fragment in str(refused.value)


ANY = (
    "1",
    "2",
    "10",
    "01",
    "2d",
    "1.2.3",
    "1e9999",
    "-5",
    "1" * 50,
    "\u091a\u0947\u0939\u0930\u093e",
    "\u0e2b\u0e19\u0e49\u0e32",
    "\u0645\u06cc\u200c\u062e",
    "e\u0301t\u00e9",
    'it\'s "x"',
    "a: b",
    "top-hat",
    "\U0001f642",
    "two words",
    "a > b",
    " padded ",
    "x+y",
    "(",
    "\u0967",
    ".hidden",
)


@pytest.mark.parametrize("name", ANY)
def test_displayed_contrasts_parse_back(name: str) -> None:
    place = ANY.index(name)
    every = every_category(ANY)
    found = parse_contrast(every[place].text, ANY)
    assert found.is_same_as(every[place])
    assert parse_contrast(f" {name} ", ANY).target == (place,)
    assert found.text == name.strip()
    others = f"{quoted(name)} > {quoted('two words')}"
    if name != "two words":
        assert parse_contrast(others, ANY).target == (place,)
        again = parse_contrast(parse_contrast(others, ANY).text, ANY)
        assert again.baseline == (ANY.index("two words"),)


@pytest.mark.parametrize(
    ("text", "target", "baseline"),
    [
        ("1 > 2", "1", "2"),
        ("2d>10", "2d", "10"),
        ("1.2.3 > 01", "1.2.3", "01"),
        ("1e9999 > .hidden", "1e9999", ".hidden"),
        ("\u00e9t\u00e9 > 1", "e\u0301t\u00e9", "1"),
        ("'\u00e9t\u00e9' > 1", "e\u0301t\u00e9", "1"),
        (f"{ANY[9]} > {ANY[10]}", ANY[9], ANY[10]),
        (f"{ANY[11]} > 1", ANY[11], "1"),
        ("'it''s \"x\"' > 1", 'it\'s "x"', "1"),
        ("1 - 2", "1", "2"),
        ("2*2d - 2*'10'", "2d", "10"),
        ("2d/2 - (10)/2", "2d", "10"),
    ],
)
def test_category_names_may_hold_digits_and_punctuation(
    text: str, target: str, baseline: str
) -> None:
    found = parse_contrast(text, ANY)
    assert [ANY[k] for k in found.target] == [target]
    assert [ANY[k] for k in found.baseline] == [baseline]


def test_unquoted_numbers_are_weights() -> None:
    found = parse_contrast("2d - (01 + '1')/2", ANY)
    weights = dict(zip((*found.target, *found.baseline), found.weights, strict=True))
    assert {ANY[k]: weight for k, weight in weights.items()} == {
        "2d": 1, "01": Fraction(-1, 2), "1": Fraction(-1, 2),
    }  # fmt: skip
    with pytest.raises(UserError, match=r'are numbers: "1", "2"$'):
        parse_contrast("1/2", ANY)
    with pytest.raises(UserError, match=r"where names .* are quoted"):
        parse_contrast("\U0001f642 > 1", ANY)
    with pytest.raises(UserError, match=f'did you mean "{ANY[10]}"'):
        parse_contrast(ANY[10][:-2], ANY)


def test_the_caret_is_aligned_below_combining_characters() -> None:
    with pytest.raises(UserError) as refused:
        parse_contrast("e\u0301t\u00e9 > faces & bodies", CATEGORIES)
    assert str(refused.value).split("\n")[2] == "  " + " " * 12 + "^"


def test_every_category_and_pairs_are_expanded() -> None:
    every = every_category(CATEGORIES)
    assert [contrast.text for contrast in every] == list(CATEGORIES)
    assert [pair.baseline for pair in pairs(every[1])] == [(0,), (2,), (3,), (4,), (5,)]
    assert {pair.target for pair in pairs(every[1])} == {(1,)}


def test_thousands_of_categories_take_memory_linear_in_their_number() -> None:
    names = [f"c{k}" for k in range(20_000)]
    tracemalloc.start()
    every = every_category(names)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400 * len(names)
    assert [contrast.category for contrast in every] == list(range(len(names)))
    assert every[7].baseline == (*range(7), *range(8, len(names)))
    assert set(every[7].weights[1:]) == {Fraction(-1, len(names) - 1)}


def test_a_contrast_that_names_all_others_is_that_of_its_category() -> None:
    others = " + ".join(quoted(name) for name in CATEGORIES if name != "scenes")
    found = parse_contrast(f"scenes > {others}", CATEGORIES)
    assert found.category == CATEGORIES.index("scenes")
    assert found.is_same_as(parse_contrast("scenes", CATEGORIES))
    for other in ("scenes > faces", "scenes + faces", f"scenes - ({others})/5"):
        contrast = parse_contrast(other, CATEGORIES)
        assert contrast.category is None
        assert not contrast.is_same_as(found)


@settings(deadline=None)
@given(st.text(alphabet="faces bodi+-*/()>.0123'\"\n\x1b%é", max_size=30))
def test_any_text_parses_or_raises_a_user_error(text: str) -> None:
    for read in (lambda t: parse_contrast(t, CATEGORIES), lambda t: Criterion(where=t)):
        with suppress(UserError):
            read(text)


def test_displayed_texts_hold_no_control_characters() -> None:
    with pytest.raises(UserError) as refused:
        parse_contrast("faces \x1b[2J", CATEGORIES)
    assert "\x1b" not in str(refused.value)
    assert "faces ?[2J" in str(refused.value)


def decide(rule: str, **values: float) -> bool:
    """Evaluate a rule for one unit."""
    parsed = Criterion(where=rule).rule()
    met = {
        condition: np.array([condition.holds(values[condition.measure])])
        for condition in parsed.conditions()
    }
    return bool(parsed.decide(met)[0])


def test_and_binds_more_strongly_than_or() -> None:
    assert decide("t > 1 or q < 0.1 and csi > 0.5", t=2, q=1, csi=0)
    assert not decide("(t > 1 or q < 0.1) and csi > 0.5", t=2, q=1, csi=0)
    assert decide("t >= 2 and t <= 2 and csi > -1/2", t=2, csi=0)
    assert not decide("t > 2 or t < 2", t=2)
    assert not decide("t > 0 or t <= 0", t=float("nan"))
    assert decide("p < 1e-3", p=0.0009)


@pytest.mark.parametrize(
    ("rule", "column", "fragment"),
    [
        ("tt > 5", 0, "did you mean t"),
        ("t >> 5", 3, "a number is needed"),
        ("t = 5", 2, "invalid syntax"),
        ("t > five", 4, "a number is needed"),
        ("t > 5 and", 9, "continues with a measure"),
        ("t > 5 csi > 1", 6, "should end"),
        ("(t > 5", 6, "needs ')'"),
        ("t 5", 2, "compared by one of < <= > >="),
        ("top 0", 4, "number of units"),
        ("top 2.5", 4, "number of units"),
        ("top 200%", 4, "percentage"),
        ("top 5 by size", 9, "a rule names measures"),
        ("top 5 by q", 9, "use t"),
        ("", 0, "continues with a measure"),
        ("preferred_category > 1", 0, "a rule names measures"),
        ("__import__('os')", 0, "a rule names measures"),
        ("csi > 1/0", 8, "other than 0"),
    ],
)
def test_a_rule_syntax_error_points_at_its_place(rule: str, column: int, fragment: str) -> None:
    with pytest.raises(UserError) as refused:
        Criterion("rest", rule)
    message, shown, caret = str(refused.value).split("\n")
    assert fragment in message
    assert shown == "  " + rule
    assert caret == "  " + " " * column + "^"


@pytest.mark.parametrize(
    "wrong", [{"test": "all"}, {"sides": 3}, {"correction": "fdr"}, {"family": "network"}]
)
def test_invalid_criteria_raise(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=f"a criterion's {name} is one of"):
        Criterion(**wrong)


@pytest.mark.parametrize(
    ("share", "units", "number"),
    [("0.57", 10_000, 57), ("0.29", 10_000, 29), ("1.1", 1000, 11), ("4.35", 10_000, 435),
     ("7", 100, 7), ("1e-2", 10_000, 1), ("1/3", 300, 1), ("0.1", 999, 0), ("100", 7, 7)],
)  # fmt: skip
def test_a_percentage_is_read_by_its_decimal_digits(share: str, units: int, number: int) -> None:
    (top,) = Criterion("rest", f"top {share}%").rule().conditions()
    assert top.of(units) == number


@given(st.integers(1, 10_000), st.integers(0, 4), st.integers(1, 10**7))
def test_every_percentage_is_exact(digits: int, places: int, units: int) -> None:
    share = Fraction(digits, 10**places)
    if not 0 < share <= 100:
        return
    text = f"{digits}e-{places}"
    (top,) = Criterion("rest", f"top {text}%").rule().conditions()
    assert top.of(units) == units * digits // (100 * 10**places)


def test_a_top_larger_than_the_layer_selects_all_units() -> None:
    (top,) = Criterion("rest", "top 1e999").rule().conditions()
    assert list(range(5))[: top.of(5)] == list(range(5))


def test_presets_note_what_authors_did_besides_their_criterion() -> None:
    scrambled = ("faces", "scenes", "Phase_Scrambled")
    preset = MARGALIT2024
    (said,) = remarks(preset, scrambled)
    assert "left scrambled images out; this store has Phase_Scrambled:" in said
    assert remarks(preset, scrambled, "faces > scenes") == []
    assert len(remarks(preset, scrambled, ["faces > scenes", "faces > Phase_Scrambled"])) == 1
    assert remarks(preset, ("faces", "scenes", "words")) == []
    assert remarks(Criterion(), scrambled) == []
    assert preset.where == "t >= 10"
    (said,) = remarks(ALKHAMISSI2025, ("sentences", "nonwords"))
    assert "compared absolute activations; these have signs" in said


@pytest.mark.parametrize(
    ("sizes", "folds", "remedy"),
    [
        ((9, 12), 5, "add images, or choose `folds=4`"),
        ((12, 9), 5, "add images, or choose `folds=4`"),
        ((30, 7, 5), 4, "add images, or choose `folds=2`"),
        ((3, 8), 2, "add images, or choose `folds=1`"),
        ((1, 8), 2, "has 1: add images"),
    ],
)
def test_the_advised_folds_are_limited_by_the_smallest_category(
    sizes: tuple[int, ...], folds: int, remedy: str
) -> None:
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    names = tuple("abc"[: len(sizes)])
    with pytest.raises(UserError) as refused:
        make_plan(labels, names, folds=folds)
    assert str(refused.value).endswith(remedy)
    if "folds" in remedy:
        advised = int("".join(filter(str.isdigit, remedy)))
        make_plan(labels, names, folds=advised)
        with pytest.raises(UserError):
            make_plan(labels, names, folds=advised + 1)
