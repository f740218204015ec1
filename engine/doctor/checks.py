"""Checks of versions, devices, threads, memory and disk, with advice where one falls short."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement

from .. import machine
from ..disk import flush_descriptor, flush_path, note_limitations
from ..errors import UserError, first_line
from ..texts import in_bytes

# A library that does not fit another one fails to load.
_LOADED = ("torch", "torchvision", "numba", "PIL")
_SHOWN = ("torch", "torchvision", "timm", "numpy", "numba", "dask", "zarr", "xarray")
_VECTORS = ("AVX", "NEON", "SVE", "VSX", "ZVECTOR", "RVV")
_THREADING = ("OMP_", "GOMP_", "KMP_", "MKL_", "NUMBA_NUM", "NUMBA_THREADING")
_OPENMP = re.compile(r"\S*/lib(?:gomp|iomp5|omp)\b\S*")
_OVER_NETWORK = re.compile(r"9p|afs|beegfs|cifs|(fuse\.)?(ceph|glusterfs|s3fs|sshfs)|gpfs|lustre|"
                           r"nfs4?|orangefs|smb[23s]?(fs)?|wekafs")  # fmt: skip
_LITTLE_MEMORY, _LITTLE_DISK = 2 * 2**30, 2**30
# The output is tried with so many bytes, in pieces, for so many seconds at most.
_WRITTEN, _PIECE, _LONGEST = 64 * 2**20, 8 * 2**20, 5.0
_SLOW = 50e6  # bytes per second


@dataclass(frozen=True)
class Finding:
    """A fact about this machine, as :func:`fusiform.doctor` yields it.

    Attributes
    ----------
    topic : str
        The thing checked.
    found : str
        The fact.
    advice : str
        One line of advice; empty if all is well.
    severity : str
        ``ok``, ``advice``, ``fault`` (no scan can work) or ``unknown`` (could not be checked).
    """

    topic: str
    found: str
    advice: str = ""
    severity: Literal["ok", "advice", "fault", "unknown"] = "ok"


def found(topic: str, text: str, advice: str = "") -> Finding:
    """A finding that is well without ``advice``."""
    return Finding(topic, text, advice, "advice" if advice else "ok")


# Versions


def check_versions() -> Iterator[Finding]:
    """Installed versions, those older than required, and libraries that do not load."""
    distribution = metadata.distribution("fusiform")
    yield judge_place(Path(__file__).parents[2], installed_in(distribution))
    python = f"python{distribution.metadata['Requires-Python']}"
    required = [python, *(distribution.requires or [])]
    yield from judge_versions(required, _installed(required))
    for name in _LOADED:
        try:
            import_module(name)
        except Exception as error:
            said = f"does not load: {type(error).__name__}: {first_line(error)}"
            yield Finding(name, said, f"reinstall {name} and what it was built against", "fault")


def judge_place(imported: Path, installed: Path) -> Finding:
    """The imported fusiform; a clone in the working directory hides the installed one."""
    versions = f"{metadata.version('fusiform')}, Python {platform.python_version()}"
    hidden = imported != installed and imported.parent == Path.cwd()
    advice = f"this folder hides what is installed in {installed}: start elsewhere, or python -P"
    return found("fusiform", f"{versions}, from {imported}", advice if hidden else "")


def installed_in(distribution: metadata.Distribution) -> Path:
    """The folder of the installed package, or the one that an editable install points to."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(url2pathname(urlsplit(origin["url"]).path))
    return Path(str(distribution.locate_file("fusiform")))


