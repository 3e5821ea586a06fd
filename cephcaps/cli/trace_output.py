"""Traces on stdout: lines for people, JSON, or counts; gathered, so that there are few writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from cephcaps.cli.output import as_bytes, emit_bytes, escaped, iso_time, name_facts, on_terminal
from cephcaps.trace.facts import facts
from cephcaps.trace.items import Problem, Traced
from cephcaps.trace.known import Revoke
from cephcaps.trace.summary import SummaryFacts
from cephcaps.trace.table import Table
from cephcaps.trace.view import duration

__all__ = ["JsonOutput", "NoOutput", "Output", "PlainOutput", "Say", "spelled", "summary_text"]

GATHERED: Final = 256 * 1024
"""Bytes that are written at once."""
GATHERED_ON_TERMINAL: Final = 4096
MOST_REVOKES: Final = 20
"""Unanswered revokes that are told."""


Say: TypeAlias = Callable[[str], None]
"""Writes a line on stderr."""


class Output(Protocol):
    """Where what is wanted of a trace goes."""

    def begin(self, file: str | None) -> None:
        """A capture begins; its name, if there are several."""

    def message(self, item: Traced, wanted: bool) -> None:
        """The next message, to be shown if it is wanted."""

    def problem(self, item: Problem) -> None:
        """A problem, to be shown."""

    def flush(self) -> None:
        """Write what has been gathered."""

    def last_words(self, wanted: Callable[[Revoke], bool]) -> Iterator[str]:
        """What there is to say on stderr at the end of a capture, of revokes those that are wanted."""

    def end(self) -> None:
        """There is no more."""


class NoOutput:
    """Shows nothing."""

    def begin(self, file: str | None) -> None:
        pass

    def message(self, item: Traced, wanted: bool) -> None:
        pass

    def problem(self, item: Problem) -> None:
        pass

    def flush(self) -> None:
        pass

    def last_words(self, wanted: Callable[[Revoke], bool]) -> Iterator[str]:
        return iter(())

    def end(self) -> None:
        pass


class _Gathering:
    """Bytes on their way to stdout."""

    def __init__(self) -> None:
        self._gathered = bytearray()
        self._most = GATHERED_ON_TERMINAL if on_terminal() else GATHERED

    def _check(self) -> None:
        if len(self._gathered) >= self._most:
            self.flush()

    def flush(self) -> None:
        if self._gathered:
            emit_bytes(self._gathered)
            self._gathered.clear()

    def last_words(self, wanted: Callable[[Revoke], bool]) -> Iterator[str]:
        return iter(())

    def end(self) -> None:
        self.flush()


class PlainOutput(_Gathering):
    """One line a message, and problems on stderr where they belong in between.

    Args:
        make_table: a table for each capture, as one tells nothing about another.
    Attributes:
        table: of the present one.
    """

    def __init__(self, make_table: Callable[[], Table], say: Say) -> None:
        super().__init__()
        self._make_table = make_table
        self._say = say
        self.table: Table = make_table()
        self._now = 0

    def begin(self, file: str | None) -> None:
        self.table = self._make_table()

    def message(self, item: Traced, wanted: bool) -> None:
        self._now = item.ns
        learned = self.table.take(item)
        if wanted:
            # Names and whatever else a peer has made up must neither break the line nor reach a terminal as they are.
            self._gathered += as_bytes(escaped(self.table.message(item, learned))) + b"\n"
            self._check()

    def problem(self, item: Problem) -> None:
        self.flush()
        self._say(escaped(self.table.problem(item)))

    def last_words(self, wanted: Callable[[Revoke], bool]) -> Iterator[str]:
        self.flush()
        revokes = [found for found in self.table.known.unanswered() if wanted(found[0])]
        for revoke, path in revokes[:MOST_REVOKES]:
            yield escaped(self.table.unanswered(revoke, path, self._now))
        if len(revokes) > MOST_REVOKES:
            yield f"and {len(revokes) - MOST_REVOKES} more revokes"


class JsonOutput(_Gathering):
    """One object a line, or one array of indented objects; problems among the messages."""

    def __init__(self, *, pretty: bool) -> None:
        super().__init__()
        self._file: str | None = None
        self._pretty = pretty
        self._encoder = msgspec.json.Encoder()
        self._before = b"[\n"

    def begin(self, file: str | None) -> None:
        self._file = file

    def message(self, item: Traced, wanted: bool) -> None:
        if wanted:
            self._item(item)

    def problem(self, item: Problem) -> None:
        self._item(item)

    def end(self) -> None:
        if self._pretty:
            self._gathered += b"[]\n" if self._before == b"[\n" else b"\n]\n"
        self.flush()

    def _item(self, item: Traced | Problem) -> None:
        told: Any = facts(item)
        if self._file is not None:
            told = msgspec.structs.replace(told, file=self._file)
        gathered = self._gathered
        if self._pretty:
            indented = msgspec.json.format(_encoded(self._encoder, told), indent=4)
            gathered += self._before + b"    " + indented.replace(b"\n", b"\n    ")
            self._before = b",\n"
        else:
            begin = len(gathered)
            try:
                self._encoder.encode_into(told, gathered, -1)
            except UnicodeEncodeError:
                gathered[begin:] = _encoded(self._encoder, told)
            gathered += b"\n"
        self._check()


def _encoded(encoder: msgspec.json.Encoder, told: Any) -> bytes:
    try:
        return encoder.encode(told)
    except UnicodeEncodeError:  # a name that is no UTF-8: few captures have one
        return encoder.encode(spelled(msgspec.to_builtins(told)))


def spelled(value: Any) -> Any:
    """``value`` with each text that is not UTF-8 spelled out as `name_facts` does: beside ``key``, ``key_hex``."""
    if isinstance(value, dict):
        out: dict[Any, Any] = {}
        for key, below in value.items():
            named = name_facts("key", key) if isinstance(key, str) else {"key": key}
            if "key_hex" in named:  # itself a name, such as that of an attribute
                out[f"{named['key']}_name_hex"] = named["key_hex"]
            if isinstance(below, str):
                out |= name_facts(named["key"], below)
            else:
                out[named["key"]] = spelled(below)
        return out
    if isinstance(value, list | tuple):
        return [spelled(below) for below in value]
    if isinstance(value, str):
        told = name_facts("text", value)
        return told if "text_hex" in told else value
    return value


# Counts


def summary_text(told: SummaryFacts) -> str:
    """The counts as tables for people."""
    lines = []
    if told.first_ns is not None and told.last_ns is not None:
        lines += [f"from {iso_time(told.first_ns, local=True)} for {duration(told.last_ns - told.first_ns)}", ""]
    rows = [["type", "to daemon", "to client", "bytes", "left over", "malformed"]]
    rows += [
        [count.type, *map(str, (count.to_daemon, count.to_client, count.bytes, count.leftover, count.malformed))]
        for count in told.types
    ]
    sent = sum(count.to_daemon for count in told.types)
    rows.append(["all", *map(str, (sent, told.messages - sent, told.bytes, told.leftover, told.malformed))])
    lines += [*_columns(rows, 1), ""]
    rows = [["client", "daemon", "to daemon", "to client", "bytes"]]
    rows += [[pair.client, pair.daemon, *map(str, (pair.to_daemon, pair.to_client, pair.bytes))] for pair in told.pairs]
    lines += _columns(rows, 2)
    if told.problems:
        rows = [["problem", "count", "bytes"], *([p.problem, str(p.count), str(p.bytes)] for p in told.problems)]
        lines += ["", *_columns(rows, 1)]
    return "".join(f"{escaped(line.rstrip())}\n" for line in lines)


def _columns(rows: list[list[str]], texts: int) -> list[str]:
    """Rows with their columns below each other: the first ``texts`` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
