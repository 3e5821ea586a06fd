"""Results on stdout: JSON, or plain text in which names keep their bytes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import click

__all__ = [
    "as_bytes",
    "emit",
    "emit_bytes",
    "emit_json",
    "escaped",
    "iso_time",
    "name_facts",
    "on_terminal",
    "shown_name",
]

NSEC = 1_000_000_000


def emit(text: str) -> None:
    """Write ``text``, names in it as the bytes they are; raises what `emit_bytes` does."""
    emit_bytes(as_bytes(text))


def emit_bytes(raw: bytes | bytearray) -> None:
    """Write ``raw``.

    Raises:
        OSError: stdout takes nothing; "stdout" is its filename.
        click.exceptions.Exit: nobody reads any more, or Ctrl-C came while nobody did.
    """
    if sys.stdout is None:  # closed by whoever started us
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "stdout")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _discard_rest()
        raise click.exceptions.Exit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt:
        _discard_rest()
        raise click.exceptions.Exit(128 + signal.SIGINT) from None
    except OSError as error:
        _discard_rest()
        raise OSError(error.errno, error.strerror, "stdout") from None


def emit_json(facts: Any, *, pretty: bool) -> None:
    """Write ``facts`` as one line, or indented."""
    import json

    emit(json.dumps(facts, ensure_ascii=False, indent=4 if pretty else None) + "\n")


def _discard_rest() -> None:
    """Let what is still buffered go nowhere, or the interpreter tries it again on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def on_terminal() -> bool:
    """Whether results are read by a person."""
    return sys.stdout is not None and sys.stdout.isatty()


def as_bytes(name: str) -> bytes:
    """The bytes that the library gives as ``name``, whatever this machine's locale."""
    return name.encode("utf-8", "surrogateescape")


def name_facts(key: str, name: str) -> dict[str, str]:
    r"""``name`` for JSON, under ``key``.

    Bytes that are no UTF-8 appear there as ``\xff``, and all of the name's bytes in hex under ``key`` + "_hex"; a name
    without such bytes has no second key, and its backslashes are its own.
    """
    raw = as_bytes(name)
    text = raw.decode("utf-8", "backslashreplace")
    if text.encode() == raw:
        return {key: text}
    return {key: text, f"{key}_hex": raw.hex()}


def shown_name(name: str) -> str:
    """``name`` for plain output: as it is, but harmless where a terminal would act on it."""
    if not on_terminal():
        return name
    return escaped(name.replace("\\", "\\\\"))


def escaped(text: str) -> str:
    r"""``text`` with ``\n``, ``\x1b``, ``\xff`` and the like for what is not printable."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def iso_time(ns: int, *, local: bool = False) -> str:
    """A time in nanoseconds since the epoch as ISO 8601, all nine places: in UTC, or in this machine's zone."""
    seconds, fraction = divmod(ns, NSEC)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
        text = (moment.astimezone() if local else moment).isoformat()
    except (ValueError, OverflowError, OSError):  # not in the years 1 to 9999
        return f"@{seconds}.{fraction:09}"
    return f"{text[:19]}.{fraction:09}{text[19:] if local else 'Z'}"
