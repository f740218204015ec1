"""Machine settings that can change the last bits of results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from ..machine import processor

# Variables that select instructions, and thereby the order of sums.
_ENVIRONMENT = (
    *("ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_DEFAULT_FPMATH_MODE"),
    *("DNNL_MAX_CPU_ISA", "DNNL_CPU_ISA_HINTS", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE"),
    *("MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
    *("NUMBA_CPU_FEATURES", "NUMBA_CPU_NAME", "NUMBA_ENABLE_AVX", "NUMBA_OPT"),
    *("NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE", "NUMBA_DISABLE_INTEL_SVML"),
    *("NVIDIA_TF32_OVERRIDE", "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
_LONGEST = 100


def machine() -> dict[str, Any]:
    """Properties of the machine on which last bits can depend, by name."""
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
        **{name: os.environ[name][:_LONGEST] if name in os.environ else None
           for name in _ENVIRONMENT},
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.enabled,  # type: ignore[attr-defined, unused-ignore]
    }  # fmt: skip
    with suppress(RuntimeError):  # if both of torch's interfaces for it were used
        found["float32 matmul precision"] = torch.get_float32_matmul_precision()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call, unused-ignore]
        found |= {
            "GPU": torch.cuda.get_device_name(),
            "cudnn": torch.backends.cudnn.enabled,
            "cudnn.benchmark": torch.backends.cudnn.benchmark,
            "cudnn.deterministic": torch.backends.cudnn.deterministic,
        }
    return found


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str] | None:
    """The differing settings of two machines in words, for each; None if they are equal."""
    names = [name for name in before if name in now and before[name] != now[name]]
    if not names:
        return None
    return _described(before, names), _described(now, names)


def _described(machine: Mapping[str, Any], names: list[str]) -> str:
    forms = {"threads": "{} threads", "instructions": "{} instructions", "processor": "{}"}
    texts = [
        forms[name].format(machine[name]) if name in forms
        else f"{name} unset" if machine[name] is None
        else f"{name} {str(machine[name]).lower()}" if isinstance(machine[name], bool)
        else f"{name}={machine[name]}" if name in _ENVIRONMENT
        else f"{name} {machine[name]}"
        for name in names
    ]  # fmt: skip
    return ", ".join(texts[:-1]) + (" and " if texts[1:] else "") + texts[-1]
