"""Devices: the processor, GPUs and the kernels that they get, and what cannot be used."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..machine import processor
from .finding import Finding, found, size

_VECTORS = ("AVX", "NEON", "SVE", "VSX", "ZVECTOR", "RVV")


def check_devices(device: str | None) -> Iterator[Finding]:
    """The processor, every GPU, and whether the device that a scan would take can be used."""
    import torch

    from ..errors import UserError
    from ..networks.placement import device_for

    yield judge_processor(processor(), torch.backends.cpu.get_cpu_capability())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    reason = str(said[0].message) if said else ""
    gpus = range(torch.cuda.device_count() if available else 0)
    if not gpus:
        yield judge_no_gpu(_driver(), torch.version.cuda or torch.version.hip, reason)
    for index in gpus:
        yield _gpu(index)
    if torch.backends.mps.is_available():
        yield Finding("MPS", "there, and not used: it knows no float64, which moments are kept in")
    try:
        target = device_for(device)
    except UserError as error:
        yield Finding(
            "device", f"{device or 'the default one'} cannot be used", str(error), "fault"
        )
    else:
        yield Finding("device", f"{target}, float64 works")


def judge_processor(name: str, instructions: str) -> Finding:
    """The processor, and the instructions that torch uses of it (``AVX512``, ``DEFAULT``)."""
    slow = not instructions.upper().startswith(_VECTORS) and platform.machine() in (
        "x86_64",
        "AMD64",
    )
    advice = "torch finds no vector instructions: networks take several times as long here"
    return found("processor", f"{name}, torch uses {instructions}", advice if slow else "")


def judge_no_gpu(driver: bool, built_for: str | None, reason: str) -> Finding:
    """Why there is no GPU: no driver, a torch without one, or what torch says (``reason``)."""
    if not driver:
        return Finding("GPU", "none")
    if built_for is None:
        return found(
            "GPU", "there, but this torch was built without", "install torch for CUDA: pytorch.org"
        )
    why = reason.partition("\n")[0] or "torch does not say why"
    return found(
        "GPU",
        "there, but torch cannot use it",
        f"see that driver and torch (CUDA {built_for}) match: {why}",
    )


def _driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()


def _gpu(index: int) -> Finding:
    import torch

    from ..moments.accumulate import kernels_for

    topic = f"GPU {index}"
    try:
        device = torch.device("cuda", index)
        free, total = torch.cuda.mem_get_info(device)
        kernels = kernels_for(device).__name__.rpartition(".")[2]
        capability = torch.cuda.get_device_capability(device)
    except Exception as error:  # a GPU that another program keeps, a Triton that does not load
        said = str(error).partition("\n")[0]
        return Finding(topic, f"could not be asked: {said}", 'scan with `device="cpu"`', "advice")
    name = f"{torch.cuda.get_device_name(device)}, {size(free)} of {size(total)} free"
    return judge_gpu(topic, name, kernels == "cuda", capability)


def judge_gpu(topic: str, name: str, triton: bool, capability: tuple[int, int]) -> Finding:
    """A GPU and the kernel that moments are accumulated with on it."""
    if triton:
        return Finding(topic, f"{name}, Triton kernel")
    old = f"compute capability {capability[0]}.{capability[1]} is below 8.0: the Triton kernel"
    return found(
        topic,
        f"{name}, torch kernel",
        f"{old} was not made for it, and torch's takes longer"
        if capability < (8, 0)
        else "install triton: its kernel takes less time and memory than torch's",
    )
