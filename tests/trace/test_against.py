"""The plan of ``cephcaps replay --against``: what is asked of another MDS, when, and what counts as a divergence."""

from __future__ import annotations

import errno
import gzip
import io
import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephcaps.cli import main
from cephcaps.core import SetAttributes, SetXattr
from cephcaps.engine.setattr import TRUNCATED, Change
from cephcaps.engine.xattrs import XattrChange
from cephcaps.mds.requests import Operation
from cephcaps.trace.items import Item, Traced
from cephcaps.trace.read import read_trace
from cephcaps.trace.replay.against import Await, Close, Leave, Plan, Send, Step
from cephcaps.trace.replay.flushed import Flushed
from cephcaps.trace.replay.remap import INHERITED, Numbers
from cephcaps.trace.replay.verdict import Answered, Divergence
from cephwire.capbits import Cap, FileMode
from cephwire.caps import CapBody, CapOp, ClientCaps
from cephwire.codec import Codec
from cephwire.inode import XATTR_BLOB, FileLayout, InodeStat, IssuedCap, XattrBlob
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import ClientRequest, FilePath
from cephwire.requestargs import MkdirArgs, OpenArgs, OpenFlag, SetattrArgs, SetattrMask
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.trace.rendering import ROOT, any_message, caps, down, flow, inode, reply, request, up
from tests.trace.test_replay import LIBCEPHFS

THERE = 1 << 50
"""What is added to the number of an inode to give its counterpart."""
DIR, FILE = 0x10000000000, 0x10000000001
NO_LAYOUT = FileLayout(0, 0, 0, 0, 0, 0, 0)
NO_CAP = IssuedCap(0, 0, 0, 0, 0, ROOT, 0)
FULL = Cap.ALL_FILE


def there(ino: int) -> int:
    return ino if ino == ROOT else ino + THERE


def moved(told: InodeStat | None) -> InodeStat | None:
    return None if told is None else msgspec.structs.replace(told, ino=there(told.ino))


def renamed(inherited: re.Match[str]) -> str:
    return f"_{inherited[1]}_{there(int(inherited[2]))}"


def mirrored(captured: ClientReply) -> ClientReply:
    """What an MDS answers that does as the captured one did."""
    trace = msgspec.structs.replace(captured.trace, dir=moved(captured.trace.dir), target=moved(captured.trace.target))
    extra = captured.extra
    if isinstance(extra, ReaddirReply):
        entries = tuple(
            msgspec.structs.replace(entry, inode=moved(entry.inode), dname=INHERITED.sub(renamed, entry.dname))
            for entry in extra.entries
        )
        extra = msgspec.structs.replace(extra, entries=entries)
    return msgspec.structs.replace(captured, trace=trace, extra=extra)


class Target:
    """Carries out the steps, as a cluster that does as the captured one did unless ``otherwise`` says something else.

    Attributes:
        steps: all so far.
        found: divergences.
        under_way: most that was asked at a time.
    """

    def __init__(self, otherwise: Callable[[Operation], Answered | None] = lambda _: None) -> None:
        self.steps: list[Step] = []
        self.found: list[Divergence] = []
        self.under_way = 0
        self.plan = Plan(ROOT, self.found.append)
        self._otherwise = otherwise
        self._answers: dict[int, Answered] = {}

    def play(self, items: Iterable[Item]) -> Target:
        for item in items:
            for step in self.plan.take(item):
                self._carry_out(step, item)
        for step in self.plan.end():
            self._carry_out(step, None)
        assert not self._answers
        return self

    def _carry_out(self, step: Step, item: Item | None) -> None:
        self.steps.append(step)
        if isinstance(step, Send):
            self._answers[step.number] = self._answer(step.request, item)
            self.under_way = max(self.under_way, len(self._answers))
        elif isinstance(step, Await):
            self.plan.answered(step.number, self._answers.pop(step.number))

    def _answer(self, asked: Any, item: Item | None) -> Answered:
        if not isinstance(asked, Operation):
            return Answered(0)
        other = self._otherwise(asked)
        if other is not None:
            return other
        assert isinstance(item, Traced)
        captured = item.message
        assert captured.op == asked.op
        return Answered(-captured.result) if captured.result < 0 else Answered(0, mirrored(captured))

    @property
    def sent(self) -> list[Any]:
        return [step.request for step in self.steps if isinstance(step, Send)]


