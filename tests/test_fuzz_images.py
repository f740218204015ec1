"""A short run of the image fuzzer, and tests that it notices failures."""

from __future__ import annotations

import sys

import pytest
from PIL import Image

from fusiform.engine.errors import UserError

if sys.platform != "linux":
    pytest.skip("memory is limited and measured as Linux does it", allow_module_level=True)

from .fuzz import images
from .fuzz.seeds import saved, seeds


def test_damaged_images_are_decoded_or_refused() -> None:
    report = images.run(250, seed=7)
    assert report.failures == []
    assert report.count == 250
    assert report.peak < images.MEMORY
    kinds = {name.split()[0] for name in seeds()}
    assert {kind for kind, _ in report.outcomes} == kinds
    for became in ("shown", "refused"):
        assert sum(n for (_, one), n in report.outcomes.items() if one == became) > 30


def test_fuzz_cases_depend_on_their_numbers_alone() -> None:
    files = seeds()
    cases = [images.case(number, 0, files) for number in range(30)]
    assert cases == [images.case(number, 0, files) for number in range(30)]
    assert len({content for _, content, _ in cases}) == 30
    assert images.case(3, 1, files) != images.case(3, 0, files)


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RecursionError()])
def test_the_fuzzer_notices_an_unexpected_exception(error: Exception) -> None:
    def show(content: bytes) -> None:
        raise error

    became, wrong = images.outcome(b"", show)
    assert became == "failed"
    assert type(error).__name__ in wrong


def test_the_fuzzer_notices_an_error_of_several_lines() -> None:
    def show(content: bytes) -> None:
        raise UserError("one\ntwo")

    assert "no line" in images.outcome(b"", show)[1]


def test_the_fuzzer_notices_slowness_and_memory() -> None:
    report = images.Report()
    found = {"name": "png grey", "number": 1, "done": "flip", "outcome": "shown", "wrong": "",
             "seconds": images.SECONDS + 1, "peak": 5}  # fmt: skip
    images._note(report, found)
    assert "took 6.0 s" in report.failures[0]
    assert (report.peak, report.slowest) == (5, images.SECONDS + 1)


def test_the_fuzzer_notices_a_child_that_dies_or_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    for program, said in (
        ("import os; os.abort()", "case 0 ended the child (-6)"),
        ("import sys; print('libtiff: oh', file=sys.stderr)", "the user is warned: libtiff: oh"),
    ):
        report = images.Report()
        monkeypatch.setattr(images, "_command", lambda *_, p=program: [sys.executable, "-c", p])
        images._run_child(report, 1, 0)
        assert said in report.failures[0]


def test_a_jpeg_of_endless_scans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusiform.engine.stimuli.images._MOST_VISITS", 2**22)
    content = saved(Image.new("RGB", (300, 300)), "JPEG", progressive=True)
    scan = content[content.rfind(b"\xff\xda") : -2]
    assert images.outcome(content) == ("shown", "")
    assert images.outcome(content[:-2] + 50 * scan + content[-2:]) == ("refused", "")


@pytest.mark.parametrize("name", ["bmp runs", "pnm plain"])
def test_large_images_that_pillow_decodes_in_python_are_refused(name: str) -> None:
    content = seeds()[name]
    assert images.outcome(content) == ("shown", "")
    if name == "bmp runs":
        content = content[:18] + (2**20).to_bytes(4, "little") + content[22:]
    else:
        content = content.replace(b"24 20", b"1048576 20")
    with pytest.raises(UserError, match="has 20,971,520 pixels; at most 16,777,216"):
        images.show(content)
