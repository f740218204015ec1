"""Fuzz the command line: every option and argument of every command gets odd values.

    python -m tests.fuzz.options --count 10000 --seed 0

Every command must end in time with exit code 0, 1 or 2 and without a traceback; if it fails, it
leaves and changes nothing. Each case is a forked child of a warm process with limited address
space. ``--only N`` repeats case N and shows its output.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import numpy as np
import typer
from PIL import Image
from typer.models import OptionInfo

from fusiform import cli

from .. import flat

SECONDS, BYTES = 60, 3 * 2**30
_ROOT = Path(__file__).parents[2]
_SLOW = {"doctor", "bench", "demo"}  # these take seconds each: one case in this many
_SLOWER = 40

# A valid, quick line of every command, by its name; odd values are added to it.
LINES = {
    "layers": "layers tiny:make",
    "plan": "plan tiny:make stimuli --layers act --batch-size 4 -q",
    "scan": "scan tiny:make stimuli -o out.zarr --layers act --batch-size 4 -q",
    "record": "record tiny:make stimuli -o out.zarr --from a.zarr --random 3 -q",
    "responses": "responses r.zarr units",
    "summary": "summary a.zarr",
    "analyse": "analyse a.zarr shares --resamples 5",
    "lesion": "lesion tiny:make stimuli --from a.zarr --contrast faces --layers act --draws 1 "
    "--where 'top 9' --readout classes --resamples 5 -q",
    "select": "select a.zarr --contrast faces",
    "query": "query a.zarr 't > 0'",
    "compare": "compare a.zarr a.zarr --resamples 5",  # one network, for --localizers too
    "plot": "plot a.zarr -o figure.png --where 't > 0' --resamples 5 -q",
    "report": "report a.zarr -o page.html --resamples 5 -q",
    "merge": "merge a.zarr c.zarr -o out.zarr",
    "archive": "archive a.zarr -o a.zarr.zip",
    "check": "check a.zarr",
    "info": "info a.zarr",
    "doctor": "doctor -q",
    "bench": "bench tiny:make --parts kernels --array-units 300000 --batch-sizes 2 --repeats 1 -q",
    "demo": "demo new --per-category 4 -q",
    "stimuli make": "stimuli make new --per-category 1 --size 32",
    "stimuli scramble": "stimuli scramble stimuli -o new",
    "stimuli check": "stimuli check stimuli",
    "stimuli pack": "stimuli pack stimuli -o new.zarr --resize 16 --crop 16 -q",
}
NUMBERS = (
    *("-1", "0", "1", "3", "-0.0", "0.5", "1e308", "-1e308", "1e-320", "1e400", "nan", "inf"),
    *("-inf", "2147483648", "4294967296", "99999999999999", str(2**63), str(2**64), "1" + "0" * 30),
    *("0x10", "1_000", "+5", " 7 ", "\u0663", "1" * 5000),
)
TEXTS = (
    *("", " ", "\x01", "\x1b[2J", "\u202e", "\udc80", "x" * 300, "x" * 5000, "\u00e9" * 200, "-"),
    *("--", "*", "[", "[!", "**", "?", ",", ",,,", "=", "a=", "=b", "act=channel", "act=x,y,z"),
    *("(", ")" * 3000, "(" * 3000, "'", '"', "t >", "t > nan", "q <= 1e400", "top 0", "top 1e9%"),
    *("top 1% of", "top 3 by t of model", "top 1% of model"),
    *("faces >", "faces - faces", "faces / 0", "1e308 * faces", "faces: t > 1", "preferred", "not"),
    *(
        "cpu:9",
        "cuda:99",
        "meta",
        "8GiB",
        "0GiB",
        "1e400GiB",
        "-1GiB",
        "faces=faces",
        "t",
        "p_null",
    ),
    *("json:dumps", "os:getcwd", "sys:exit", "builtins:input", "tiny:fails", "tiny:none", "tiny:"),
    *(":make", "tiny:huge", "timm:", "clip:", "torchvision:", "resnet18", "timm:nosuch", "none"),
    *("hf:", "tcp://127.0.0.1:1", "tcp://", "nosuch:1", "float64", "all", "blocks", "act"),
    *("0,1", "0,nan", "pool,act", "floc", "floc,flok", "groups.toml"),
    *("faces,places=tools", "faces,faces"),
)
PATHS = (
    *(".", "..", "nosuch", "nosuch/x", "file.txt", "file.txt/x", "folder", "loop", "dangling"),
    *("pipe", "null", "full", "zero", "a.zarr", "a.zarr/zarr.json", "r.zarr", "stimuli", "empty"),
    *("stimuli/faces", "stimuli/faces/0.png", "table.csv", "x.html", "x.npz", "new/x", "\udcff"),
    *("http://127.0.0.1:1/x", "file:///nosuch/x", "ftp://x/y", "://", "s3://", "a\tb\nc", "linked"),
    *("table.csv.zarr", "x" * 255, "y" * 256 + "/z"),
)
# Valid but slow values: they start dask processes, seconds each.
_NOT = {"--workers": {"1", "3", "+5", " 7 ", "\u0663"}}
_TINY = """
import os, torch
from torch import nn
from fusiform import Preprocessing

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act = nn.Conv2d(3, 4, 5, stride=4), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
    def forward(self, x):
        return self.pool(self.act(self.conv(x))).flatten(1)