def _installed(required: Iterable[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in {Requirement(text).name for text in required} - {"python"}:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def judge_versions(required: Iterable[str], installed: Mapping[str, str]) -> Iterator[Finding]:
    """Requirements (``numpy>=2``) against versions by name; optional ones are skipped."""
    shown = [f"{name} {installed[name]}" for name in _SHOWN if name in installed]
    yield Finding("libraries", ", ".join(shown) or "none")
    for text in required:
        wanted = Requirement(text)
        version = installed.get(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        if version and wanted.specifier.contains(version, prereleases=True):
            continue
        install = f"{sys.executable} -m pip install --upgrade '{wanted.name}{wanted.specifier}'"
        yield Finding(
            wanted.name,
            f"{version or 'missing'}; fusiform needs {wanted.specifier}",
            "use a newer Python" if wanted.name == "python" else install,
            "fault",
        )


# Devices


def check_devices(device: str | None) -> Iterator[Finding]:
    """The processor, every GPU, and the device that a scan would take."""
    import torch

    from ..networks.placement import device_for, has_float64

    yield judge_processor(machine.processor(), torch.backends.cpu.get_cpu_capability())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus:
        driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()
        reason = str(said[0].message).partition("\n")[0] if said else ""
        yield judge_no_gpu(driver, torch.version.cuda or torch.version.hip, reason)
    for index in range(gpus):
        yield _gpu(index)
    try:
        chosen = device_for(device)
        adds_up = "float64 works" if has_float64(chosen) else "no float64: the CPU adds up moments"
        yield Finding("device", f"{chosen}, {adds_up}")
    except UserError as error:
        said_of = f"{device or 'the default one'} cannot be used"
        yield Finding("device", said_of, str(error), "fault")


def judge_processor(name: str, instructions: str) -> Finding:
    """The processor, and the instructions that torch uses (``AVX512``, ``DEFAULT``)."""
    slow = platform.machine() in ("x86_64", "AMD64") and not instructions.startswith(_VECTORS)
    advice = "torch finds no vector instructions: networks take several times as long here"
    return found("processor", f"{name}, torch uses {instructions}", advice if slow else "")


def judge_no_gpu(driver: bool, built_for: str | None, reason: str) -> Finding:
    """Why no GPU can be used: no driver, a torch without one, or torch's ``reason``."""
    if not driver:
        return Finding("GPU", "none")
    if built_for is None:
        install = "install torch for CUDA: pytorch.org"
        return found("GPU", "present, but this torch was built without", install)
    why = f"see that driver and torch (CUDA {built_for}) match: {reason or 'torch gives no reason'}"
    return found("GPU", "present, but torch cannot use it", why)


def _gpu(index: int) -> Finding:
    import torch

    from ..moments.accumulate import kernels_for

    device, topic = torch.device("cuda", index), f"GPU {index}"
    try:
        free, total = torch.cuda.mem_get_info(device)
        name = f"{torch.cuda.get_device_name(device)}, {in_bytes(free)} of {in_bytes(total)} free"
        triton = kernels_for(device).__name__.endswith("cuda")
        return judge_gpu(topic, name, triton, torch.cuda.get_device_capability(device))
    except Exception as error:  # another program holds it, Triton does not load
        return found(topic, f"does not answer: {first_line(error)}", "scan on the CPU")


def judge_gpu(topic: str, name: str, triton: bool, capability: tuple[int, int]) -> Finding:
    """A GPU and the kernel that accumulates moments on it."""
    if triton:
        return Finding(topic, f"{name}, Triton kernel")
    advice = "install triton: its kernel takes less time and memory than torch's"
    if capability < (8, 0):
        advice = f"no Triton kernel for compute capability {capability[0]}.{capability[1]}"
    return found(topic, f"{name}, torch kernel", advice)


# Threads


def check_threads() -> Iterator[Finding]:
    """Cores, threads of torch and numba, and the runtimes that start them."""
    import numpy as np
    import torch
    from numba import config

    from ...kernels.cpu import read_memory
    from ...kernels.jit import threading_layer

    torch.ones(2**16).sum()  # both libraries start their threads at the first work
    read_memory(np.ones(2**16, np.int64))
    cores = machine.usable_cores(machine.control_group_limits())
    of_numba: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    yield judge_threads(cores, torch.get_num_threads(), of_numba, os.environ)
    maps = Path("/proc/self/maps")
    loaded = maps.read_text() if maps.exists() else ""
    yield judge_runtimes(loaded, threading_layer() or "unknown", os.environ)


def judge_threads(
    cores: float, of_torch: int, of_numba: int, environment: Mapping[str, str]
) -> Finding:
    """Usable cores, numbers of threads, and the variables that set them."""
    variables = [f"{k}={v}" for k, v in environment.items() if v and k.startswith(_THREADING)]
    text = ", ".join([f"{cores:g} cores, torch {of_torch}", f"numba {of_numba}", *variables])
    most, advice = max(1, math.floor(cores)), ""
    both = f"OMP_NUM_THREADS={most} NUMBA_NUM_THREADS={most}"
    if max(of_torch, of_numba) > math.ceil(cores):
        advice = f"more threads than cores slow each other down: set {both}"
    elif of_torch < cores / 2:
        advice = f"cores are left idle: set {both}, or unset what limits threads"
    elif of_numba < of_torch:
        advice = f"numba has fewer threads than torch: set NUMBA_NUM_THREADS={most}"
    return found("threads", text, advice)


def openmp_runtimes(maps: str) -> list[str]:
    """File names of the OpenMP runtimes in ``/proc/self/maps``, one for each that is loaded."""
    return sorted(PurePosixPath(path).name for path in set(_OPENMP.findall(maps)))


def judge_runtimes(maps: str, layer: str, environment: Mapping[str, str]) -> Finding:
    """Numba's threading layer, and the OpenMP runtimes in ``/proc/self/maps``."""
    loaded = f"numba's layer {layer}, OpenMP: {', '.join(openmp_runtimes(maps)) or 'none found'}"
    remedy = "install GNU OpenMP (Debian, Ubuntu: apt install libgomp1)"
    if environment.get("NUMBA_THREADING_LAYER") == layer:
        remedy = "unset NUMBA_THREADING_LAYER"
    slow = layer == "workqueue"
    return found("thread pools", loaded, f"threads take turns to run kernels: {remedy}" * slow)


# Memory


def check_memory() -> Iterator[Finding]:
    """Free and total memory, and whether freed blocks of it are used again."""
    yield judge_memory(machine.memory(machine.control_group_limits()), os.environ)


def judge_memory(known: machine.Memory | None, environment: Mapping[str, str]) -> Finding:
    """Memory, and variables that configure glibc's allocator: a scan leaves it alone then."""
    set_up = sorted(k for k in environment if k.startswith(("MALLOC_", "GLIBC_TUNABLES")))
    cost = "freed memory is not used again, and a pass on the CPU takes longer: unset "
    advice = [cost + ", ".join(set_up)] if set_up else []
    if known is None:
        return Finding("memory", "not reported by this system", "; ".join(advice), "unknown")
    if known.available < _LITTLE_MEMORY:
        advice.insert(0, "little is free: scan in smaller batches")
    limit = "" if known.limit is None else f", limited to {in_bytes(known.limit)}"
    free = f"{in_bytes(known.available)} of {in_bytes(known.total)} free"
    return found("memory", free + limit, "; ".join(advice))


# Disk


def check_output(output: str) -> Iterator[Finding]:
    """The output's folder: writable, how fast, how much is free, on which file system."""
    if "://" in output and not output.startswith("file://"):
        yield Finding("output", f"{output}: an object store, not tried", severity="unknown")
        return
    folder = folder_for(Path(output.removeprefix("file://")))
    lacking: list[str] = []
    try:
        with note_limitations(lacking.append, folder):
            speed = write_speed(folder)
            flush_path(folder)
    except OSError as error:
        said = f"{folder} cannot be written to ({error.strerror or error})"
        yield Finding("output", said, "choose a folder with some GiB free", "fault")
        return
    free = shutil.disk_usage(folder).free
    yield judge_output(folder, machine.file_system(folder), speed, free)
    for one in lacking:
        yield found("file system", "cannot do everything", one)


def folder_for(output: Path) -> Path:
    """The existing folder in which ``output``, a store or a folder of stores, would be."""
    place = output.expanduser().resolve()
    if (place / "zarr.json").exists() or place.suffix == ".zarr":
        place = place.parent
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def write_speed(folder: Path) -> float:
    """Bytes per second of a temporary file, written and synced."""
    content, written = os.urandom(_PIECE), 0  # no file system can compress it
    with tempfile.TemporaryFile(dir=folder) as file:
        started = time.perf_counter()
        while written < _WRITTEN and time.perf_counter() - started < _LONGEST:
            file.write(content)
            file.flush()
            flush_descriptor(file.fileno(), folder)
            written += len(content)
        return written / (time.perf_counter() - started)


def judge_output(folder: Path, kind: str | None, speed: float, free: int) -> Finding:
    """A folder, its file system, the speed of writing to it in bytes per second, free bytes."""
    advice = []
    if free < _LITTLE_DISK:
        advice.append("a store takes from some MiB to some GiB: make room")
    if speed < _SLOW:
        advice.append("moments are written at this speed: write to a local disk, copy the store")
    if kind and _OVER_NETWORK.fullmatch(kind):
        advice.append("over a network, locks and renames may be late: let one machine write")
    if kind in ("tmpfs", "ramfs"):
        advice.append("a store here takes memory, and is lost when the machine stops")
    where = f"{folder} ({kind or 'unknown file system'})"
    text = f"{where}: {in_bytes(free)} free, {speed / 1e6:,.0f} MB/s"
    return found("output", text, "; ".join(advice))


def check_cache() -> Iterator[Finding]:
    """The folder of compiled kernels."""
    from ...kernels import jit

    try:
        yield Finding("compiled kernels", f"kept in {jit.cache_folder()}")
    except OSError as error:
        said = f"{error.filename} cannot be written to ({error.strerror or error})"
        remedy = "every start compiles for seconds: set NUMBA_CACHE_DIR to a writable folder"
        yield found("compiled kernels", said, remedy)
