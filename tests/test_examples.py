"""The examples run unchanged, offline, and print their results."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# Output that only a complete run prints.
SAID = {
    "localise.py": r"avgpool .* selective(.|\n)*Gini over feature maps(.|\n)*mean words",
    "compare_networks.py": r"avgpool .* share .*\[[-+]\d",
    "lesion.py": r"matched +\d+ units(.|\n)*\nwords +\d(.|\n)*than least .*\[-?\d",
    "language.py": r"reduced\.3: \d+ of 64 units prefer sentences(.|\n)*mean nonwords",
    "while_training.py": r"after epoch 4(.|\n)*contrast +faces +scenes +words(.|\n)*\n6 +\d",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_an_example_runs_to_its_end(name: str, tmp_path: Path) -> None:
    if name == "language.py":
        pytest.importorskip("transformers")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.search(SAID[name], result.stdout), result.stdout
    assert not list(tmp_path.iterdir())
