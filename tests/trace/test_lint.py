"""Lint: each rule finds its planted fault, and nothing else does; the same done right is clean."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from cephcaps.trace.items import Item
from cephcaps.trace.lint import RULES, Finding, Linter
from cephwire.capbits import parse_caps
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapFlag, CapOp, CapPeer, ClientCapsFlag
from cephwire.lease import LeaseAction
from cephwire.request import RequestFlag
from cephwire.requestargs import MkdirArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.trace.lint_scene import FULL, PIN, READ, SHARED, Scene
from tests.trace.rendering import DIR, FILE, caps, problem, reply, request

FW, AX = parse_caps("Fw"), parse_caps("Ax")
Play = Callable[[Scene, bool], None]
"""Plays a scene, rightly or with the fault."""

PLAYS: list[tuple[str, Play]] = []


def breaks(rule: str) -> Callable[[Play], Play]:
    """Decorates a scene whose fault breaks ``rule``."""

    def note(play: Play) -> Play:
        PLAYS.append((rule, play))
        return play

    return note


def judged(items: Iterable[Item]) -> list[Finding]:
    linter = Linter()
    found = [finding for item in items for finding in linter.take(item)]
    return found + linter.finish()


def played(play: Play, *, wrong: bool) -> list[Item]:
    scene = Scene()
    scene.open()
    play(scene, wrong)
    return scene.items


# Revokes


@breaks("revoke-unanswered")
def a_revoke_is_not_answered(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    if not wrong:
        scene.update(READ, 2)
    scene.on_time(20)


@breaks("revoke-unanswered")
def an_evicted_client_left_a_revoke_without_an_answer(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    if not wrong:
        scene.update(READ, 2)
    scene.wait(6)  # no message tells of an eviction
    scene.open()


@breaks("revoke-unanswered")
def bits_are_kept_under_the_right_seq(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    scene.update(READ | FW, 2)
    scene.wait(1)
    if not wrong:
        scene.update(READ, 2)
    scene.on_time(20)


@breaks("revoke-unanswered")
def a_revoke_of_what_was_just_given_back_is_not_answered(scene: Scene, wrong: bool) -> None:
    """Ceph PRs 52175 and 25873: the bits went with the old seq, and the revoke took nothing more."""
    scene.looks_up()
    scene.update(READ, 1)
    scene.told(CapOp.REVOKE, READ, 2)
    if not wrong:
        scene.update(READ, 2)
    scene.on_time(20)


@breaks("revoke-unanswered")
def a_revoke_crosses_a_release_that_the_mds_does_not_take(scene: Scene, wrong: bool) -> None:
    """Ceph PRs 47752 and 51500: the MDS keeps a cap whose release names an issue_seq that is not its own."""
    scene.looks_up()
    scene.told(CapOp.GRANT, FULL, 2)
    scene.release()
    scene.wait(8)  # it has long read that
    scene.told(CapOp.REVOKE, READ, 3)
    if not wrong:
        scene.release(issue_seq=3)
    scene.on_time(20)


@breaks("revoke-unanswered")
def a_revoke_after_stale_and_renewed_is_not_answered(scene: Scene, wrong: bool) -> None:
    """Ceph PR 31662: the client takes its caps for lost."""
    scene.looks_up()
    scene.session(SessionOp.STALE)
    scene.renew()
    scene.told(CapOp.REVOKE, READ, 2)
    if not wrong:
        scene.update(PIN, 2)
    scene.on_time(20)


@breaks("revoke-late")
def a_revoke_is_put_off(scene: Scene, wrong: bool) -> None:
    """Ceph PR 43595: every new change moved the answer to the end of the queue."""
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    scene.on_time(75 if wrong else 30)
    scene.update(READ, 2)


# Sequence numbers


@breaks("seq-back")
def an_older_seq_follows(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    scene.update(READ, 2)
    scene.update(SHARED, 1 if wrong else 2)


@breaks("seq-ahead")
def a_seq_is_made_up(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.update(READ, 5 if wrong else 1)


@breaks("issue-seq-wrong")
def a_release_names_the_seq_of_a_grant(scene: Scene, wrong: bool) -> None:
    """Ceph PR 56828: what the MDS looks for is the seq of the last reply."""
    scene.looks_up()
    scene.told(CapOp.GRANT, FULL, 2)
    scene.release(issue_seq=2 if wrong else 1)


@breaks("issue-seq-wrong")
def a_request_gives_back_with_the_wrong_issue_seq(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.GRANT, FULL, 2)
    scene.request(READ, 2, issue_seq=2 if wrong else 1)


@breaks("mseq-back")
def an_older_mseq_follows(scene: Scene, wrong: bool) -> None:
    scene.looks_up(mseq=4)
    scene.update(READ, 1, mseq=4)
    scene.update(SHARED, 1, mseq=3 if wrong else 4)


# Bits


@breaks("caps-not-issued")
def a_client_answers_with_bits_it_never_had(scene: Scene, wrong: bool) -> None:
    scene.looks_up(READ)
    scene.update(READ | FW if wrong else READ, 1)


@breaks("flush-without-cap")
def something_is_changed_after_the_right_to_it_is_gone(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    if wrong:
        scene.update(READ, 2)
    scene.update(READ, 2, dirty=FW, tid=1, size=9)
    scene.acked(1)


@breaks("ack-without-writeback")
def a_size_is_not_flushed_when_the_right_to_change_it_goes(scene: Scene, wrong: bool) -> None:
    scene.looks_up(size=10)
    scene.told(CapOp.REVOKE, READ, 2)
    if wrong:
        scene.update(READ, 2, size=500)
    else:
        scene.update(READ, 2, size=500, dirty=FW, tid=1)
        scene.acked(1)


# Flushes


@breaks("flush-unacked")
def a_flush_is_not_sent_again_after_a_failover(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.update(FULL, 1, dirty=AX, tid=1)
    scene.fails_over()
    scene.reconnect(FULL)
    scene.session(SessionOp.OPEN)
    if not wrong:
        scene.update(FULL, 0, issue_seq=0, dirty=AX, tid=1)
        scene.acked(1)
    scene.on_time(30)


@breaks("flush-tid-reused")
def a_tid_is_used_again(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.looks_up(ino=DIR, cap_id=8)
    scene.update(FULL, 1, dirty=AX, tid=1)
    scene.acked(1)
    tid = 1 if wrong else 2
    scene.update(FULL, 1, dirty=AX, tid=tid, ino=DIR, cap_id=8)
    scene.acked(tid, ino=DIR)


@breaks("flush-tid-reused")
def a_flush_has_no_tid(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.update(FULL, 1, dirty=AX, tid=0 if wrong else 1)
    scene.acked(1)


@breaks("flush-tid-order")
def a_tid_is_lower_than_one_before(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.update(FULL, 1, dirty=AX, tid=5)
    scene.acked(5)
    scene.update(FULL, 1, dirty=FW, tid=3 if wrong else 6)
    scene.acked(6)
    scene.acked(3)


@breaks("oldest-flush-tid")
def the_oldest_flush_is_left_out(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.update(FULL, 1, dirty=AX, tid=1)
    scene.update(FULL, 1, dirty=FW, tid=2, oldest=2 if wrong else 1)
    scene.acked(2)


# Snapshots


@breaks("update-before-flushsnap")
def write_bits_go_before_the_snapshot_is_flushed(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    scene.update(READ, 2, flags=0 if wrong else ClientCapsFlag.PENDING_CAPSNAP)
    scene.flushsnap(FULL, 1, 2)
    scene.acked(1, op=CapOp.FLUSHSNAP_ACK, follows=2)


@breaks("update-before-flushsnap")
def write_bits_go_with_a_request_before_the_snapshot_is_flushed(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.request(READ if wrong else READ | FW, 1)
    scene.flushsnap(FULL, 1, 2)
    scene.acked(1, op=CapOp.FLUSHSNAP_ACK, follows=2)


# Ranks


@breaks("release-after-export")
def an_exported_cap_is_released_later(scene: Scene, wrong: bool) -> None:
    scene.open(1)
    scene.looks_up()
    scene.export()
    scene.imports()
    scene.wait(7)
    if wrong:
        scene.release()


@breaks("release-after-export")
def an_exported_cap_is_released_while_its_successor_is_used(scene: Scene, wrong: bool) -> None:
    scene.open(1)
    scene.looks_up()
    scene.export()
    scene.imports(flags=CapFlag.AUTH if wrong else CapFlag.AUTH | CapFlag.RELEASE)
    scene.release()
    scene.update(FULL, 1, cap_id=70, rank=1, mseq=1)


@breaks("reconnect-order")
def unsafe_requests_come_after_the_reconnect(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.fails_over()
    replayed = request(RequestOp.MKDIR, FILE, "new", args=MkdirArgs(0o755), flags=RequestFlag.REPLAY)
    if not wrong:
        scene.sends(replayed, tid=9)
    scene.reconnect(FULL)
    if wrong:
        scene.sends(replayed, tid=9)
    scene.session(SessionOp.OPEN)


@breaks("reconnect-order")
def caps_are_released_before_the_reconnect(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.fails_over()
    if wrong:
        scene.sends(ClientCapRelease((CapItem(DIR, 8, 0, 1),)))
    scene.reconnect(FULL)
    scene.session(SessionOp.OPEN)


@breaks("reconnect-order")
def a_request_gives_caps_back_before_the_reconnect(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.fails_over()
    if wrong:
        scene.request(READ, 1)
    else:
        scene.sends(request(RequestOp.GETATTR, FILE), tid=100)
    scene.reconnect(FULL)
    scene.session(SessionOp.OPEN)


# Leases and sessions


@breaks("lease-revoke-unanswered")
def a_lease_is_kept(scene: Scene, wrong: bool) -> None:
    scene.lease_asked()
    if not wrong:
        scene.lease_given()
    scene.lease_asked(6, "other")
    scene.lease_given(6, "other", LeaseAction.RELEASE)
    scene.on_time(20)


@breaks("lease-revoke-unanswered")
def a_lease_is_given_back_with_the_wrong_seq(scene: Scene, wrong: bool) -> None:
    scene.lease_asked()
    scene.lease_given(4 if wrong else 5)
    scene.on_time(20)


@breaks("renewals-late")
def a_session_is_not_renewed(scene: Scene, wrong: bool) -> None:
    if wrong:
        scene.wait(61)
    else:
        scene.on_time(61)
    scene.looks_up()


@breaks("close-seq-wrong")
def a_session_is_closed_with_too_high_a_count(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.told(CapOp.GRANT, FULL, 2)
    scene.close(2 if wrong else 1)


@breaks("close-seq-wrong")
def a_session_is_not_closed_anew_when_more_has_come(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.sends(ClientSession(SessionOp.REQUEST_CLOSE, 0))
    scene.told(CapOp.GRANT, FULL, 2)
    if not wrong:
        scene.close(1)
    scene.wait(10)
    scene.looks_up(rank=1)


@breaks("flushmsg-unacked")
def a_flushmsg_is_not_answered(scene: Scene, wrong: bool) -> None:
    scene.session(SessionOp.FLUSHMSG, 3)
    if not wrong:
        scene.sends(ClientSession(SessionOp.FLUSHMSG_ACK, 3))
    scene.on_time(20)


@breaks("flushmsg-ack-before-release")
def recalled_caps_are_released_after_the_flushmsg_is_answered(scene: Scene, wrong: bool) -> None:
    scene.looks_up()
    scene.session(SessionOp.RECALL_STATE)
    scene.session(SessionOp.FLUSHMSG, 3)
    if not wrong:
        scene.release()
    scene.sends(ClientSession(SessionOp.FLUSHMSG_ACK, 3))
    if wrong:
        scene.release()


@breaks("revoke-loop")
def a_released_cap_comes_back_for_ever(scene: Scene, wrong: bool) -> None:
    """Ceph PR 56828."""
    scene.looks_up()
    scene.told(CapOp.GRANT, FULL, 2)
    scene.release()
    for seq in range(3, 30 if wrong else 6, 2):
        scene.told(CapOp.REVOKE, SHARED, seq)
        scene.release(issue_seq=seq)
        scene.told(CapOp.GRANT, FULL, seq + 1)


# What holds for all of them

SCENES = pytest.mark.parametrize(
    ("rule", "play"), PLAYS, ids=[f"{rule}: {play.__name__.replace('_', ' ')}" for rule, play in PLAYS]
)


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule for rule, _ in PLAYS} == set(RULES)


@SCENES
def test_a_planted_fault_is_found_and_nothing_else(rule: str, play: Play) -> None:
    assert [finding.rule.name for finding in judged(played(play, wrong=True))] == [rule]


@SCENES
def test_the_same_done_right_is_clean(rule: str, play: Play) -> None:
    assert judged(played(play, wrong=False)) == []


@SCENES
def test_wherever_the_capture_begins_nobody_is_accused_for_what_came_before(rule: str, play: Play) -> None:
    items = played(play, wrong=False)
    for start in range(len(items)):
        assert judged(items[start:]) == [], start


@SCENES
def test_a_gap_anywhere_accuses_nobody(rule: str, play: Play) -> None:
    items = played(play, wrong=False)
    for start in range(len(items)):
        for end in range(start + 1, len(items)):
            flows = {item.flow.number: item.flow for item in items[start:end] if item.flow is not None}
            gaps = [problem(flow=flow) for flow in flows.values()]
            assert judged([*items[:start], *gaps, *items[end:]]) == [], (start, end)


@SCENES
def test_what_is_sent_again_after_a_reset_connection_counts_once(rule: str, play: Play) -> None:
    items = played(play, wrong=False)
    again = [repeated for item in items for repeated in (item, item._replace(resent=True))]  # type: ignore[call-arg]
    assert judged(again) == []


def test_a_finding_says_everything_about_the_inode() -> None:
    scene = Scene()
    scene.open()
    scene.looks_up()
    scene.update(FULL, 1)
    scene.told(CapOp.REVOKE, READ, 2)
    scene.on_time(15)
    (finding,) = judged(scene.items)
    assert (finding.client, finding.rank, finding.ino, finding.path) == (4123, 0, FILE, "/file")
    assert (finding.bits, finding.seq) == (FULL & ~READ, 2)
    assert finding.age_ns is not None
    assert 15e9 < finding.age_ns < 16e9
    assert finding.client_said == "update seq 1 issue_seq 1 mseq 0 caps pAsxLsXsxFsxcrwb"
    assert finding.mds_said == "revoke seq 2 mseq 0 caps pAsLsXsFscr"
    assert "not answered" in finding.what


def test_clients_of_one_capture_are_judged_apart() -> None:
    one, other = Scene(), Scene(5)
    for scene in (one, other):
        scene.open()
        scene.looks_up()
        scene.told(CapOp.REVOKE, READ, 2)
    one.update(READ, 2)
    one.on_time(15)
    other.on_time(15)
    items = sorted([*one.items, *other.items], key=lambda item: item.ns)
    assert [finding.client for finding in judged(items)] == [5]


def test_a_lone_capture_of_what_an_mds_says_accuses_nobody() -> None:
    for _, play in PLAYS:
        heard = [item for item in played(play, wrong=False) if not item.to_daemon]
        assert {finding.rule.name for finding in judged(heard)} <= {
            "revoke-unanswered", "lease-revoke-unanswered", "flushmsg-unacked", "renewals-late",
        }  # fmt: skip


def test_rules_and_clients_can_be_chosen() -> None:
    items = played(a_revoke_is_not_answered, wrong=True)
    for linter, count in (
        (Linter(frozenset({"revoke-late"})), 0),
        (Linter(frozenset({"revoke-unanswered"})), 1),
        (Linter(clients=frozenset({5})), 0),
        (Linter(clients=frozenset({4123})), 1),
    ):
        found = [finding for item in items for finding in linter.take(item)] + linter.finish()
        assert len(found) == count


def test_sequence_numbers_may_wrap() -> None:
    scene = Scene()
    scene.open()
    scene.looks_up(FULL, 2**32 - 1)
    scene.told(CapOp.REVOKE, READ, 0)
    scene.update(READ, 0, issue_seq=2**32 - 1)
    assert judged(scene.items) == []


def test_a_release_that_was_queued_before_the_cap_came_back_is_no_fault() -> None:
    """Seen of libcephfs after a failover: its tick sends what was dropped before the inode was looked up again."""
    scene = Scene()
    scene.open()
    scene.looks_up(READ, 1)
    scene.looks_up(READ, 2)
    scene.update(READ, 2, issue_seq=2)
    scene.release(issue_seq=1)
    scene.told(CapOp.REVOKE, SHARED, 3)
    scene.update(SHARED, 3, issue_seq=2)
    scene.on_time(15)
    assert judged(scene.items) == []


def test_a_release_of_a_client_at_work_is_not_taken_for_a_late_answer_to_a_recall() -> None:
    """Seen of libcephfs: nothing could be given back when it was recalled; files closed and unlinked later are."""
    scene = Scene()
    scene.open()
    scene.looks_up()
    scene.session(SessionOp.RECALL_STATE)
    scene.session(SessionOp.FLUSHMSG, 3)
    scene.sends(ClientSession(SessionOp.FLUSHMSG_ACK, 3))
    scene.request(READ, 1)
    scene.release()
    assert judged(scene.items) == []


def test_write_bits_of_an_earlier_cap_have_nothing_to_do_with_a_later_one_s_flushsnap() -> None:
    """Seen of libcephfs: a cap that is released comes back with another cap_id, and seqs from 1."""
    scene = Scene()
    scene.open()
    scene.looks_up(seq=7)
    scene.update(READ, 7, issue_seq=7)
    scene.release(issue_seq=7)
    scene.looks_up(seq=1, cap_id=8)
    scene.flushsnap(FULL, 1, 2)
    scene.acked(1, op=CapOp.FLUSHSNAP_ACK, follows=2)
    assert judged(scene.items) == []


def test_a_burst_that_crosses_a_release_is_no_loop() -> None:
    scene = Scene()
    scene.open()
    scene.looks_up()
    scene.release()
    for seq in range(2, 6):
        scene.told(CapOp.GRANT, FULL, seq)
    for seq in range(2, 6):
        scene.release(issue_seq=seq)
    assert judged(scene.items) == []


def test_a_flush_of_another_inode_does_not_acknowledge() -> None:
    scene = Scene()
    scene.open()
    scene.looks_up()
    scene.update(FULL, 1, dirty=AX, tid=1)
    scene.hears(caps(CapOp.FLUSH_ACK, 0, DIR), tid=2)
    scene.on_time(30)
    assert [finding.rule.name for finding in judged(scene.items)] == ["flush-unacked"]


# What crosses in flight


@pytest.mark.parametrize(("spoke", "rules"), [(False, []), (True, ["issue-seq-wrong"])])
def test_a_message_about_a_cap_that_the_client_has_not_is_answered_by_its_seq(spoke: bool, rules: list[str]) -> None:
    """Seen of libcephfs: its release crosses the reply that issues the cap anew, so that the MDS takes no notice, and a
    REVOKE follows; who speaks of the cap in between has it, and should know better."""
    scene = Scene()
    scene.open()
    scene.looks_up(READ, 1)
    scene.looks_up(READ, 2)
    scene.release(issue_seq=1)
    if spoke:
        scene.update(READ, 2, issue_seq=2)
    scene.told(CapOp.REVOKE, SHARED, 3)
    scene.release(issue_seq=3)
    assert [finding.rule.name for finding in judged(scene.items)] == rules


@pytest.mark.parametrize(
    ("released", "issue_seq", "rules"),
    [(True, 2, []), (True, 3, []), (True, 5, ["issue-seq-wrong"]), (False, 3, ["issue-seq-wrong"])],
)
def test_what_comes_for_a_released_cap_is_answered_by_its_seq_though_a_reply_issues_it_anew(
    released: bool, issue_seq: int, rules: list[str]
) -> None:
    """Seen of libcephfs: that answer crosses the reply."""
    scene = Scene()
    scene.open()
    scene.looks_up(READ, 1)
    if released:
        scene.release(issue_seq=1)
    scene.told(CapOp.GRANT, READ, 2)
    scene.told(CapOp.GRANT, READ, 3)
    scene.looks_up(READ, 4)
    scene.release(issue_seq=issue_seq)
    assert [finding.rule.name for finding in judged(scene.items)] == rules


@pytest.mark.parametrize(
    ("again", "seq", "rules"),
    [
        (FULL, 1, []),
        (FULL, 2, ["update-before-flushsnap"]),  # it has read that, and gives the new ones back
        (READ, 1, ["update-before-flushsnap"]),  # that gives it none
    ],
)
def test_write_bits_given_back_under_an_old_seq_may_have_been_granted_again(
    again: int, seq: int, rules: list[str]
) -> None:
    """Seen of libcephfs: what a reply gave anew it still has when the snapshot comes."""
    scene = Scene()
    scene.open()
    scene.looks_up(FULL, 1)
    scene.looks_up(again, 2)
    scene.update(READ, seq, issue_seq=seq)
    scene.flushsnap(FULL, 1, 2)
    scene.acked(1, op=CapOp.FLUSHSNAP_ACK, follows=2)
    assert [finding.rule.name for finding in judged(scene.items)] == rules


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("answered", "by_another", "rules"),
    [
        ("after", False, []),
        ("before", False, ["flushmsg-ack-before-release"]),
        ("after", True, ["flushmsg-ack-before-release"]),
    ],
)
def test_inodes_that_come_in_push_others_out_of_the_cache(
    answered: str, by_another: bool, rank: int, rules: list[str]
) -> None:
    """Seen of libcephfs: a reply's inode takes the place of one that then goes, with no recall."""
    scene, other = Scene(), Scene(4124)
    scene.open(0)
    scene.open(1)
    scene.looks_up()
    told = other if by_another else scene
    told.sends(request(RequestOp.LOOKUP, DIR, "other"), rank, tid=50)
    scene.session(SessionOp.RECALL_STATE)
    scene.session(SessionOp.FLUSHMSG, 3)
    if answered == "before":
        told.hears(reply(RequestOp.LOOKUP, target=None), rank, tid=50)
    scene.sends(ClientSession(SessionOp.FLUSHMSG_ACK, 3))
    if answered == "after":
        other.now = scene.now
        told.hears(reply(RequestOp.LOOKUP, target=None), rank, tid=50)
    scene.release()
    items = sorted(scene.items + other.items, key=lambda item: item.ns)
    assert [finding.rule.name for finding in judged(items)] == rules


