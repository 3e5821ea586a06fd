"""The watch over keys sees one that is shown."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from cephcaps.auth.crypto import CryptoKey
from cephwire.codec import Codec
from cephwire.keys import CRYPTO_KEY, CryptoType
from cephwire.keys import CryptoKey as WireKey
from tests.keys import KEYS, Keys, check_report

SECRETS = {CryptoType.AES: bytes(range(100, 116)), CryptoType.AES256K: bytes(range(200, 232))}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_key_is_seen_in_each_of_its_forms(kind: CryptoType) -> None:
    keys, secret = Keys(), SECRETS[kind]
    encoded = Codec(CRYPTO_KEY).encode(WireKey(kind, 10**18, secret))
    shown = [secret, repr(secret).encode(), secret.hex().encode(), encoded, base64.b64encode(encoded)]
    assert not any(keys.seen_in(b"before " + form + b" behind") for form in shown)
    keys.add(secret)
    assert all(keys.seen_in(b"before " + form + b" behind") for form in shown)
    assert not keys.seen_in(b"nothing of it")


def test_a_test_that_shows_a_key_fails_and_shows_it_no_more() -> None:
    keys, secret = Keys(), SECRETS[CryptoType.AES]
    keys.add(secret)
    for where in ("log", "traceback"):
        sections = [("Captured log", f"key={secret.hex()}")] if where == "log" else []
        raised = f"ValueError: {secret!r}" if where == "traceback" else None
        report = pytest.TestReport(
            "x", ("x", 1, "x"), {}, "passed" if raised is None else "failed", raised, "call", sections
        )
        check_report(report, keys)
        assert report.failed
        assert not keys.seen_in(report.longreprtext.encode())
        assert report.sections == []
    quiet = pytest.TestReport("x", ("x", 1, "x"), {}, "passed", None, "call", [("Captured log", "nothing")])
    check_report(quiet, keys)
    assert quiet.passed


def test_every_key_that_is_made_here_is_watched_and_our_commands_with_it() -> None:
    secret = bytes(range(60, 76))
    CryptoKey(CryptoType.AES, 0, secret)
    assert KEYS.seen_in(b"x" + secret)
    with pytest.raises(AssertionError, match="in what the command prints"):
        subprocess.run([sys.executable, "-c", f"print({secret.hex()!r})", "cephcaps"], capture_output=True, timeout=30)
