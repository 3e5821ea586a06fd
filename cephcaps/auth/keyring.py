"""Keyrings: which key each entity has.

A keyring is a file of Ceph's INI dialect with one section an entity and its key in base64. The ``caps`` lines and the
old ``auid`` are the monitor's business and skipped. A file that holds base64 and nothing else is a keyfile instead.
"""

from __future__ import annotations

import base64
import binascii

from cephcaps.errors import ConfigError
from cephcaps.ini import parse_ini

__all__ = ["KeyText", "parse_keyring"]


class KeyText:
    """A key in base64, as keyrings write it, that no repr, log or format string shows.

    Attributes:
        exposed: the file that it was read from and that file's mode, where everybody may read it; else empty.
    Raises:
        ConfigError: the text is not base64; what it stands for is not looked at here.
    """

    __slots__ = ("_text", "exposed")

    def __init__(self, text: str, source: str) -> None:
        self._text = text.strip()
        self.exposed: str = ""
        try:
            empty = not base64.b64decode(self._text, validate=True)
        except (binascii.Error, ValueError):
            empty = True
        if empty:
            raise ConfigError(f"{source} holds no usable key: a key is base64, 40 or 60 characters that begin AQ or Ag")

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, KeyText) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "KeyText(...)"


def parse_keyring(text: str, source: str) -> dict[str, KeyText]:
    """The key of each entity, such as "client.admin", in the keyring ``text``; entities without one are left out.

    Args:
        source: the file's name, for messages.
    Raises:
        ConfigError: not a keyring, or a key that is not base64. No message holds a key.
    """
    sections = parse_ini(text, source)
    return {
        entity: KeyText(values["key"], f"{source} [{entity}]")
        for entity, values in sections.items()
        if "key" in values and entity != "global"  # a key before any section belongs to nobody
    }