def make(): return Net(), Preprocessing(32, 32)
def fails(): raise RuntimeError("no such luck")
def none(): return None
def huge(): return nn.Linear(10**6, 10**7)
"""


def options(app: typer.Typer = cli.app, before: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """Every option of every command: command, flag, type and help."""
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from options(group.typer_instance, f"{before}{group.name} ")
    for command in app.registered_commands:
        assert command.callback is not None
        hints = get_type_hints(command.callback, include_extras=True)
        for name, hint in hints.items():
            for info in getattr(hint, "__metadata__", ()):
                if isinstance(info, OptionInfo):
                    # Typer takes the first flag of an annotation for a default.
                    flags = [info.default, *(info.param_decls or ()), name.replace("_", "-")]
                    flag = next(one for one in flags if isinstance(one, str))
                    said = f"{info.metavar or ''} {info.help or ''}"
                    yield f"{before}{command.name}", flag.lstrip("-"), get_args(hint)[0], said


@dataclass(frozen=True)
class Outcome:
    """Store of a case: its exit code, or None if it did not end; ``fault`` is a failure."""

    number: int
    arguments: tuple[str, ...]
    code: int | None
    fault: str
    said: str
    seconds: float


def case(number: int, seed: int, quick: bool = False) -> tuple[str, ...]:
    """Arguments of a case: a valid line with one odd value or several."""
    rng = random.Random(f"{seed}/{number}")
    known = _known()
    names = [name for name in LINES if name not in _SLOW or (not quick and not number % _SLOWER)]
    name = rng.choice(names)
    line = shlex.split(LINES[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = [i for i, one in enumerate(line) if i and not one.startswith("-")]
        if places and (not known[name] or rng.random() < 0.2):
            line[rng.choice(places)] = _odd(rng)
            continue
        if not known[name]:
            break
        _, flag, kind, _ = rng.choice(known[name])
        if kind in (bool, bool | None):
            # Never compiled: in a forked child the compiler waits for threads that do not exist.
            line += [f"--{flag}"] if flag not in ("compile", "open") else []
        elif kind in (tuple[float, float, float], tuple[float, float, float] | None):
            line += [f"--{flag}", *(rng.choice((*NUMBERS[:12], "0.5", "1")) for _ in range(3))]
        else:
            odd = _odd(rng, str(kind))
            if odd in _NOT.get(f"--{flag}", ()):
                odd = "-1"
            line += [f"--{flag}={odd}"] if rng.random() < 0.9 else [f"--{flag}", odd]
    return tuple(one.replace("\0", "") for one in line)


@cache
def _known() -> dict[str, list[tuple[str, str, Any, str]]]:
    """The options of every command."""
    every = list(options())
    return {name: [one for one in every if one[0] == name] for name in LINES}


def _odd(rng: random.Random, kind: str = "") -> str:
    pools = [NUMBERS, TEXTS, PATHS]
    fitting = NUMBERS if "int" in kind or "float" in kind else PATHS if "Path" in kind else TEXTS
    return rng.choice(fitting if rng.random() < 0.7 else rng.choice(pools))


def prepare(folder: Path) -> Path:
    """Make the files that the commands take."""
    folder.mkdir(parents=True)
    (folder / "tiny.py").write_text(_TINY)
    for k, name in enumerate(("faces", "places", "tools")):
        (folder / "stimuli" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng([k, i]).integers(40 * k, 40 * k + 99, (40, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"stimuli/{name}/{i}.png")
    (folder / "folder").mkdir()
    (folder / "empty").mkdir()
    (folder / "folder" / "kept").write_text("two years of work")
    (folder / "file.txt").write_text("x")
    (folder / "groups.toml").write_text('[groups]\nfaces = ["faces"]\nrest = ["places", "tools"]\n')
    (folder / "table.csv").write_text("region,category,response\nffa,faces,1\nffa,places,0.5\n")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "linked").symlink_to("folder")
    os.mkfifo(folder / "pipe")
    for minor, name in ((3, "null"), (5, "zero"), (7, "full")):
        # Our own device if permitted: a command that replaces it must not replace the system's.
        with suppress(OSError):
            os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    return folder


def make_stores(folder: Path) -> None:
    """Make stores and a recording in the working directory."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    given: dict[str, Any] = {"batch_size": 4, "device": "cpu"}
    for name, layers, seed in (("a", "act", 0), ("b", "act", 1), ("c", "pool", 0)):
        flat.scan(
            "tiny:make", "stimuli", f"{name}.zarr", layers=layers, seed=seed, **given
        )  # fmt: skip
    flat.record("tiny:make", "stimuli", "r.zarr", store="a.zarr", random=3, **given)
    sys.path.remove(str(folder))


