"""Children forked after fusiform was used answer, or advise to spawn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_places import served

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# Questions by name to the store sys.argv[1], from a child with a limit of 60 seconds.
ASK = """
import os, signal, sys
import numpy as np
import torch
import fusiform
from fusiform.tests import flat

path, rest = sys.argv[1], fusiform.Criterion("rest")
store = fusiform.open_store(path)
layer = store.layers[0].name
ways = {
    "old": lambda: float(np.nansum(store.read(store.layer(layer), "t"))),
    "new": lambda: float(np.nansum(fusiform.open_store(path).read(store.layer(layer), "t"))),
    "tree": lambda: float(store.tree()[layer].t.sum().compute()),
    "query": lambda: int(store.query("t > 1").counts()["matching"].sum()),
    "mask": lambda: int(store.mask("faces", layer).sum()),
    "kernels": lambda: [row.selective for row in fusiform.summary(store, rest)],
    "scan": lambda: flat.scan("resnet18", "nowhere", "out.zarr", weights="none"),
}
def child(way):
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    signal.alarm(60)
    try:
        print(way, ways[way](), flush=True)
    except fusiform.UserError as error:
        print(way, error, flush=True)
    os._exit(0)
"""
UNUSED = (
    ASK
    + """
x = torch.randn(1000, 1000)
(x @ x).relu_().sum()  # torch's threads, which may be those of the kernels
own = {way: ways[way]() for way in ("old", "new", "tree", "query", "mask")}
for way in (*own, "kernels"):
    assert child(way) == 0, way
for way in (*own, "kernels"):
    print(way, ways[way]())
"""
)
USED = (
    ASK
    + """
ways["kernels"]()
assert child("kernels") == child("scan") == child("old") == 0
print("kernels", ways["kernels"]())
print("old", ways["old"]())
"""
)
URL = (
    ASK
    + """
ways["old"]()
assert child("old") == child("new") == 0
"""
)
LOADER = (
    ASK
    + """
class Masks(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return fusiform.summary(fusiform.open_store(path), rest)[0].selective

def load(**named):
    loaded = torch.utils.data.DataLoader(Masks(), num_workers=2, timeout=90, **named)
    return [int(x) for x in loaded]

if __name__ == "__main__":
    print(load(multiprocessing_context="fork"))
    print([Masks()[0]] * 4)
    try:
        load(multiprocessing_context="fork")
    except fusiform.UserError as error:
        print("start it by spawn" in str(error))
"""
)


def said(code: str, *arguments: str, layer: str = "default", cwd: Path | None = None) -> list[str]:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "NUMBA_THREADING_LAYER": layer}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True, text=True, env=environment, cwd=cwd,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_forked_children_answer_like_their_parent(made_path: Path) -> None:
    lines = said(UNUSED, str(made_path))
    assert len(lines) == 12
    assert lines[:6] == lines[6:]


@pytest.mark.smoke
def test_forked_children_of_a_parent_that_ran_kernels_advise_spawn(
    made_path: Path, tmp_path: Path
) -> None:
    # This depends on numba's OpenMP runtime; without GNU's they answer.
    kernels, scan, old, *own = said(USED, str(made_path), cwd=tmp_path)
    assert own[1] == old
    if "spawn" in kernels:
        assert kernels.startswith("kernels kernels cannot run in a forked process whose parent has")
        assert "spawn" in scan
    else:
        assert kernels == own[0]
    kernels, scan, *_, own_kernels, _ = said(USED, str(made_path), layer="workqueue", cwd=tmp_path)
    assert kernels == own_kernels
    assert scan.startswith("scan stimuli")


def test_forked_data_loader_workers_can_query_a_store(made_path: Path) -> None:
    forked, own, told = said(LOADER, str(made_path))
    assert forked == own
    assert told == "True"


def test_forked_children_do_not_wait_for_urls(made_path: Path) -> None:
    with served(made_path.parent) as url:
        lines = said(URL, f"{url}/{made_path.name}")
    assert [line.partition(" ")[0] for line in lines] == ["old", "new"]
    assert all("cannot read URLs if its parent did" in line for line in lines)
