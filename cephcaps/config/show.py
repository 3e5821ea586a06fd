"""How a text that came from outside stands in a message: quoted, on one line, short, and with no key in it."""

from __future__ import annotations

import re

__all__ = ["shown", "without_keys"]

_LONGEST = 120

_KEY = re.compile(r"A[Qg][A-D][A-Za-z0-9+/]{20,}={0,2}")
"""What a key's base64 looks like: the type, 1 or 2, fills its first 16 bits (ceph: CryptoKey::encode)."""


def shown(text: str) -> str:
    """``text`` for a message; something that looks like a key, say one given for a file's name, is left out."""
    text = without_keys(text)
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def without_keys(text: str) -> str:
    """``text`` with what looks like a key left out."""
    return _KEY.sub("(a key)", text)
