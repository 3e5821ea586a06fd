"""The rules of replay: each explains what it is for in a conversation made for it, and not what is next to that."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.trace.items import Flow
from cephcaps.trace.replay import Difference, Replay
from cephcaps.trace.replay.rules import Case, Context, rule_for
from cephcaps.trace.replay.run import NAMELESS
from cephcaps.trace.replay.said import Said
from cephwire.capbits import Cap, FileMode, parse_caps, wanted_for_mode
from cephwire.caps import CapFlag, CapOp
from cephwire.entity import EntityType
from cephwire.inode import IssuedCap
from cephwire.reconnect import CapReconnect, ClientReconnect, ReconnectCap
from cephwire.request import RequestRelease
from cephwire.requestargs import OpenArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.trace.lint_scene import FULL, PIN, READ, SHARED, Scene
from tests.trace.rendering import FILE, ROOT, inode, reply, request
from tests.trace.replaying import replayed

UNEXPLAINED = ""
READS, WRITES = wanted_for_mode(FileMode.RD), wanted_for_mode(FileMode.RDWR)
MEBI = 1 << 20
O_RDONLY, O_RDWR = 0, 2


def differences(scene: Scene) -> list[Difference]:
    replay, found = replayed(scene)
    assert all(tally.unjudged == 0 for tally in replay.tallies.values())
    return found


def rules(scene: Scene) -> list[str]:
    return [one.rule for one in differences(scene)]


def mounted(*ranks: int) -> Scene:
    scene = Scene()
    for rank in ranks or (0,):
        scene.open(rank)
    return scene


def opens(
    scene: Scene,
    bits: int,
    flags: int = O_RDWR,
    *,
    rank: int = 0,
    cap_id: int = 7,
    auth: bool = True,
    seq: int = 1,
    **more: Any,
) -> None:
    """The client has the file open, and its rank knows what is wanted."""
    wanted = WRITES if flags else READS
    cap = IssuedCap(bits, wanted, cap_id, seq, 0, ROOT, CapFlag.AUTH if auth else 0)
    scene.sends(request(RequestOp.OPEN, FILE, args=OpenArgs(flags, 0, 0, 0, 0, -1, 0, 0)), rank, tid=10 + rank)
    scene.hears(reply(RequestOp.OPEN, target=inode(FILE, cap=cap, nlink=1, **more), extra=None), rank, tid=10 + rank)


# in-part


@pytest.mark.parametrize(
    ("kept", "rule"), [("Fb", "in-part"), ("Fcb", "in-part"), ("Ax", UNEXPLAINED), ("FbAx", UNEXPLAINED)]
)
def test_of_a_revoke_data_may_be_kept_a_while_longer_and_nothing_else(kept: str, rule: str) -> None:
    scene = mounted()
    opens(scene, FULL)
    scene.told(CapOp.REVOKE, SHARED, 2, nlink=1)
    scene.update(SHARED | parse_caps(kept), 2, wanted=WRITES)
    scene.update(SHARED, 2, wanted=WRITES)
    assert rules(scene) == [rule]


@pytest.mark.parametrize("wrong", [{"issue_seq": 9}, {"mseq": 1}])
def test_an_answer_in_part_names_the_cap_as_it_is(wrong: dict[str, Any]) -> None:
    scene = mounted()
    opens(scene, FULL)
    scene.told(CapOp.REVOKE, SHARED, 2, nlink=1)
    scene.update(SHARED | Cap.FILE_BUFFER, 2, wanted=WRITES, **wrong)
    scene.update(SHARED, 2, wanted=WRITES)
    assert rules(scene) == [UNEXPLAINED]


@pytest.mark.parametrize(
    ("kept", "issue_seq", "rule"), [("Fr", 1, "in-part"), ("FrAs", 1, UNEXPLAINED), ("Fr", 9, UNEXPLAINED)]
)
def test_what_the_authority_has_granted_too_may_be_kept(kept: str, issue_seq: int, rule: str) -> None:
    """The client may not have read that."""
    scene = mounted(0, 1)
    opens(scene, SHARED, O_RDONLY, rank=1, cap_id=70)
    opens(scene, SHARED | Cap.FILE_RD, O_RDONLY, auth=False)
    scene.told(CapOp.REVOKE, PIN, 2, nlink=1)
    opens(scene, SHARED | Cap.FILE_RD, O_RDONLY, rank=1, cap_id=70, seq=2)
    scene.update(PIN | parse_caps(kept), 2, issue_seq=issue_seq, wanted=READS)
    scene.update(PIN, 2, wanted=READS)
    assert rules(scene)[:1] == [rule]


def test_only_what_the_authority_has_granted_may_be_kept_beyond_ours() -> None:
    expected = Said("update", 0, FILE, 7, PIN, seq=2)
    sent = expected._replace(caps=PIN | Cap.FILE_RD)
    for elsewhere, rule in ((Cap.FILE_RD, "in-part"), (Cap.FILE_CACHE, UNEXPLAINED)):
        context = Context(revoking=Cap.FILE_RD, elsewhere=elsewhere)
        assert rule_for(Case(sent, expected, ("caps",), context)) == rule


# reach


@pytest.mark.parametrize(
    ("bits", "size", "max_size", "wrote", "rule"),
    [
        (READ, 0, 0, True, "reach"),  # it remembers how far it wanted to write
        (READ, 0, 0, False, UNEXPLAINED),  # it never wanted to
        (READ, 0, 4 * MEBI, True, UNEXPLAINED),  # it has been granted more
        (FULL, 4 * MEBI, 4 * MEBI, False, "reach"),  # it is at the end
        (FULL, 4 * MEBI - 1, 4 * MEBI, False, UNEXPLAINED),
        (READ, 4 * MEBI, 4 * MEBI, False, UNEXPLAINED),  # and may not write
    ],
)
def test_who_cannot_write_as_far_as_it_wanted_says_how_things_stand(
    bits: int, size: int, max_size: int, wrote: bool, rule: str
) -> None:
    scene = mounted()
    opens(scene, bits, O_RDWR if wrote else O_RDONLY, size=size, max_size=max_size)
    scene.update(bits, 1, wanted=READS)
    scene.update(bits, 1, wanted=READS)
    assert set(rules(scene)) == {rule}


@pytest.mark.parametrize("wrong", [{"issue_seq": 9}, {"bits": SHARED}])
def test_who_says_how_things_stand_changes_nothing(wrong: dict[str, Any]) -> None:
    scene = mounted()
    opens(scene, READ)
    scene.update(**{"bits": READ, "seq": 1, "wanted": WRITES} | wrong)
    assert rules(scene) == [UNEXPLAINED]


def test_only_the_authority_is_told_how_things_stand() -> None:
    scene = mounted(0, 1)
    opens(scene, READ, rank=1, cap_id=70)
    opens(scene, READ, auth=False)
    scene.update(READ, 1, cap_id=70, rank=1, wanted=WRITES)
    scene.update(READ, 1, wanted=WRITES)
    assert [(one.rank, one.rule) for one in differences(scene)] == [(1, "reach"), (0, UNEXPLAINED)]


# alongside

SECOND = 1000.0


def flushes(scene: Scene, rank: int, cap_id: int, tid: int = 1) -> None:
    scene.update(FULL, 1, cap_id=cap_id, rank=rank, dirty=Cap.FILE_EXCL, tid=tid, wanted=WRITES)


def writes_at(auth: int) -> Scene:
    """Both ranks have granted caps, and know what is wanted."""
    scene = mounted(0, 1)
    opens(scene, FULL, rank=auth, cap_id=70, max_size=4 * MEBI)
    opens(scene, READ, rank=1 - auth, auth=False)
    return scene


@pytest.mark.parametrize("before", [True, False])
def test_a_lower_rank_hears_how_things_stand_along_with_a_flush(before: bool) -> None:
    """The capture may have the two in either order."""
    scene = writes_at(1)
    if before:
        scene.update(READ, 1, wanted=WRITES)
    flushes(scene, 1, 70)
    if not before:
        scene.update(READ, 1, wanted=WRITES)
    assert rules(scene) == ["alongside"]


def test_it_hears_once_for_each_flush() -> None:
    scene = writes_at(1)
    for tid in (1, 2):
        scene.update(READ, 1, wanted=WRITES)
        flushes(scene, 1, 70, tid)
    scene.update(READ, 1, wanted=WRITES)
    assert rules(scene) == ["alongside", "alongside", UNEXPLAINED]


def test_a_rank_above_the_authority_hears_nothing() -> None:
    scene = writes_at(0)
    scene.update(READ, 1, rank=1, wanted=WRITES)
    flushes(scene, 0, 70)
    assert rules(scene) == [UNEXPLAINED]


def test_a_flush_long_after_has_nothing_to_do_with_it() -> None:
    scene = writes_at(1)
    scene.update(READ, 1, wanted=WRITES)
    scene.wait(1.1)
    flushes(scene, 1, 70)
    assert rules(scene) == [UNEXPLAINED]


def test_what_goes_along_with_a_flush_changes_nothing() -> None:
    scene = writes_at(1)
    scene.update(READ & ~Cap.FILE_CACHE, 1, wanted=WRITES)
    flushes(scene, 1, 70)
    assert rules(scene) == [UNEXPLAINED]


# sent-again


def flushed_before_its_rank_was_taken_over() -> Scene:
    scene = mounted()
    opens(scene, FULL, max_size=4 * MEBI)
    flushes(scene, 0, 7, tid=5)
    scene.fails_over()
    scene.reconnect(FULL)
    scene.hears(ClientSession(SessionOp.OPEN, 0))
    return scene


@pytest.mark.parametrize(
    ("again", "rules_needed"),
    [
        ({"op": CapOp.FLUSH}, []),
        ({"op": CapOp.UPDATE}, ["sent-again"]),
        ({"op": CapOp.UPDATE, "tid": 6}, [UNEXPLAINED]),
        ({"op": CapOp.UPDATE, "bits": READ}, [UNEXPLAINED]),
        ({"op": CapOp.UPDATE, "dirty": Cap.AUTH_EXCL}, [UNEXPLAINED]),
    ],
)
def test_a_flush_is_sent_again_under_either_op(again: dict[str, Any], rules_needed: list[str]) -> None:
    scene = flushed_before_its_rank_was_taken_over()
    scene.update(**{"bits": FULL, "seq": 0, "issue_seq": 0, "dirty": Cap.FILE_EXCL, "tid": 5, "wanted": WRITES} | again)
    assert rules(scene) == rules_needed


# lazy


@pytest.mark.parametrize(
    ("held", "kept", "rule"),
    [
        ("Fcl", "Fcl", "lazy"),
        ("Fcbl", "Fcbl", UNEXPLAINED),  # what is cached is covered by FILE_BUFFER
        ("Frcl", "Fl", UNEXPLAINED),  # nothing is cached
    ],
)
def test_lazyio_may_count_as_in_use_for_data_in_the_cache(held: str, kept: str, rule: str) -> None:
    scene = mounted()
    bits = SHARED | parse_caps(held)
    opens(scene, bits, O_RDONLY, max_size=4 * MEBI)
    scene.told(CapOp.REVOKE, bits & ~Cap.FILE_LAZYIO, 2, nlink=1)
    scene.update(SHARED | parse_caps(kept), 2, wanted=READS)
    assert rules(scene)[:1] == [rule]


@pytest.mark.parametrize(("granted", "explained"), [("Fc", True), ("Fcb", False)])
def test_lazyio_is_in_use_until_the_client_says_otherwise(granted: str, explained: bool) -> None:
    """FILE_CACHE, granted meanwhile, would do for the data; FILE_BUFFER besides, and it goes at once."""
    scene = mounted()
    bits = SHARED | parse_caps("Fr")
    opens(scene, bits | Cap.FILE_LAZYIO, O_RDONLY, max_size=4 * MEBI)
    scene.told(CapOp.REVOKE, bits, 2, nlink=1)
    scene.update(bits | Cap.FILE_LAZYIO, 2, wanted=READS)
    bits |= parse_caps(granted)
    scene.told(CapOp.GRANT, bits, 3, nlink=1)
    scene.told(CapOp.REVOKE, bits & ~Cap.AUTH_SHARED, 4, nlink=1)
    scene.update(bits & ~Cap.AUTH_SHARED | Cap.FILE_LAZYIO, 4, wanted=READS)
    scene.told(CapOp.GRANT, bits, 5, nlink=1)
    scene.told(CapOp.GRANT, bits, 6, nlink=1)
    scene.update(bits, 6, wanted=READS)
    found = rules(scene)
    assert found == ["in-part", "lazy"] if explained else UNEXPLAINED in found


@pytest.mark.parametrize("granted", ["Fc", "Fcb"])
def test_a_grant_is_no_occasion_to_give_lazyio_back(granted: str) -> None:
    scene = mounted()
    bits = SHARED | parse_caps("Fr")
    opens(scene, bits | Cap.FILE_LAZYIO, O_RDONLY, max_size=4 * MEBI)
    scene.told(CapOp.REVOKE, bits, 2, nlink=1)
    scene.update(bits | Cap.FILE_LAZYIO, 2, wanted=READS)
    bits |= parse_caps(granted)
    scene.told(CapOp.GRANT, bits, 3, nlink=1)
    scene.told(CapOp.REVOKE, bits & ~Cap.AUTH_SHARED, 4, nlink=1)
    scene.update(bits & ~Cap.AUTH_SHARED, 4, wanted=READS)
    assert rules(scene) == ["in-part"]


# given-before


@pytest.mark.parametrize(
    ("given", "wanted", "rule"),
    [
        (True, 0, "given-before"),
        (True, READS, UNEXPLAINED),  # it has to tell what it wants beyond what is left
        (False, 0, UNEXPLAINED),  # there was something to give back
    ],
)
def test_a_revoke_of_what_is_gone_may_stay_unanswered(given: bool, wanted: int, rule: str) -> None:
    scene = mounted()
    if wanted:
        opens(scene, READ, O_RDONLY)
    else:
        scene.looks_up(READ)
    if given:
        record = RequestRelease(FILE, 7, SHARED, wanted, 1, 1, 0)
        scene.sends(request(RequestOp.GETATTR, FILE, releases=(record,)), tid=100)
    scene.told(CapOp.REVOKE, SHARED, 2, nlink=1)
    scene.on_time(30)
    assert rules(scene)[-1:] == [rule]


@pytest.mark.parametrize(("wanted", "rule"), [(0, "given-before"), (READS, UNEXPLAINED)])
def test_what_a_request_s_record_wants_is_what_was_wanted_last(wanted: int, rule: str) -> None:
    scene = mounted()
    opens(scene, READ, O_RDONLY)
    scene.told(CapOp.REVOKE, READ & ~Cap.AUTH_SHARED, 2, nlink=1)
    scene.update(READ & ~Cap.AUTH_SHARED, 2, wanted=READS)
    record = RequestRelease(FILE, 7, PIN | Cap.LINK_SHARED | Cap.XATTR_SHARED, wanted, 2, 1, 0)
    scene.sends(request(RequestOp.GETATTR, FILE, releases=(record,)), tid=100)
    scene.told(CapOp.REVOKE, PIN | Cap.LINK_SHARED | Cap.XATTR_SHARED, 3, nlink=1)
    scene.on_time(30)
    assert rules(scene)[-1:] == [rule]


@pytest.mark.parametrize(
    ("given", "elsewhere", "rule"),
    [
        (True, False, "given-before"),
        (True, True, UNEXPLAINED),  # it still knows all names
        (False, False, UNEXPLAINED),
    ],
)
def test_a_directory_is_wanted_for_its_names_only_while_they_are_shared(
    given: bool, elsewhere: bool, rule: str
) -> None:
    names, held = Cap.ANY_SHARED | Cap.FILE_EXCL, SHARED | Cap.FILE_SHARED
    scene = mounted(0, 1)
    scene.looks_up(held, mode=0o040755, nlink=1)
    if elsewhere:
        scene.looks_up(held, mode=0o040755, nlink=1, cap_id=70, rank=1)
    scene.update(held, 1, wanted=names)
    if given:
        record = RequestRelease(FILE, 7, SHARED, names, 1, 1, 0)
        scene.sends(request(RequestOp.GETATTR, FILE, releases=(record,)), tid=100)
    scene.told(CapOp.REVOKE, SHARED, 2, nlink=1, mode=0o040755)
    scene.on_time(30)
    assert rules(scene)[-1:] == [rule]


# What is kept for a rank that has not spoken


def taken_over(messages: int, *, others: int = 0) -> Replay:
    """A client says so much to a daemon before that says which it is."""
    replay = Replay(lambda one: None)
    scene = mounted()
    scene.looks_up(READ)
    scene.fails_over()
    flow = scene.flows[0] = Flow(9, "192.0.2.7:50000", "192.0.2.9:6800", 4123, EntityType.MDS, None, 2)
    cap = CapReconnect("", 7, 0, READ, ROOT, ROOT, None)
    scene.sends(ClientReconnect((ReconnectCap(FILE, cap),), ()))
    for _ in range(messages - 1):
        scene.sends(ClientSession(SessionOp.REQUEST_RENEWCAPS, 2))
    other = Scene(4124)
    other.flows[0] = Flow(8, "192.0.2.8:50000", "192.0.2.9:6800", 4124, EntityType.MDS, None, 2)
    for _ in range(others):
        other.sends(ClientSession(SessionOp.REQUEST_RENEWCAPS, 2))
    for item in scene.items + other.items:
        replay.take(item)
    flow.daemon_num = 0
    at = len(scene.items)
    scene.hears(ClientSession(SessionOp.OPEN, 0))
    scene.told(CapOp.REVOKE, SHARED, 1)
    scene.update(SHARED, 1, issue_seq=0)
    for item in scene.items[at:]:
        replay.take(item)
    replay.end()
    return replay


@pytest.mark.parametrize(
    ("messages", "others", "judged"),
    [(NAMELESS, 0, True), (NAMELESS + 1, 0, False), (NAMELESS, 1, False), (10, NAMELESS - 10, True)],
)
def test_so_much_is_kept_for_a_rank_that_has_not_spoken(messages: int, others: int, judged: bool) -> None:
    replay = taken_over(messages, others=others)
    tally = replay.tallies[4123]
    assert not replay.failures
    assert bool(tally.unjudged) is not judged
    assert tally.unexplained == 0
    assert (tally.compared > 0) is judged