def warm() -> None:
    """Import what commands import, without starting a thread."""
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True
    import matplotlib.figure
    import open_clip
    import pyarrow.parquet
    import timm
    import torch
    import torchvision
    import xarray

    from fusiform.engine import merge
    from fusiform.engine.analyses import analyse
    from fusiform.engine.comparing import localizers
    from fusiform.engine.comparing.brains import compare
    from fusiform.engine.lesions import measure
    from fusiform.engine.networks.libraries import demo
    from fusiform.engine.plotting import figures
    from fusiform.engine.recording import record
    from fusiform.engine.reporting import report
    from fusiform.engine.responses import answer
    from fusiform.engine.scanning import pack

    del matplotlib, open_clip, pyarrow, timm, torchvision, xarray
    del merge, analyse, compare, localizers, figures, measure, report, answer, pack, record
    torch.set_num_threads(1)
    # The demo's own network takes longer than a case may.
    demo.NETWORK, demo.find_spec = "tiny:make", lambda _: None


def attempt(number: int, arguments: Sequence[str], sound: Path, place: Path) -> Outcome:
    """Run a case in a forked child, in a copy of ``sound`` at ``place`` that must not change."""
    before = seen(place) if place.exists() else None
    if before is None or before != seen(sound):
        shutil.rmtree(place, ignore_errors=True)
        _copy(sound, place)
    before, started = seen(place), time.monotonic()
    said = place.with_name(f"{place.name}.said")
    child = os.fork()
    if not child:
        _run(arguments, place, said)
    code = _waited(child)
    text = said.read_text(errors="surrogateescape")
    fault = ""
    if code is None:
        fault = f"no end within {SECONDS} s"
    elif "Traceback (most recent call last)" in text:
        fault = "a traceback"
    elif code not in (0, 1, 2):
        fault = f"exit code {code}"
    elif code == 2 and "rror: " not in text:
        fault = "no line says why"
    elif "\x1b" in text:
        fault = "a terminal would obey it"
    elif code and (after := seen(place)) != before:
        names = sorted(str(one) for one in {*before.items()} ^ {*after.items()})
        fault = f"left or changed: {', '.join(names)[:300]}"
    seconds = time.monotonic() - started
    return Outcome(number, tuple(arguments), code, fault, text, seconds)


