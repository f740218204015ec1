"""A short run of the fuzzer of command-line options (``python -m tests.fuzz.options``)."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import pytest

from fusiform.cli import main

from .fuzz import options

# Seconds allowed for a case, even on a busy machine.
_SECONDS = 60


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stimuli, stores and odd files that no case may change."""
    folder = options.prepare(tmp_path_factory.mktemp("options") / "a" / "b")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        options.make_stores(folder)
    return folder


def test_the_fuzzer_covers_every_command() -> None:
    assert {command for command, *_ in options.options()} <= options.LINES.keys()


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_odd_option_values_end_in_one_line(
    sound: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    def late(_: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end within {_SECONDS} s")

    def left(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.chdir(sound)
    monkeypatch.syspath_prepend(sound)
    monkeypatch.setattr("os._exit", left)
    before = signal.signal(signal.SIGALRM, late)
    try:
        for number in range(first, first + 20):
            arguments = options.case(number, 1, quick=True)
            seen = options.seen(sound)
            monkeypatch.setattr(sys, "argv", ["fusiform", *arguments])
            signal.alarm(_SECONDS)
            with pytest.raises(SystemExit) as caught:
                main()
            signal.alarm(0)
            said = capsys.readouterr()
            assert caught.value.code in (None, 0, 1, 2), arguments
            assert "Traceback" not in said.out + said.err, arguments
            if caught.value.code == 2:
                assert "rror: " in said.err, arguments
            if caught.value.code:
                assert options.seen(sound) == seen, arguments
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