@pytest.mark.parametrize(("seq", "rules"), [(3, []), (5, ["issue-seq-wrong"]), (None, ["issue-seq-wrong"])])
def test_who_has_read_the_export_and_not_the_import_is_one_seq_behind(seq: int | None, rules: list[str]) -> None:
    scene = Scene()
    scene.open(0)
    scene.open(1)
    scene.looks_up()
    scene.looks_up(READ, 1, cap_id=70, rank=1)
    scene.told(CapOp.GRANT, READ, 2, cap_id=70, rank=1)
    scene.told(CapOp.IMPORT, READ, 3, cap_id=70, rank=1, mseq=1, peer=CapPeer(7, 1, 0, 0, CapFlag.AUTH))
    if seq is not None:
        scene.hears(caps(CapOp.EXPORT, 0, FILE, cap_id=7, body=CapPeer(70, seq, 1, 1, CapFlag.AUTH)))
    scene.update(SHARED, 2, issue_seq=2, cap_id=70, rank=1)
    assert [finding.rule.name for finding in judged(scene.items)] == rules


@pytest.mark.parametrize(("exported", "rules"), [(True, []), (False, ["caps-not-issued"])])
def test_who_has_read_the_export_and_not_the_import_has_what_the_exporter_gave(
    exported: bool, rules: list[str]
) -> None:
    """Seen of libcephfs: a request that is forwarded gives back what the old rank had granted."""
    scene = Scene()
    scene.open(0)
    scene.open(1)
    scene.looks_up(FULL)
    scene.looks_up(SHARED, 1, cap_id=70, rank=1)
    scene.told(CapOp.IMPORT, FULL, 2, cap_id=70, rank=1, mseq=1, peer=CapPeer(7, 1, 0, 0, CapFlag.AUTH))
    if exported:
        scene.hears(caps(CapOp.EXPORT, 0, FILE, cap_id=7, body=CapPeer(70, 2, 1, 1, CapFlag.AUTH)))
    scene.update(READ, 1, cap_id=70, rank=1)
    assert [finding.rule.name for finding in judged(scene.items)] == rules


@pytest.mark.parametrize(("kept", "rules"), [(SHARED, []), (FULL & ~parse_caps("Xx"), ["revoke-unanswered"])])
def test_bits_that_were_given_back_unasked_are_not_asked_back_by_a_grant_without_them(
    kept: int, rules: list[str]
) -> None:
    """Seen of our client: more went back with the answer to a REVOKE than that took."""
    scene = Scene()
    scene.open()
    scene.looks_up()
    scene.told(CapOp.REVOKE, FULL & ~parse_caps("Xx"), 2)
    scene.update(kept, 2)
    scene.told(CapOp.GRANT, SHARED, 3)
    scene.on_time(20)
    assert [finding.rule.name for finding in judged(scene.items)] == rules
