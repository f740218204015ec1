"""Safe embedding in the page: escaped JSON, and a policy that runs no other script."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Any

from markupsafe import Markup

# Characters that may end a script element, begin markup, or end a line in older JavaScript, as
# equivalent JSON escapes.
_IN_SCRIPTS = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def json_block(value: Any) -> Markup:
    """JSON that is safe inside a script element; ASCII without spaces.

    Raises
    ------
    ValueError : a number is not finite
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(_IN_SCRIPTS))


def policy(script: str, style: str) -> str:
    """A Content-Security-Policy that allows this script and style sheet only."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
