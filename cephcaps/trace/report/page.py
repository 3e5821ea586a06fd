"""A report as one HTML page that needs nothing else: no server, no network, no library.

Names out of a capture are hostile. They go into the page as JSON, in which nothing can end the element that holds it,
and the page's script only ever makes text of them. Should a way past that be found, the page's own policy lets no
script run but this one, known by its hash, and nothing be loaded or sent.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib.resources import files
from typing import Any, Final

import msgspec

from cephcaps.trace.report.data import Data

__all__ = ["as_text", "page"]

SCRIPTS: Final = ("data", "lanes", "detail", "input", "sequence", "charts", "tables", "main")
"""In the order in which they need each other."""
UNSAFE: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What means something to HTML, or ends a line of script, and how JSON spells it."""


def page(data: Data) -> bytes:
    """The page, in UTF-8.

    Args:
        data: what `report_data` made.
    """
    style = _asset("style.css")
    script = '"use strict";\n(() => {\n' + "".join(_asset(f"{name}.js") for name in SCRIPTS) + "})();\n"
    parts = {
        "policy": f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; "
        "form-action 'none'",
        "title": html.escape(f"Caps in {shown(data['file'])}"),
        "style": style,
        "script": script,
        "data": as_json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html")).encode()


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text("utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_json(data: Data) -> str:
    """``data`` as JSON that may stand in HTML, names in it as they are shown."""
    text = msgspec.json.encode(as_text(data)).decode()
    return re.sub("[<>&\u2028\u2029]", lambda found: UNSAFE[found[0]], text)


def as_text(value: Any) -> Any:
    r"""``value`` with each text that is not printable spelled out: ``\n``, ``\xff``, ``\u202e``."""
    if isinstance(value, str):
        return value if value.isprintable() else shown(value)
    if isinstance(value, dict):
        return {as_text(key): as_text(below) for key, below in value.items()}
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return [as_text(below) for below in value]
    return value


def shown(text: str) -> str:
    return "".join(char if char.isprintable() else _spelled(char) for char in text)


def _spelled(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode()
