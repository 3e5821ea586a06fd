"""Every client of a live test records; its recording is held against what it really said, linted and replayed."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cephcaps.client import Client
from cephcaps.trace import Problem, read_trace
from cephcaps.trace.lint import Linter
from cephcaps.trace.record import SECRETS, Recorder
from cephcaps.trace.replay import Difference, Replay
from cephwire.frames import MessageHeader

__all__ = ["ARTEFACTS", "ReadBack", "keep", "read_back", "recorded"]

ARTEFACTS = Path(os.environ.get("CEPHCAPS_ARTEFACTS", Path(__file__).parents[2] / ".artefacts"))
"""Where the recordings of tests that failed are kept."""


class Spied:
    """A recorder's taps, and what went through them."""

    def __init__(self, path: Path, recorder: Recorder | None = None) -> None:
        self.path = path
        self._recorder = recorder
        self.messages = 0
        self._digest = hashlib.blake2b()

    def heard(self, sent: bool, header: MessageHeader, segments: tuple[bytes, bytes, bytes]) -> None:
        """One message, as far as a recording is to hold it."""
        self.messages += 1
        facts = (sent, header.seq, header.tid, header.type, header.priority, header.version, header.compat_version)
        self._digest.update(repr([int(fact) for fact in facts]).encode())
        if header.type not in SECRETS:
            for segment in segments:
                self._digest.update(segment)

    @property
    def over(self) -> bool:
        """Whether the recording was written to its end."""
        return self._recorder is not None and not self._recorder.waiting and self._recorder.failure is None

    @property
    def said(self) -> tuple[int, str]:
        return self.messages, self._digest.hexdigest()


@contextmanager
def recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Spied]]:
    """Has every client record into ``folder`` that is not told to record elsewhere."""
    spied: list[Spied] = []
    numbers = itertools.count(1)
    make, attach = Client.__init__, Recorder.attach

    def record(self: Client, **settings: Any) -> None:
        if settings.get("record") is None:
            settings["record"] = folder / f"client-{next(numbers)}.pcapng"
        make(self, **settings)

    def spy(self: Recorder, connection: Any, local: Any) -> None:
        attach(self, connection, local)
        tap = connection.tap
        if tap is None:
            return
        mine = next((one for one in spied if one.path == Path(self.path)), None)
        if mine is None:
            mine = Spied(Path(self.path), self)
            spied.append(mine)

        def both(sent: bool, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
            mine.heard(sent, header, (front, middle, data))
            tap(sent, header, front, middle, data)

        connection.tap = both

    monkeypatch.setattr(Client, "__init__", record)
    monkeypatch.setattr(Recorder, "attach", spy)
    yield spied


class ReadBack(NamedTuple):
    """What a recording holds, and what there is to say against the client.

    Attributes:
        said: as `Spied.said`.
        lint: a line for each finding.
        replay: a line for each difference from what our engine says when the recording is replayed.
    """

    said: tuple[int, str]
    lint: list[str]
    replay: list[str]


def read_back(one: Spied) -> ReadBack:
    """Read a recording in its order; it holds nothing that cannot be read."""
    found, linter, differences = Spied(one.path), Linter(), list[Difference]()
    replay = Replay(differences.append)
    findings = []
    with one.path.open("rb") as file:
        for item in read_trace(file):
            assert not isinstance(item, Problem), item
            assert item.error is None, item.error
            assert not item.leftover, item.leftover
            found.heard(item.to_daemon, item.header, item.segments)
            findings += linter.take(item)
            replay.take(item)
    findings += linter.finish()
    replay.end()
    linted = [f"lint: {f.rule.name} of client.{f.client} about {f.ino or 0:#x} {f.path}: {f.what}" for f in findings]
    # Left to replay's rule "unheard": who was asked for something when the test ended.
    replayed = [
        f"replay: client.{d.client} about {d.ino:#x} at rank {d.rank}: sent {d.sent}, expected {d.expected}"
        for d in differences
        if d.rule != "unheard"
    ]
    return ReadBack(found.said, linted, replayed + [f"replay: {failure}" for failure in replay.failures])


def keep(folder: Path, name: str) -> list[Path]:
    """Save a failed test's recordings; gives where they are."""
    kept = ARTEFACTS / name
    shutil.rmtree(kept, ignore_errors=True)
    if not any(folder.iterdir()):
        return []
    shutil.copytree(folder, kept)
    return sorted(kept.iterdir())
