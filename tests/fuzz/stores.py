"""Fuzz stores: small finished stores are damaged in one or more places, then used.

    python -m tests.fuzz.stores --count 10000 --seed 0

Every use of a damaged store must give a result, a list of problems or a ``UserError``: no other
exception, no warning, nothing on stderr, within bounds of time and memory. If no checksum was
recomputed, a store that ``fusiform.check`` calls whole gives its original numbers. Children do the
work under a limit of address space, so that crashes and hangs are found too. ``--only N`` repeats
mutation N and shows what happens.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select as waiting
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any, ClassVar

import google_crc32c
import numpy as np

import fusiform
from fusiform import Criterion, open_store, save_contrast
from fusiform.engine.contrasts import select
from fusiform.engine.errors import UserError
from fusiform.engine.scanning.memory import peak_memory
from fusiform.engine.store import chunking
from fusiform.engine.store.writing.creating import create_store
from fusiform.kernels.moments import Moments

from ..made import CATEGORIES, COUNTS, LAYERS, contents, samples

# Limits per store: CPU seconds for all uses together (four times as many wall seconds), and bytes
# above those of a sound store.
SECONDS, BYTES = 5.0, 2**30
_BATCH = 500
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """Outcome of one mutation. ``verdict`` is ``result`` if all uses gave one, ``refused`` if some
    or all raised; anything else is a failure, with its ``detail``."""

    number: int
    kind: str
    verdict: str
    checked: str
    seconds: float
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.verdict not in ("result", "refused")


# ---- stores to damage


def make(path: Path) -> Path:
    """A small store with everything a store can hold, its layer in several chunks."""
    layer, shuffles, drawn, categories = LAYERS[0], 2, 4, CATEGORIES[:2]
    null = {"shuffles": shuffles, "units": drawn, "seed": 0}
    table = np.repeat(np.argwhere(COUNTS[:2]), COUNTS[:2].ravel(), axis=0)
    columns = {name: values[: len(table)] for name, values in contents()["stimuli"].items()}
    whole, chunking._CHUNK_UNITS = chunking._CHUNK_UNITS, 12
    try:
        draft = create_store(
            path,
            layers=[layer],
            categories=categories,
            counts=COUNTS[:2],
            stimuli=columns,
            provenance={"model": "made-up", "weights": "none", "null": null, "batch_size": 32},
        )
        for category, folds in enumerate(samples(layer)[:2]):
            for fold, x in enumerate(folds):
                shape, m2 = layer.shape, ((x - x.mean(0)) ** 2).sum(0)
                moments = Moments(len(x), x.mean(0).reshape(shape), m2.reshape(shape))
                draft.write_moments(layer, category, fold, moments)
        mean = np.random.default_rng(0).normal(size=(len(categories), 2, shuffles, drawn))
        draft.write_shuffled_moments(layer, np.arange(drawn), mean, 20 * np.ones_like(mean))
        select.materialise(draft)
        draft.complete()
        save_contrast(open_store(path), "two", Criterion("rest"), "faces > bodies", ["t", "csi"])
    finally:
        chunking._CHUNK_UNITS = whole
    return path


# ---- mutations


class Mutation:
    """Random changes of the files of a store at ``path``; :meth:`undo` restores them.

    ``honest`` stays true while no checksum was recomputed and no file swapped: then
    ``fusiform.check`` must find the change.
    """

    def __init__(self, path: Path, rng: random.Random) -> None:
        self._path, self._rng = path, rng
        self._before: dict[Path, bytes] = {}
        self.honest, self.rng = True, rng
        files = sorted(one for one in path.rglob("*") if one.is_file())
        self._json = [one for one in files if one.name == "zarr.json"]
        self._chunks = [one for one in files if one.name != "zarr.json"]
        self.kind = rng.choice([*self._KINDS])
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            self._KINDS[self.kind](self)

    def undo(self) -> None:
        """Restore all files."""
        for path, content in self._before.items():
            if path.is_dir() and not path.is_symlink():
                rmtree(path)
            else:
                path.unlink(missing_ok=True)
            path.write_bytes(content)

    def _draw(self, files: list[Path]) -> Path:
        path = self._rng.choice(files)
        if not path.is_file() or path.is_symlink():
            return self._draw(files)
        self._before.setdefault(path, path.read_bytes())
        return path

    def _flip(self) -> None:
        path = self._draw(self._chunks if self._rng.random() < 0.8 else self._json)
        content = bytearray(path.read_bytes())
        for _ in range(self._rng.choice((1, 1, 2, 8))):
            if content:
                content[self._rng.randrange(len(content))] ^= 1 << self._rng.randrange(8)
        path.write_bytes(content)

    def _cut(self) -> None:
        path = self._draw(self._chunks + self._json)
        content = path.read_bytes()
        path.write_bytes(content[: self._rng.randrange(len(content) + 1)])

    def _extend(self) -> None:
        path = self._draw(self._chunks + self._json)
        path.write_bytes(path.read_bytes() + self._rng.randbytes(self._rng.choice((1, 20, 5000))))

    def _scramble(self) -> None:
        path = self._draw(self._chunks)
        path.write_bytes(self._rng.randbytes(path.stat().st_size))

    def _remove(self) -> None:
        self._draw(self._chunks + self._json).unlink()

    def _swap(self) -> None:
        self.honest = False
        one, other = self._draw(self._chunks), self._draw(self._chunks)
        contents_ = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents_[1])
        other.write_bytes(contents_[0])

    def _other_kind(self) -> None:
        """A folder, link or pipe in place of a file."""
        path = self._draw(self._chunks + self._json)
        path.unlink()
        ways: list[Callable[[], Any]] = [
            path.mkdir,
            lambda: os.mkfifo(path),
            lambda: path.symlink_to("/dev/zero"),
            lambda: path.symlink_to(path),
            lambda: path.symlink_to("/nonexistent"),
        ]
        self._rng.choice(ways)()

    def _rewrite(self) -> None:
        """Change or remove JSON values, in the root and in an array's own metadata."""
        root = self._path / "zarr.json"
        self._before.setdefault(root, root.read_bytes())
        try:
            document = json.loads(root.read_text())
            gathered = document["consolidated_metadata"]["metadata"]
        except (ValueError, KeyError, TypeError):
            return  # removed by an earlier change
        way = self._rng.choice(("attributes", "attributes", "attributes", "array", "array", "all"))
        if way == "array":
            name = self._rng.choice(sorted(gathered))
            self._replace(gathered[name])
            own = self._path / name / "zarr.json"
            if self._rng.random() < 0.8 and own.is_file():  # else they contradict each other
                self._before.setdefault(own, own.read_bytes())
                own.write_text(json.dumps(gathered[name]))
        else:
            self._replace(document if way == "all" else document["attributes"])
        root.write_text(json.dumps(document))

    def _replace(self, document: Any) -> None:
        places = list(_places(document))
        inside, key = self._rng.choice(places)
        way = self._rng.random()
        if way < 0.1:
            del inside[key]
        elif way < 0.2 and isinstance(inside, dict):
            inside[self._rng.choice(_HOSTILE_TEXTS)] = inside[key]
        elif way < 0.3 and isinstance(inside, list):
            inside.append(inside[key])
        else:
            inside[key] = self._hostile(inside[key])

    def _hostile(self, value: Any) -> Any:
        if isinstance(value, int) and self._rng.random() < 0.4:
            return value + self._rng.choice((-1, 1, 2, -value, value))
        if isinstance(value, str) and self._rng.random() < 0.4:
            return self._rng.choice((*_KNOWN_TEXTS, *_HOSTILE_TEXTS))
        made = self._rng.choice(_HOSTILE)
        return made() if callable(made) else made

    def _nest(self) -> None:
        root = self._path / "zarr.json"
        path = self._draw([root] if self._rng.random() < 0.6 and root.is_file() else self._json)
        depth = self._rng.choice((50, 900, 1100, 100_000))
        deep = self._rng.choice(('{"a":', "[")) * depth
        text = path.read_text()
        place = text.find('"attributes"')
        within = f'"deep": {"[" * depth}{"]" * depth}, {text[place:]}'
        torn = place < 0 or self._rng.random() < 0.3
        path.write_text(text[:place] + (deep if torn else within))

    def _reseal(self) -> None:
        """Change bytes under a correct checksum, so that they reach the decoder."""
        self.honest = False
        path = self._draw(self._chunks)
        content = bytearray(path.read_bytes())
        if self._path / path.relative_to(self._path).parts[0] == path.parents[1]:  # of the root
            self._change(content, 0, len(content) - 4)
            _seal(content, 0, len(content) - 4)
        else:
            self._reseal_shard(content)
        path.write_bytes(content)

    def _reseal_shard(self, content: bytearray) -> None:
        chunks = _chunks_in(content)
        if not chunks:  # not a shard, or one changed before
            self._change(content, 0, len(content) - 4)
            _seal(content, 0, max(len(content) - 4, 0))
            return
        index = len(content) - 16 * len(chunks) - 4
        if self._rng.random() < 0.5:
            start, length = self._rng.choice(chunks)
            self._change(content, start, start + length - 4)
            if self._rng.random() < 0.3 and length >= 20:  # lz4's declared size
                field = start + self._rng.choice((0, 1, 2, 3, 4, 8, 12))
                content[field : field + 4] = self._rng.choice(_WORDS)
            _seal(content, start, start + length - 4)
        else:
            entry = index + 8 * self._rng.randrange(2 * len(chunks))
            value = struct.unpack("<Q", content[entry : entry + 8])[0]
            others = (0, 2**64 - 1, 2**63, 2**40, value + 1, max(value - 1, 0), index)
            content[entry : entry + 8] = struct.pack("<Q", self._rng.choice(others))
        _seal(content, index, len(content) - 4)

    def _change(self, content: bytearray, start: int, stop: int) -> None:
        for _ in range(self._rng.choice((1, 2, 10)) if stop > start else 0):
            place = self._rng.randrange(start, stop)
            if self._rng.random() < 0.5:
                content[place] = self._rng.randrange(256)
            else:
                word = self._rng.choice(_WORDS)[: stop - place]
                content[place : place + len(word)] = word

    _KINDS: ClassVar[dict[str, Callable[[Mutation], None]]] = {
        "bits flipped": _flip,
        "cut short": _cut,
        "extended": _extend,
        "scrambled": _scramble,
        "removed": _remove,
        "exchanged": _swap,
        "folder, link or pipe": _other_kind,
        "metadata rewritten": _rewrite,
        "metadata rewritten ": _rewrite,  # twice as often
        "metadata nested": _nest,
        "bytes changed, checksum made to fit": _reseal,
        "bytes changed, checksum made to fit ": _reseal,
    }


