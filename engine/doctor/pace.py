"""Speed of a ResNet-18 and of decoding, with advice where either is slow enough to matter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import cycle, islice

from ..errors import UserError
from ..machine import control_group_limits, usable_cores
from ..spec import Network
from ..texts import duration
from .checks import Finding, found

# The network that is shown noise, in batches of so many images.
_NETWORK, _BATCH = "resnet18", 16
# JPEG files of the usual size, read several times.
_SIDE, _PER_CATEGORY, _DECODED = 256, 2, 192
# A set of so many images should not take longer than so many seconds.
_SET, _LONGEST = 10_000, 600
# Decoding below this share of the network's speed keeps it waiting; less is noise.
_KEEPS_UP = 0.9


def check_pace(device: str | None) -> Iterator[Finding]:
    """Images per second that a ResNet-18 takes on the device, and that are decoded for it."""
    import torch

    from ..bench.images import as_jpeg
    from ..decoding.ahead import default_workers
    from ..localizer import make_stimuli
    from ..networks.backbones import load_backbone
    from ..networks.placement import device_for, place
    from ..scanning.memory import recycled
    from ..scanning.timing import measure_decoding, seconds_per_batch

    try:
        target = device_for(device)
    except UserError:  # the check of devices has said so
        return
    backbone = load_backbone(Network(_NETWORK, weights="none"))
    preprocessing, model = backbone.preprocessing, place(backbone.model, target)
    noise = torch.rand(_BATCH, 3, preprocessing.crop, preprocessing.crop, device=target)
    with recycled(), torch.inference_mode():
        network = _BATCH / seconds_per_batch(lambda: model(noise), target)
    yield judge_network(network, str(target))
    with tempfile.TemporaryDirectory() as folder:
        drawn = make_stimuli(folder, per_category=_PER_CATEGORY, size=_SIDE)
        paths = list(islice(cycle([as_jpeg(path) for path in drawn]), _DECODED))
        decoding = measure_decoding(paths, preprocessing, default_workers())
    cores = int(usable_cores(control_group_limits()))
    yield judge_decoding(decoding.rate, decoding.workers, network, cores)


def judge_network(rate: float, device: str) -> Finding:
    """Images per second of a ResNet-18."""
    taken = duration(_SET / rate)
    slow = _SET / rate > _LONGEST
    advice = f"{_SET:,} images take a ResNet-18 {taken} here, larger networks longer: use a GPU"
    return found("network", f"ResNet-18 on {device}: {rate:,.0f} images/s", advice if slow else "")


def judge_decoding(rate: float, workers: int, network: float, cores: int) -> Finding:
    """Images per second that ``workers`` decode, beside those of a ``network``."""
    slow = rate < _KEEPS_UP * network
    more = f"decode with more threads (`decode_workers={cores}`), or " if workers < cores else ""
    advice = (
        f"a ResNet-18 waits for images: {more}decode each set once with 'fusiform stimuli pack'"
    )
    text = f"{rate:,.0f} JPEG images/s of {_SIDE} x {_SIDE} pixels by {workers} threads"
    return found("decoding", text, advice if slow else "")
