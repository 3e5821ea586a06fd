"""Lint takes whatever comes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cephcaps.trace.items import Item
from cephcaps.trace.lint import Linter
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.session import ClientSession, SessionOp
from tests.trace.rendering import any_message, caps, down, flow, problem, recorded, traced, up

FLOWS = [flow(4123, 0, 1), flow(4123, 1, 2), flow(None, None, 3)]
NUMBERS = st.sampled_from((0, 1, 2, 2**31, 2**32 - 1))
SMALL = st.integers(0, 3)


def few_inodes() -> st.SearchStrategy[Item]:
    """Messages about the same few caps, in any order."""
    message: st.SearchStrategy[ClientCaps | ClientCapRelease | ClientSession] = st.one_of(
        st.builds(
            lambda op, bits, ino, seq, cap_id, **more: caps(op, bits, ino, seq=seq, cap_id=cap_id, **more),
            st.sampled_from([op for op in CapOp if op not in (CapOp.EXPORT, CapOp.IMPORT)]),
            st.sampled_from((0, 1, 0x155, 0x3FDD)),
            SMALL, NUMBERS, SMALL, issue_seq=NUMBERS, mseq=NUMBERS, dirty=st.sampled_from((0, 8, 0x1000)),
            oldest_flush_tid=SMALL,
        ),
        st.builds(lambda ino, cap, seq: ClientCapRelease((CapItem(ino, cap, 0, seq),)), SMALL, SMALL, NUMBERS),
        st.builds(ClientSession, st.sampled_from(SessionOp), SMALL),
    )  # fmt: skip
    return st.builds(
        lambda message, to_daemon, at, flow, tid, resent: traced(
            message, to_daemon, at, tid=tid, flow=flow, resent=resent
        ),
        message, st.booleans(), st.integers(0, 100_000), st.sampled_from(FLOWS), SMALL, st.booleans(),
    )  # fmt: skip


def judge(items: list[Item]) -> None:
    linter = Linter()
    for item in items:
        linter.take(item)
    linter.finish()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(few_inodes() | st.builds(lambda flow: problem(flow=flow), st.sampled_from([*FLOWS, None])), max_size=60)
)
def test_any_order_of_messages_is_judged(items: list[Item]) -> None:
    judge(items)


@settings(max_examples=60, deadline=None)
@given(st.lists(any_message(), max_size=20))
def test_any_message_is_judged(items: list[Item]) -> None:
    judge(items)


def test_every_recorded_message_is_judged() -> None:
    judge(list(recorded()))


def test_what_is_not_decoded_is_passed_over() -> None:
    judge([up(caps(CapOp.UPDATE, 1), 0)._replace(message=None), down(caps(CapOp.GRANT, 1), 1)])