@cache
def captured() -> tuple[Item, ...]:
    return tuple(read_trace(io.BytesIO(gzip.decompress(LIBCEPHFS.read_bytes()))))


# A whole capture


def test_what_is_asked_again_is_what_was_asked_under_other_numbers() -> None:
    target = Target().play(captured())
    assert target.found == []
    first = {
        (item.flow.client_id, item.header.tid): item.message
        for item in reversed(captured())
        if isinstance(item, Traced) and isinstance(item.message, ClientRequest)
    }
    operations = [one for one in target.sent if isinstance(one, Operation)]
    asked = sorted((int(m.op), there_or_0(m.path), there_or_0(m.path2), m.stamp, m.data) for m in first.values())
    assert sorted((int(m.op), (m.path.ino, m.path.path), (m.path2.ino, m.path2.path), m.stamp, m.data)
                  for m in operations) == asked  # fmt: skip
    assert target.under_way > 1


def there_or_0(path: FilePath) -> tuple[int, str]:
    return there(path.ino) if path.ino else 0, path.path


def test_what_clients_flushed_is_changed_again() -> None:
    changes = [one.change for one in Target().play(captured()).sent if isinstance(one, SetAttributes)]
    assert {change.size for change in changes} >= {800, 100}
    assert 0o600 in {change.mode for change in changes}


def test_what_is_opened_is_closed_where_the_capture_has_that() -> None:
    steps = Target().play(captured()).steps
    opened = [s for s in steps if isinstance(s, Send) and getattr(s.request, "file_mode", None)]
    closed = [s for s in steps if isinstance(s, Close)]
    assert 0.8 * len(opened) < len(closed) <= len(opened)  # who leaves soon after does not tell
    assert all(s.ino > THERE for s in closed)
    assert len([s for s in steps if isinstance(s, Leave)]) >= 6


def test_what_could_not_be_made_and_what_is_in_it_is_told() -> None:
    def refuse(asked: Operation) -> Answered | None:
        return Answered(errno.EEXIST) if asked.op == RequestOp.MKDIR and "/conflicts" in asked.what else None

    found = Target(refuse).play(captured()).found
    assert (found[0].op, found[0].kind, found[0].captured, found[0].replayed) == ("mkdir", "errno", "done", "EEXIST")
    assert found[0].path.startswith("/conflicts")
    assert {one.kind for one in found[1:]} == {"not-sent", "errno"}
    below = [one for one in found if one.kind == "not-sent"]
    assert len(below) > 10
    assert all(one.path.startswith(("/conflicts", "#")) for one in below)


def answered_requests(items: list[Traced]) -> list[Traced]:
    """Each request with one of the replies, if there are any."""
    replies = [item for item in items if isinstance(item.message, ClientReply)]
    pairs = zip((item for item in items if isinstance(item.message, ClientRequest)), cycle(replies), strict=False)
    return items + [one for asked, answer in pairs for one in (asked, answer._replace(header=asked.header))]


@given(st.lists(any_message(), max_size=8).map(answered_requests))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_messages_at_all_are_taken(items: list[Traced]) -> None:
    plan = Plan(ROOT, lambda _: None)
    replies = [item.message for item in items if isinstance(item.message, ClientReply)]
    for steps in [*(plan.take(item) for item in items), plan.end()]:
        for step in steps:
            if isinstance(step, Await):
                plan.answered(step.number, Answered(0, replies[-1] if replies else None))


# A few messages


def told(ino: int, *, mode: int = 0o100644, seq: int = 1, **more: Any) -> InodeStat:
    return inode(ino, mode=mode, cap=IssuedCap(FULL, 0, 7, seq, 0, ROOT, 1), **more)


def answer(op: int, target: InodeStat | None = None, *, result: int = 0, name: str = "") -> ClientReply:
    directory = inode(ROOT, mode=0o040755, cap=NO_CAP) if name else None
    return msgspec.structs.replace(reply(op, directory, name or None, target), result=result)


