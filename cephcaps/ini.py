r"""Ceph's INI dialect, in which ceph.conf and keyrings are written.

It is not configparser's. A comment runs from a bare ``#`` or ``;`` to the end of the line, also after a value; a
backslash takes the next character as it is, and before a line's end joins the next line on. A value may stand in
single or double quotes. In keys a run of blanks is one underscore, while dashes, escapes and upper case stay as
written. The last of several equal keys wins; sections of one name are one section.

Where ``ceph-conf`` (16.2.15) takes a file, the values here are its values; tests hold the two together. Also taken
here, though refused there: a last line without its newline, blanks before ``[``, a bare ``#`` or ``;`` inside quotes,
and several lines before the first section, which count as ``[global]``.
"""

from __future__ import annotations

import re

from cephcaps.errors import ConfigError

__all__ = ["normal_key", "parse_ini"]

_SPACES = " \t\n\v\f\r"
"""What C's isspace() trims off keys and values; str.strip() alone would also take Unicode's spaces."""

# The branches of every repeat start with different characters, so there is one way to match and it takes linear time.
# None is possessive: Python 3.11.2, which Debian 12 has, misses matches with those.
_EOL = r"(?:\r\n|\r|\n)"
_JOINED = rf"\\{_EOL}"
_ESCAPED = rf"{_JOINED}|\\[^\r\n]"
_LINE_END = re.compile(_EOL)
_BLANKS = re.compile(rf"(?:{_JOINED})*[ \t]*(?:{_JOINED})*")  # a quote after more of them opens no quoted value
_REST = re.compile(rf"(?:[#;][^\r\n]*)?(?:{_EOL}|\Z)")
_SECTION = re.compile(rf"\[((?:{_ESCAPED}|[^\]\\\r\n#;])+)\]")
_WORD = r"(?:\\[^\r\n]|[^=\\\r\n#; \t])+"
_GAP = rf"(?:{_JOINED}|[ \t])"
_KEY = re.compile(rf"{_GAP}*({_WORD}(?:{_GAP}+{_WORD})*){_GAP}*=")
_BARE = re.compile(rf"((?:{_ESCAPED}|[^\\\r\n#;])*)")
_QUOTED = {quote: re.compile(rf"{quote}((?:{_ESCAPED}|[^{quote}\\\r\n])*){quote}") for quote in "\"'"}
_ESCAPE = re.compile(rf"{_JOINED}|\\(.)")


def parse_ini(text: str, source: str) -> dict[str, dict[str, str]]:
    """The sections of ``text``, each a mapping of normal keys to values; ``global`` is always there.

    Args:
        source: the file's name, for messages.
    Raises:
        ConfigError: a line that is neither section, ``key = value``, comment nor blank. The message gives its number
            and never its text, which may hold a key.
    """
    section: dict[str, str] = {}
    sections = {"global": section}
    pos = 0

    def take(pattern: re.Pattern[str], otherwise: str) -> re.Match[str]:
        nonlocal pos
        if (found := pattern.match(text, pos)) is None:
            line = sum(1 for _ in _LINE_END.finditer(text, 0, pos)) + 1
            raise ConfigError(f"{source}, line {line}: {otherwise}")
        pos = found.end()
        return found

    def skip_blanks() -> None:
        take(_BLANKS, "")  # matches anywhere

    while pos < len(text):
        skip_blanks()
        if _REST.match(text, pos):
            after = ""
        elif text[pos] == "[":
            name = take(_SECTION, "a section is written [name], with any # and ; after a backslash")[1]
            section = sections.setdefault(_unescape(name), {})
            after = "there is text after the section's ]"
        else:
            key = normal_key(take(_KEY, "neither [section] nor `key = value` nor a comment")[1])
            skip_blanks()
            quoted = _QUOTED.get(text[pos : pos + 1])
            value = take(quoted or _BARE, "the value's opening quote has no closing one")[1]
            section[key] = _unescape(value).strip(_SPACES)
            after = "there is text after the value's closing quote" if quoted else "a backslash ends the file"
        skip_blanks()
        take(_REST, after)
    return sections


def normal_key(key: str) -> str:
    """``key`` as options are looked up: blanks around it dropped, each run of blanks inside it one underscore."""
    return re.sub(rf"[{_SPACES}]+", "_", key.strip(_SPACES))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda found: found[1] or "", text)
