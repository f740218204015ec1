"""Without zarr's private modules the fallbacks give the same bytes and numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusiform.engine.querying.store import open_store
from fusiform.engine.store import zarr_internals

TIME = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.+]+")  # when the store was made
ROOT = Path(__file__).parents[1]
# Hide zarr's private modules from fusiform only.
WITHOUT = """
import sys, zarr.core.sync
sync = zarr.core.sync.sync
del zarr.core.sync.sync
from fusiform.engine.store import zarr_internals
assert zarr_internals.sync is zarr_internals.plain_sync
zarr.core.sync.sync = sync
from pathlib import Path

import fusiform
from fusiform import open_store
from tests.made import fill
fill(Path(sys.argv[1]))
print(fusiform.summary(open_store(sys.argv[1])))
"""
WITH = "import sys, fusiform; print(fusiform.summary(fusiform.open_store(sys.argv[1])))"


@pytest.mark.smoke
def test_a_store_is_written_and_read_without_private_parts_of_zarr(
    made_path: Path, tmp_path: Path
) -> None:
    assert zarr_internals.sync is not zarr_internals.plain_sync
    path = tmp_path / "plain" / made_path.name
    path.parent.mkdir()
    said = [
        subprocess.run(
            [sys.executable, "-c", one, str(place)],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout
        for one, place in ((WITHOUT, path), (WITH, made_path))
    ]  # fmt: skip
    assert said[0] == said[1] != ""
    files = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()]
    assert len(files) > 50
    for file in files:
        plain, usual = ((place / file).read_bytes() for place in (path, made_path))
        assert TIME.sub(b"", plain) == TIME.sub(b"", usual), file
    assert open_store(path).layers == open_store(made_path).layers
