"""URLs that may hold credentials: a user name and password, a signature or token in the query.

Credentials are never shown or stored. A :class:`Url` is opened with them but reads without them;
foreign text, such as an error that quotes a URL, passes through :func:`without_credentials`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from urllib.parse import unquote

IS_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# ``Path`` drops a slash of a URL. File URLs and drive letters are not matched.
_SCHEME = r"""
    (?P<scheme> (?<![a-z0-9]) (?!file:)
        (?: [a-z][a-z0-9+.-]+:// | (?: https? | s3a? | gs | az | tcp | tls ):/ ) )
"""
# User and password end at the last @ before the path, or beyond it where no port follows the colon:
# a password may hold a slash.
_USER = r"""
    (?P<user> (?: [^{ends}/?\#]*
        | [^{ends}/?\#:@[]* : (?! \d* (?: [{ends}/?\#] | $ ) ) [^{ends}]* ) @ )?
"""
_REST = r"(?P<rest> [^{ends}?\#]* ) (?P<query> [?\#] [^{ends}]* )?"
_FLAGS = re.VERBOSE | re.IGNORECASE
_WHOLE = re.compile((_SCHEME + _USER + _REST).replace("{ends}", r"\0"), _FLAGS)
# In a text, a URL ends at a blank, a quote or a bracket.
_WITHIN = re.compile((_SCHEME + _USER + _REST).replace("{ends}", r"\s\0\"'<>`"), _FLAGS)


class Url(str):
    """A URL whose text lacks its credentials; :meth:`opened` adds them back."""

    _query: str
    _user: str

    def __new__(cls, text: str) -> Url:
        """Split credentials from a URL; a ``Url`` is returned as it is."""
        if isinstance(text, Url):
            return text
        parts = _WHOLE.match(text)
        assert parts, f"{text!r} is no URL"
        found = super().__new__(cls, (parts["scheme"] + parts["rest"]).rstrip("/"))
        found._user, found._query = parts["user"] or "", parts["query"] or ""
        return found

    def opened(self) -> tuple[str, dict[str, str]]:
        """The URL with its query, and request headers with the user name and password."""
        url = f"{self}{self._query.partition('#')[0]}"
        if not self._user or not self.lower().startswith("http"):
            return url, {}
        user = unquote(self._user.removesuffix("@"))
        return url, {"authorization": f"Basic {b64encode(user.encode()).decode()}"}


def without_credentials(text: str) -> str:
    """Remove user names, passwords and queries from the URLs in a text."""
    if ":/" not in text:
        return text
    return _WITHIN.sub(lambda url: url["scheme"] + url["rest"], text)


def strip_credentials(value: Any) -> Any:
    """Remove credentials from the URLs in plain JSON values."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {strip_credentials(name): strip_credentials(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [strip_credentials(inner) for inner in value]
    return value
