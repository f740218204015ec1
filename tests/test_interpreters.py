"""Commands under ``python -OO`` and with warnings as errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import one_process

SMALL = "--weights none --resize 32 --crop 32 --layers layer4.1,avgpool --device cpu -q"
WALK = f"""
scan resnet18 stimuli -o a.zarr {SMALL}
scan resnet18 stimuli -o a.zarr {SMALL} --overwrite --folds 1 --null 2
check a.zarr
info a.zarr
summary a.zarr
select a.zarr --contrast blobs --save two
query a.zarr t>0 --list --format csv -o query.csv
analyse a.zarr --resamples 20
record resnet18 stimuli --from a.zarr --top 5 -o r.zarr --device cpu -q
responses r.zarr units
report a.zarr --recording r.zarr --resamples 20 -o report.html -q
merge a.zarr a.zarr -o b.zarr
stimuli pack stimuli -o packed -q
stimuli check stimuli
--help
"""


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONOPTIMIZE": "1"}, {"PYTHONOPTIMIZE": "2"}, {"PYTHONWARNINGS": "error"}],
    ids=["no assertions", "no docstrings", "warnings are errors"],
)
def test_commands_run_under_other_interpreter_flags(
    environment: dict[str, str], tmp_path: Path, draw_stimuli: Callable[..., Path]
) -> None:
    draw_stimuli(tmp_path / "stimuli")
    codes, said = one_process.run(WALK, tmp_path, **environment)
    # A store cannot be merged with itself: one line, exit code 2.
    expected = [f"exit {2 * line.startswith('merge')} {line}" for line in WALK.split("\n")[1:-1]]
    assert codes == expected, said
    assert "Traceback" not in said
    assert said.count("error: ") == 1, said