def update(ino: int, dirty: int, *, wanted: int = 0, issue_seq: int = 1, size: int = 0, mtime: int = 0,
           **more: Any) -> ClientCaps:  # fmt: skip
    body = CapBody(size, 0, 0, 0, mtime, 5, 9, NO_LAYOUT, 0)
    more = {"mode": 0o100600, "nlink": 1, "cap_id": 7} | more
    return caps(CapOp.UPDATE, FULL, ino, dirty=dirty, wanted=wanted, issue_seq=issue_seq, body=body, **more)


def looked_up(ino: int = FILE, name: str = "file", tid: int = 1, **more: Any) -> list[Traced]:
    return [
        up(request(RequestOp.LOOKUP, ROOT, name), tid=tid),
        down(answer(RequestOp.LOOKUP, told(ino, **more), name=name), tid=tid),
    ]


def opening(flags: int) -> OpenArgs:
    return OpenArgs(flags, 0o644, 0, 0, 0, -1, 0, 0)


def test_a_change_that_was_given_back_before_the_answer_comes_before_the_request() -> None:
    """It is what the MDS waited for: the file is cut after the size that was written has arrived."""
    cut = request(RequestOp.OPEN, FILE, args=opening(OpenFlag.WRONLY | OpenFlag.TRUNC))
    items = [
        *looked_up(),
        up(cut, tid=2),
        up(update(FILE, Cap.FILE_WR, size=100, mtime=8)),
        down(answer(RequestOp.OPEN, told(FILE)), tid=2),
    ]
    sent = Target().play(items).sent
    assert sent[1] == SetAttributes(there(FILE), "/file", Change(9, size=100))
    assert sent[2] == SetAttributes(there(FILE), "/file", Change(9, mtime=8))
    assert (sent[3].op, sent[3].path, sent[3].drop) == (RequestOp.OPEN, FilePath(there(FILE)), TRUNCATED)
    assert sent[3].file_mode == FileMode.WR


def test_what_was_answered_before_something_was_asked_is_so_again() -> None:
    steps = Target().play([*looked_up(), *looked_up(FILE + 1, "other", 2)]).steps
    assert [type(step).__name__ for step in steps] == ["Send", "Await", "Send", "Await", "Leave"]


def test_what_was_under_way_at_once_is_so_again_unless_it_is_about_the_same_name() -> None:
    def both(*names: str) -> list[str]:
        ops = [(RequestOp.MKDIR, names[0], MkdirArgs(0o040755)), (RequestOp.UNLINK, names[1], None)]
        asked = [up(request(op, ROOT, name, args=args), tid=tid) for tid, (op, name, args) in enumerate(ops, 1)]
        answers = [
            down(answer(RequestOp.MKDIR, told(DIR, mode=0o040755), name=names[0]), tid=1),
            down(answer(RequestOp.UNLINK, name=names[1]), tid=2),
        ]
        return [type(step).__name__ for step in Target().play([*asked, *answers]).steps]

    assert both("a", "b") == ["Send", "Send", "Await", "Await", "Leave"]
    assert both("a", "a") == ["Send", "Await", "Send", "Await", "Leave"]


def test_a_rename_waits_for_all_that_came_before() -> None:
    rename = request(RequestOp.RENAME, ROOT, "new", path2=FilePath(ROOT, "old"), args=None)
    items = [
        *(one for tid in (1, 2) for one in looked_up(FILE + tid, f"n{tid}", tid)[:1]),
        up(rename, tid=3),
        *(looked_up(FILE + tid, f"n{tid}", tid)[1] for tid in (1, 2)),
        down(answer(RequestOp.RENAME, told(FILE), name="new"), tid=3),
    ]
    steps = [type(step).__name__ for step in Target().play(items).steps]
    assert steps == ["Send", "Send", "Await", "Await", "Send", "Await", "Leave"]


def test_a_request_is_asked_once_however_often_it_was_said() -> None:
    asked = up(request(RequestOp.LOOKUP, ROOT, "file"), tid=1)
    again = up(request(RequestOp.LOOKUP, ROOT, "file", num_retry=1), tid=1, flow=flow(rank=1, number=2))
    safe = down(msgspec.structs.replace(answer(RequestOp.LOOKUP), safe=1), tid=1)
    assert len(Target().play([asked, again, looked_up()[1], safe]).sent) == 1


