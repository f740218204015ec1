"""What stands inside the page: data that nothing can end early, a script that alone may run."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Any

from ..markup import Markup

# What ends a script, begins markup, or ends a line for some readers of JavaScript: as escapes that
# JSON reads the same.
_IN_SCRIPTS = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def json_block(value: Any) -> Markup:
    """JSON for a script element, whatever its texts hold; in ASCII, without spaces.

    Raises
    ------
    ValueError : a number is not finite, which JSON has no name for
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(_IN_SCRIPTS))


def policy(script: str, style: str) -> str:
    """A Content-Security-Policy under which a page runs this script and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
