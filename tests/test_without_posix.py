"""Commands on a system without POSIX modules, signals and calls, such as Windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import one_process

# Run by the interpreter before anything else; the standard library keeps what it needs.
SITE = """
import os, signal, sys
for name in ("fcntl", "resource", "grp", "pwd", "termios"):
    sys.modules[name] = None
for name in ("fork", "getloadavg", "geteuid", "getuid", "mkfifo",
             "sched_getaffinity", "sched_setaffinity"):
    if hasattr(os, name):
        delattr(os, name)
if hasattr(os, "process_cpu_count"):
    os.process_cpu_count = os.cpu_count  # or it asks for the affinity
for name in ("SIGALRM", "SIGBUS", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    if hasattr(signal, name):
        delattr(signal, name)
"""
SMALL = "--weights none --resize 32 --crop 32 --layers layer4.1,avgpool --device cpu -q"
WALK = f"""
scan resnet18 stimuli -o a.zarr {SMALL}
check a.zarr
info a.zarr
summary a.zarr
query a.zarr t>0 --list --format csv -o query.csv
record resnet18 stimuli --from a.zarr --top 5 -o recording.zarr --device cpu -q
report a.zarr --recording recording.zarr --resamples 20 -o report.html
doctor -o .
"""


def test_commands_run_without_posix_modules(
    tmp_path: Path, draw_stimuli: Callable[..., Path]
) -> None:
    draw_stimuli(tmp_path / "stimuli")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    codes, said = one_process.run(WALK, tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert codes == [f"exit 0 {line}" for line in WALK.strip().splitlines()], said
    assert "Traceback" not in said, said
    assert (tmp_path / "query.csv").read_text().count("\n") > 100
    assert "<svg" in (tmp_path / "report.html").read_text()