_WORDS = [struct.pack("<I", value) for value in (0, 1, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)]
_KNOWN_TEXTS = (
    *("faces", "float32", "float64", "int64", "bool", "string", "unit", "channel", "x"),
    *("zstd", "gzip", "bytes", "crc32c", "blosc", "sharding_indexed", "vlen-utf8", "transpose"),
    *("numcodecs.pickle", "numcodecs.zlib", "lz4", "zlib", "big", "start", "group", "array"),
    *("complete", "scanning", "fusiform", "rest", "each", "t > 3", "q <= 0.05", "faces > bodies"),
)
_HOSTILE_TEXTS = (
    *("", "..", "../../etc", "/", "a/b", ".", "\x00", "\x1b[2J", "\u202e", "\ud800", "x" * 5000),
    *("complex128", "object", "datetime64", "raw_bytes", "O", "NaN", "Infinity", "0x7f", "é" * 200),
    *("__class__", "category", "mean", "shuffled", "extremes", "(" * 2000, "((((", "faces:", "-"),
)
_HOSTILE: tuple[Any, ...] = (
    *(0, 1, 2, -1, 3, 7, 10**9, 10**10, 10**12, 2**31, 2**63, 2**64, 10**400, 1.5, 1e308, -0.0),
    *(None, True, False, float("nan"), float("inf"), dict, list, *_HOSTILE_TEXTS[:12]),
    lambda: [0] * 1000,
    lambda: list(range(10_000)),
    lambda: {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
    lambda: [[[[[[[[[[[[1]]]]]]]]]]]],
    lambda: {"a": {"a": {"a": {"a": None}}}},
    lambda: ["faces", 1, None, {}],
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value, with each of its keys."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _seal(content: bytearray, start: int, stop: int) -> None:
    checksum = google_crc32c.value(bytes(content[start:stop]))
    content[stop : stop + 4] = struct.pack("<I", checksum)


def _chunks_in(content: bytes) -> list[tuple[int, int]]:
    """Positions of the chunks in a sound shard; nothing if it is not one."""
    for number in range(1, len(content) // 16):
        index = content[len(content) - 16 * number - 4 : -4]
        places = [struct.unpack("<QQ", index[at : at + 16]) for at in range(0, len(index), 16)]
        stops = [start + length for start, length in places]
        if [0, *stops] == [*(start for start, _ in places), len(content) - len(index) - 4]:
            return places
    return []


# ---- uses


def uses(path: Path, rng: random.Random | None = None) -> dict[str, Callable[[], Any]]:
    """Uses of a store, by name; each returns numbers to compare.

    All quick uses, and all or two random ones of the slow.
    """

    def tables() -> Any:
        store = open_store(path)
        return [np.asarray(store.counts), store.stimulus_column("stimulus_category"),
                store.stimulus_column("stimulus_path").astype(object)]  # fmt: skip

    def arrays() -> Any:
        store = open_store(path)
        names = ("t", "csi", "dead", "selective_fold", "two/t")
        return [store.read(layer, name) for layer in store.layers for name in names]

    def summary(criterion: Criterion) -> Any:
        return [
            (r.selective, r.dead, r.csi, r.chance)
            for r in fusiform.summary(open_store(path), criterion)
        ]

    def query(text: str, saved: str | None = None) -> Any:
        return open_store(path).query(text, saved=saved).counts()["matching"]

    def top() -> Any:
        table = open_store(path).query("t > 0").top(3)
        return [values for values in table.columns.values() if values.dtype.kind in "fi"]

    def tree() -> Any:
        opened = open_store(path).tree()
        try:  # other readers' messages are their own
            warnings.simplefilter("ignore")
            return [one.to_dataset()["t"].values for one in opened.children.values()]
        except Exception as error:
            raise UserError(str(error)[:100]) from None
        finally:
            warnings.simplefilter("always")

    def described() -> Any:
        found = fusiform.info(path)
        assert repr(open_store(path))
        assert str(found.criterion)  # not part of the fingerprint
        return found.folds, found.units

    every = {
        "described": described,
        "tables": tables,
        "arrays": arrays,
        "query": lambda: query("t > 1 and csi > 0.1"),
        "query of one": lambda: query("faces: t > 1 or selective"),
        "query, saved": lambda: query("t > 1 and csi > 0.1", "two"),
    }
    longer = {
        "summary": lambda: summary(Criterion()),
        "summary, computed": lambda: summary(Criterion("rest", "t > 1")),
        "query, computed": lambda: query("cohens_d > 0.1", "two"),
        "top": top,
        "tree": tree,
    }
    chosen = longer if rng is None else rng.sample(sorted(longer), 2)
    return every | {name: longer[name] for name in chosen}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        numbers = one.dtype.kind in "fc"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=numbers)
    return bool(one == other)


def try_out(path: Path, before: dict[str, Any], number: int, mutation: Mutation) -> Outcome:
    """Try every use of a mutated store."""
    started, busy, refused, numbers = time.monotonic(), time.process_time(), 0, {}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            checked = "refused"
            for name, use in uses(path, mutation.rng).items():
                try:
                    numbers[name] = use()
                except UserError as error:
                    refused += 1
                    if len(str(error)) > 3000:
                        said = f"{len(str(error))} characters: {str(error)[:300]}"
                        raise AssertionError(said) from None
            try:
                problems = fusiform.check(path).problems
                checked = "damaged" if problems else "whole"
                if len(problems) > 500:
                    raise AssertionError(f"{len(problems)} problems")
            except UserError:
                refused += 1
            verdict, detail = "refused" if refused else "result", ""
        except BaseException as error:
            verdict, detail = type(error).__name__, traceback.format_exc()
    if warned and not detail:
        verdict = "warning"
        detail = "; ".join(f"{one.message} ({one.filename}:{one.lineno})" for one in warned)
    seconds, busy = time.monotonic() - started, time.process_time() - busy
    if not detail and checked == "whole" and mutation.honest:
        found = [
            name for name in numbers if name != "query, computed"
        ]  # as a saved record declares
        changed = [name for name in found if not _same(numbers[name], before[name])]
        if changed:
            verdict, detail = "whole, but changed", ", ".join(changed)
    if not detail and busy > SECONDS:  # CPU time: other programs do not count
        verdict, detail = "slow", f"{busy:.1f} s"
    return Outcome(number, mutation.kind.strip(), verdict, checked, seconds, detail)


# ---- children and their supervisor


def work(base: Path, seed: int, numbers: range) -> None:
    """The child: try mutations and print one outcome per line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(copytree(base, Path(folder) / "own.zarr"))
        before = {name: use() for name, use in uses(path).items()}
        assert not fusiform.check(path).problems
        bound = _virtual_bytes() + BYTES
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
        for number in numbers:
            mutation = Mutation(path, random.Random(f"{seed} {number}"))
            try:
                outcome = try_out(path, before, number, mutation)
            finally:
                mutation.undo()
            print(json.dumps(asdict(outcome)), flush=True)
        print(json.dumps({"peak": peak_memory()}), flush=True)


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run(count: int, seed: int, start: int = 0, workers: int = 1) -> tuple[list[Outcome], int]:
    """Outcomes of ``count`` mutations, in order, and peak memory; ``workers`` children run at a
    time."""
    parts = [
        range(at, min(at + _BATCH, start + count)) for at in range(start, start + count, _BATCH)
    ]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        base = make(Path(folder) / "base.zarr")
        found = list(pool.map(lambda part: _all_of(base, seed, part), parts))
    return [one for outcomes, _ in found for one in outcomes], max(peak for _, peak in found)


def _all_of(base: Path, seed: int, numbers: range) -> tuple[list[Outcome], int]:
    """All of a range; if a child ends early, another continues after it."""
    outcomes: list[Outcome] = []
    peak = 0
    while len(outcomes) < len(numbers):
        at = numbers.start + len(outcomes)
        found, used, said, code = _watch(base, seed, at, numbers.stop)
        outcomes += found
        peak = max(peak, used)
        if (code or said or not found) and len(outcomes) < len(numbers):
            at = numbers.start + len(outcomes)
            outcomes.append(Outcome(at, "?", f"child left with {code}", "", 0, said[-3000:]))
        elif code or said:
            last = outcomes[-1]
            outcomes[-1] = replace(last, verdict=f"child left with {code}", detail=said[-3000:])
    return outcomes, peak


def _watch(base: Path, seed: int, start: int, stop: int) -> tuple[list[Outcome], int, str, int]:
    """Run one child: outcomes, peak memory, stderr and exit code."""
    command = [sys.executable, "-m", "tests.fuzz.stores", "--child", str(base), "--seed", str(seed),
               "--start", str(start), "--count", str(stop - start)]  # fmt: skip
    outcomes, peak = [], 0
    # Extra threads cost more than such small stores take.
    alone = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, cwd=_ROOT, env=alone
        ) as child,
    ):
        assert child.stdout is not None
        patience = 60.0  # until it has started
        while waiting.select([child.stdout], [], [], patience)[0]:
            line = child.stdout.readline()
            if not line:
                break
            found = json.loads(line)
            if "peak" in found:
                peak = found["peak"]
            else:
                outcomes.append(Outcome(**found))
            patience = 4 * SECONDS
        else:
            child.kill()
        code = child.wait()
        said.seek(0)
        return outcomes, peak, said.read(), code


def report(outcomes: list[Outcome], peak: int, seconds: float) -> str:
    """Outcomes as Markdown tables."""
    verdicts = ["result", "refused", *sorted({o.verdict for o in outcomes if o.failed})]
    checks = ["whole", "damaged", "refused"]
    lines = [
        f"{len(outcomes):,} mutated stores in {seconds:,.0f} s; slowest "
        f"{max(o.seconds for o in outcomes):.2f} s; peak memory {peak / 2**20:,.0f} MiB; "
        f"{sum(o.failed for o in outcomes)} failures.",
        "",
        "| mutation | stores | all uses gave a result | some were refused | failures "
        "| check: whole | damaged | refused |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in sorted({o.kind for o in outcomes}):
        own = [o for o in outcomes if o.kind == kind]
        by = Counter("failed" if o.failed else o.verdict for o in own)
        checked = Counter(o.checked for o in own)
        numbers = [len(own), by["result"], by["refused"], by["failed"], *map(checked.get, checks)]
        lines.append(f"| {kind} | " + " | ".join(f"{n or 0:,}" for n in numbers) + " |")
    failures = [f"{o.number} ({o.kind}): {o.verdict}\n{o.detail}" for o in outcomes if o.failed]
    return "\n".join([*lines, *(["", ", ".join(verdicts)] if failures else []), *failures[:20]])


def main() -> None:
    """Run the fuzzer and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        work(given.child, given.seed, range(given.start, given.start + given.count))
        return
    if given.only is not None:
        given.start, given.count = given.only, 1
    began = time.monotonic()
    outcomes, peak = run(given.count, given.seed, given.start, given.workers)
    print(report(outcomes, peak, time.monotonic() - began))
    sys.exit(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    main()
