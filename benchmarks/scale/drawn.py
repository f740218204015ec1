"""Pictures and networks that the benchmarks of size draw: many layers, many categories, or both.

Networks are named ``benchmarks.scale.drawn:deep``, and ``waves_LAYERS_UNITS`` of any numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Sides of the pictures of the ladder, and of the smaller cases.
LADDER_SIDE, SIDE = 8, 32


def draw_set(folder: Path, categories: int, each: int, side: int, alike: bool = True) -> Path:
    """Draw ``each`` pictures of so many categories; nothing if they are there.

    Those of a category are ``alike``, or all are noise, so that no unit is selective.
    """
    if folder.exists():
        return folder
    drawn = folder.with_name(f"{folder.name}.partial")
    for k in range(categories):
        (drawn / f"c{k:04d}").mkdir(parents=True, exist_ok=True)
        typical = (
            np.random.default_rng(k).integers(0, 256, (8, 8, 3))
            if alike
            else np.full((8, 8, 3), 128)
        )
        typical = np.kron(typical, np.ones((side // 8, side // 8, 1)))
        for i in range(each):
            noise = np.random.default_rng([k, i]).normal(0, 40, typical.shape)
            picture = np.clip(typical + noise, 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(drawn / f"c{k:04d}" / f"{i:03d}.png", compress_level=1)
    return drawn.rename(folder)


def small() -> tuple[Any, Any]:
    """Five layers, 4,352 units."""
    from torch import nn

    return _made(
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        SIDE,
    )  # fmt: skip


def deep() -> tuple[Any, Any]:
    """300 residual blocks of 4,096 units: 902 modules."""
    import torch
    from torch import nn

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(300)
            )
            self.fc = nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = x + 0.1 * block(x)
            return self.fc(x.mean((2, 3)))

    return _made(Deep, SIDE)


def _waves(layers: int, units: int) -> tuple[Any, Any]:
    """So many layers of so many units, whose forward pass is cheap: pixels, changed a little."""
    import torch
    from torch import nn

    class Wave(nn.Module):
        def __init__(self, phase: float) -> None:
            super().__init__()
            self.phase = phase

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 0.1 * torch.sin(x + self.phase)

    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pixels = torch.randint(3 * LADDER_SIDE**2, (units,))
            self.register_buffer("pixels", pixels)
            self.layers = nn.ModuleList(Wave(float(i)) for i in range(layers))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(1)[:, self.pixels]
            for layer in self.layers:
                x = layer(x)
            return x

    return _made(Waves, LADDER_SIDE)


def _made(network: Callable[[], Any], side: int) -> tuple[Any, Any]:
    import torch

    import fusiform

    torch.manual_seed(0)
    return network().eval(), fusiform.Preprocessing(resize=side, crop=side)


def __getattr__(name: str) -> Callable[[], tuple[Any, Any]]:
    """``waves_LAYERS_UNITS``, a network by its numbers."""
    numbers = re.fullmatch(r"waves_(\d+)_(\d+)", name)
    if not numbers:
        raise AttributeError(name)
    layers, units = map(int, numbers.groups())
    return lambda: _waves(layers, units)
