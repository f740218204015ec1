"""URLs that may hold credentials: a user's name and password, a signature or token in the query.

None is shown or kept. A :class:`Url` is opened as it was given, and is a text without them; texts
of others, such as an error that quotes a URL, pass through :func:`without_credentials`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from urllib.parse import unquote

IS_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# A path that was a URL has lost a slash. That of a file is none, nor is a drive, of one letter.
_SCHEME = r"""
    (?P<scheme> (?<![a-z0-9]) (?!file:)
        (?: [a-z][a-z0-9+.-]+:// | (?: https? | s3a? | gs | az | tcp | tls ):/ ) )
"""
# Up to the last @ of the host's part; beyond it where what follows the colon is no port, as where a
# password holds a slash.
_USER = r"""
    (?P<user> (?: [^{ends}/?\#]*
        | [^{ends}/?\#:@[]* : (?! \d* (?: [{ends}/?\#] | $ ) ) [^{ends}]* ) @ )?
"""
_REST = r"(?P<rest> [^{ends}?\#]* ) (?P<query> [?\#] [^{ends}]* )?"
_FLAGS = re.VERBOSE | re.IGNORECASE
_WHOLE = re.compile((_SCHEME + _USER + _REST).replace("{ends}", r"\0"), _FLAGS)
# Where a URL ends in a text.
_WITHIN = re.compile((_SCHEME + _USER + _REST).replace("{ends}", r"\s\0\"'<>`"), _FLAGS)


class Url(str):
    """A URL, as a text without its credentials; :meth:`opened` opens it with them."""

    _query: str
    _user: str

    def __new__(cls, text: str) -> Url:
        """Take credentials out of a URL, or give back one without them."""
        if isinstance(text, Url):
            return text
        parts = _WHOLE.match(text)
        assert parts, f"{text!r} is no URL"
        found = super().__new__(cls, (parts["scheme"] + parts["rest"]).rstrip("/"))
        found._user, found._query = parts["user"] or "", parts["query"] or ""
        return found

    def opened(self) -> tuple[str, dict[str, str]]:
        """The URL with its query, and headers with the name and password, to ask a server."""
        url = f"{self}{self._query.partition('#')[0]}"
        if not self._user or not self.lower().startswith("http"):
            return url, {}
        user = unquote(self._user.removesuffix("@"))
        return url, {"authorization": f"Basic {b64encode(user.encode()).decode()}"}


def without_credentials(text: str) -> str:
    """A text in which URLs have neither a user's name and password nor a query."""
    if ":/" not in text:
        return text
    return _WITHIN.sub(lambda url: url["scheme"] + url["rest"], text)


def none_in(value: Any) -> Any:
    """Plain JSON values in whose texts no URL has credentials."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {none_in(name): none_in(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [none_in(inner) for inner in value]
    return value