def _run(arguments: Sequence[str], place: Path, said: Path) -> NoReturn:
    code: Any = 99
    try:
        os.setsid()
        os.chdir(place)
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for standard, own in ((0, nothing), (1, descriptor), (2, descriptor)):
            os.dup2(own, standard)
        sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + BYTES,) * 2)
        sys.path[:0] = [str(place)]
        sys.argv = ["fusiform", *arguments]
        try:
            cli.main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1 if left.code else 0
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        with suppress(Exception):
            sys.stderr.flush()
    finally:
        os._exit(code)


def _waited(child: int) -> int | None:
    """Exit code of a child, negative for a signal, None if it had to be killed."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """Kind and size of every file below a folder, by name."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(top, name)  # noqa: PTH118
            own = os.lstat(path)
            size = own.st_size if stat.S_ISREG(own.st_mode) else 0
            found[os.path.relpath(path, folder)] = stat.S_IFMT(own.st_mode), size
    return found


def _copy(sound: Path, place: Path) -> None:
    subprocess.run(["cp", "-a", str(sound), str(place)], check=True)


def run(
    numbers: Sequence[int], seed: int, quick: bool = False,
    told: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:  # fmt: skip
    """Run cases by their numbers."""
    with tempfile.TemporaryDirectory(prefix="fuzz-options-") as name:
        folder = Path(name) / "a" / "b"
        folder.mkdir(parents=True)
        sound = prepare(folder / "sound")
        child = os.fork()  # later forks would lose the threads that it starts
        if not child:
            with suppress(BaseException):
                make_stores(sound)
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0, "no stores to ask"
        warm()
        outcomes = list[Outcome]()
        for number in numbers:
            if len(outcomes) % 100 == 99:
                print(f"{len(outcomes) + 1} cases", file=sys.stderr, flush=True)
            outcome = attempt(number, case(number, seed, quick), sound, folder / "work")
            told(outcome)
            outcomes.append(outcome)
        return outcomes


def report(outcomes: Sequence[Outcome]) -> str:
    """Counts of outcomes, and the failed cases."""
    codes = Counter(str(outcome.code) for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.fault]
    lines = [f"{len(outcomes)} cases; by exit code: {dict(sorted(codes.items()))}"]
    lines += [f"{len(failed)} failures; the longest took {max(o.seconds for o in outcomes):.1f} s"]
    lines += [shown(outcome) for outcome in failed]
    return "\n".join(lines)


def shown(outcome: Outcome) -> str:
    """A case in two lines."""
    said = ascii(outcome.said.strip()[-400:])
    line = " ".join(ascii(one)[:80] for one in outcome.arguments)
    return f"{outcome.number} ({outcome.seconds:.1f} s, {outcome.fault}): {line}\n    {said}"


def main() -> None:
    """Run the fuzzer, on several processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, help="Repeat one case, and show what it says.")
    given = parser.parse_args()
    if given.only is not None:
        (outcome,) = run([given.only], given.seed)
        print(shlex.join(outcome.arguments), outcome.said, shown(outcome), sep="\n")
        return
    failed = 0

    def told(outcome: Outcome) -> None:
        nonlocal failed
        failed += bool(outcome.fault)
        if outcome.fault:
            print(shown(outcome), flush=True)

    numbers = range(given.first, given.first + given.count)
    outcomes = run(numbers, given.seed, told=told)
    print("\n" + report(outcomes).partition("\n")[0], f"{failed} failures", sep="\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
