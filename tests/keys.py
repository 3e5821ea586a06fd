"""Keys must not be seen: every one that the test process meets is looked for in whatever a test leaves behind.

Searched are reports (captured stdout, stderr, logs, tracebacks), what our commands print, and recordings of live tests.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cephcaps.auth.crypto import CryptoKey

__all__ = ["KEYS", "Keys", "check_report", "watch"]

MOST: Final = 4096
"""Keys that are looked for: the newest."""
DISTINCT: Final = 10
"""Different bytes of a secret that is one: tests also make keys of zeros and of letters."""


class Keys:
    """Secrets, in each form in which one would be seen."""

    def __init__(self) -> None:
        self._forms: dict[bytes, tuple[bytes, ...]] = {}

    def add(self, secret: bytes) -> None:
        if secret in self._forms or len(set(secret)) < DISTINCT:
            return
        if len(self._forms) >= MOST:
            del self._forms[next(iter(self._forms))]
        # 12 bytes into an encoded key, base64 begins anew with it; its last characters differ by what follows.
        text = base64.b64encode(secret)[: len(secret) // 3 * 4]
        self._forms[secret] = (secret, text, secret.hex().encode(), repr(secret)[2:-1].encode())

    def add_keyring(self, path: Path) -> None:
        """All keys of a keyring file."""
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "key":
                self.add(CryptoKey.from_base64(value).secret)

    def seen_in(self, raw: bytes) -> bool:
        return bool(raw) and any(form in raw for forms in self._forms.values() for form in forms)


KEYS: Final = Keys()
"""Of this process."""


def check_report(report: pytest.TestReport, keys: Keys = KEYS) -> None:
    """Fail a test that shows a key; the key itself is not shown again."""
    shown = "\n".join([report.longreprtext, *(f"{name}\n{text}" for name, text in report.sections)])
    if keys.seen_in(shown.encode("utf-8", "surrogateescape")):
        report.outcome = "failed"
        report.longrepr = "a key is in what this test prints, logs or raises; it is left out here"
        report.sections.clear()


def watch() -> Iterator[None]:
    """From now on every key of this process is known, and what our commands print is looked at."""
    check, communicate = CryptoKey.__post_init__, subprocess.Popen.communicate

    def note(self: CryptoKey) -> None:
        KEYS.add(self.secret)
        check(self)

    def listen(self: subprocess.Popen[Any], *args: Any, **named: Any) -> tuple[Any, Any]:
        said = communicate(self, *args, **named)
        words = self.args if isinstance(self.args, list | tuple) else [self.args]
        if any("cephcaps" in Path(str(word)).name for word in words):
            for text in said:
                raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text or b""
                assert not KEYS.seen_in(raw), "a key is in what the command prints"
        return said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CryptoKey, "__post_init__", note)
        patch.setattr(subprocess.Popen, "communicate", listen)
        yield