def test_what_the_capture_has_no_answer_to_is_not_asked() -> None:
    target = Target().play([up(request(RequestOp.LOOKUP, ROOT, "file"), tid=1)])
    assert target.sent == []
    (tally,) = target.plan.tallies.values()
    assert tally.passed_over == {"requests that the capture has no answer to": 1}


def test_what_a_request_gave_back_is_left_out_and_whoever_asked_asks_again() -> None:
    made = request(
        RequestOp.MKDIR, ROOT, "d", args=MkdirArgs(0o040700), caller_uid=5, caller_gid=6, gid_list=(7,), stamp=3,
        owner_uid=2**32 - 1,
    )  # fmt: skip
    (sent,) = Target().play([up(made, tid=1), down(answer(made.op, told(DIR, mode=0o040700), name="d"), tid=1)]).sent
    assert (sent.caller, sent.stamp, sent.what) == ((5, 6, (7,)), 3, "/d")


def test_a_file_stays_open_until_it_is_not_wanted_any_more() -> None:
    opened = request(RequestOp.OPEN, FILE, args=opening(OpenFlag.RDWR))
    items = [
        *looked_up(),
        up(opened, tid=2),
        down(answer(RequestOp.OPEN, told(FILE, seq=4)), tid=2),
        up(update(FILE, 0, wanted=0, issue_seq=3)),  # said before the client heard that it has it open
        up(update(FILE, 0, wanted=Cap.FILE_RD | Cap.FILE_WR, issue_seq=4)),
        up(update(FILE, 0, wanted=Cap.FILE_RD, issue_seq=4)),
        up(update(FILE, 0, wanted=0, issue_seq=4)),
    ]
    target = Target()
    closes = []
    for number, item in enumerate(items):
        target_steps = list_steps(target, item)
        closes += [(number, step) for step in target_steps if isinstance(step, Close)]
    assert closes == [(6, Close(4123, there(FILE), FileMode.RDWR))]


def list_steps(target: Target, item: Item) -> list[Step]:
    before = len(target.steps)
    for step in target.plan.take(item):
        target._carry_out(step, item)
    return target.steps[before:]


def test_a_client_leaves_with_its_last_session() -> None:
    close = ClientSession(SessionOp.REQUEST_CLOSE, 0)
    other = flow(rank=1, number=2)
    target = Target()
    for item in looked_up():
        list_steps(target, item)
    list_steps(target, up(request(RequestOp.LOOKUP, ROOT, "x"), tid=9, flow=other))
    assert Leave(4123) not in list_steps(target, up(close))
    assert Leave(4123) in list_steps(target, up(close, flow=other))


# Divergences


def kinds(items: Iterable[Item], otherwise: Callable[[Operation], Answered | None]) -> list[tuple[str, str]]:
    return [(one.op, one.kind) for one in Target(otherwise).play(items).found]


def test_what_was_there_before_the_capture_and_is_not_now_is_told_once() -> None:
    def gone(asked: Operation) -> Answered | None:
        return Answered(errno.ENOENT) if asked.op == RequestOp.LOOKUP else None

    chmod = request(RequestOp.SETATTR, FILE, args=SetattrArgs(0o600, 0, 0, 0, 0, 0, 0, SetattrMask.MODE, 0))
    items = [*looked_up(), up(chmod, tid=2), down(answer(chmod.op, told(FILE)), tid=2)]
    assert kinds(items, gone) == [("lookup", "missing-before"), ("setattr", "not-sent")]
    assert kinds(items[2:], gone) == [("setattr", "missing-before")]


def test_another_file_of_the_same_name_is_told() -> None:
    def other(asked: Operation) -> Answered | None:
        return (
            Answered(0, answer(asked.op, told(there(FILE + 7)), name="file")) if asked.op == RequestOp.GETATTR else None
        )

    again = [up(request(RequestOp.GETATTR, FILE), tid=2), down(answer(RequestOp.GETATTR, told(FILE)), tid=2)]
    assert kinds([*looked_up(), *again], other) == [("getattr", "identity")]


def test_a_file_of_another_type_is_told() -> None:
    def other(asked: Operation) -> Answered:
        return Answered(0, answer(asked.op, told(there(FILE), mode=0o120777), name="file"))

    assert kinds(looked_up(), other) == [("lookup", "type")]


def test_no_answer_is_told() -> None:
    found = Target(lambda _: Answered(None, why="none within 30 s")).play(looked_up()).found
    assert [(one.kind, one.captured, one.replayed) for one in found] == [("no-answer", "done", "none within 30 s")]


# What a flush changes


def flushed(message: ClientCaps, *before: InodeStat) -> list[Any]:
    known = Flushed()
    for one in before:
        known.told(one)
    return known.changes(message)


def test_a_flush_never_makes_a_file_shorter_nor_sets_times_back_under_fw() -> None:
    had = told(FILE, size=500, mtime=50)
    assert flushed(update(FILE, Cap.FILE_WR, size=400, mtime=40), had) == []
    assert flushed(update(FILE, Cap.FILE_WR, size=400, mtime=60), had) == [Change(9, mtime=60)]
    assert flushed(update(FILE, Cap.FILE_EXCL, size=400, mtime=40), had) == [Change(9, mtime=40, atime=5)]


def test_a_size_is_set_first_and_the_mtime_after_it() -> None:
    grown = flushed(update(FILE, Cap.FILE_WR, size=600, mtime=40), told(FILE, size=500, mtime=50))
    assert grown == [Change(9, size=600), Change(9, mtime=50)]


def test_owner_and_mode_are_set_as_they_are() -> None:
    (change,) = flushed(update(FILE, Cap.AUTH_EXCL, uid=3, gid=4, size=900), told(FILE))
    assert change == Change(9, mode=0o600, uid=3, gid=4)


def test_extended_attributes_are_set_and_taken_away() -> None:
    blob = Codec(XATTR_BLOB).encode(XattrBlob({"user.a": b"1", "user.b": b"2"}))
    had = told(FILE, xattrs={"user.b": b"2", "user.c": b"3"})
    assert flushed(update(FILE, Cap.XATTR_EXCL, xattrs=blob), had) == [
        XattrChange("user.a", b"1", 9),
        XattrChange("user.c", None, 9),
    ]
    sent = Target().play([*looked_up(), up(update(FILE, Cap.XATTR_EXCL, xattrs=blob))]).sent
    assert all(isinstance(one, SetXattr) for one in sent[1:])
    assert len(sent) == 3


def test_what_an_mds_told_late_does_not_hide_a_size() -> None:
    known = Flushed()
    known.told(told(FILE, size=500, truncate_seq=1))
    known.told(told(FILE, size=100, truncate_seq=1))  # overtaken
    assert known.changes(update(FILE, Cap.FILE_WR, size=400, mtime=-1)) == []
    known.told(told(FILE, size=100, truncate_seq=2))
    assert known.changes(update(FILE, Cap.FILE_WR, size=400, mtime=-1))[0] == Change(9, size=400)


# Names and numbers


def test_names_of_inherited_snapshots_have_the_number_of_the_counterpart() -> None:
    numbers = Numbers(ROOT)
    assert numbers.agree(DIR, there(DIR))
    assert numbers.name(f"_daily_{DIR}") == f"_daily_{there(DIR)}"
    assert numbers.name(f"_daily_{FILE}") == f"_daily_{FILE}"
    assert numbers.name("daily") == "daily"
    asked = numbers.operation(request(RequestOp.GETATTR, DIR, f"/_daily_{DIR}/_x_1"), "")
    assert asked.path == FilePath(there(DIR), f"/_daily_{there(DIR)}/_x_1")


def test_the_captured_root_is_whatever_stands_for_it() -> None:
    numbers = Numbers(77)
    assert numbers.operation(request(RequestOp.LOOKUP, ROOT, "a"), "").path == FilePath(77, "a")
    assert not numbers.agree(DIR, 77)


# The command


@pytest.mark.parametrize(
    "words", [["--speed", "2"], ["--against", "x", "--speed", "0"], ["--against", "x", "--ino", "0x1"]]
)
def test_options_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", *words, str(LIBCEPHFS)]) == errno.EINVAL
    assert capsys.readouterr().err.startswith("cephcaps: ")


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--against", str(tmp_path / "none.conf"), str(LIBCEPHFS)]) == errno.ENOENT
    assert "none.conf" in capsys.readouterr().err
