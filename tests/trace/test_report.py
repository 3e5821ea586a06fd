"""Reports: what is gathered from a trace, its bounds, and the data made of it."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cephcaps.trace.items import Item, Traced
from cephcaps.trace.report import Gathered, page, perfetto, report_data, spelled_out
from cephcaps.trace.report import inodes as inodes_module
from cephcaps.trace.report.durations import Durations
from cephcaps.trace.report.ends import OTHERS
from cephcaps.trace.report.lanes import ASKED, EVENT_COLUMNS, LANE_COLUMNS, MERGED, Event, Inode
from cephcaps.trace.report.page import as_text
from cephcaps.trace.report.series import MOST_BINS, Series
from cephwire.capbits import parse_caps
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp, CapPeer
from cephwire.inode import InodeStat
from cephwire.reconnect import CapReconnect, ClientReconnect, ReconnectCap
from cephwire.reply import ClientRequestForward
from cephwire.request import RequestRelease
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.trace.rendering import (
    DIR,
    FILE,
    MS,
    NS,
    ROOT,
    any_message,
    caps,
    down,
    flow,
    inode,
    problem,
    recorded,
    request,
    up,
)
from tests.trace.rendering import reply as made_reply

FULL, SHARED, READ = parse_caps("pAsxLsXsxFsxcrwb"), parse_caps("pAsLsXs"), parse_caps("pAsLsXsFscr")
LOST = FULL & ~SHARED
OTHER = flow(client=5, number=2)
SECOND = flow(rank=1, number=3)


def issued(ino: int, bits: int, seq: int = 1, **more: Any) -> InodeStat:
    stat = inode(ino, bits, **more)
    return msgspec.structs.replace(stat, cap=msgspec.structs.replace(stat.cap, seq=seq))


def opened(bits: int = FULL, at: float = 0, ino: int = FILE, name: str = "file", **more: Any) -> Traced:
    """A reply that issues caps on an inode, and tells where it lies."""
    return down(made_reply(RequestOp.LOOKUP, issued(DIR, 1), name, issued(ino, bits)), at, **more)


def rooted(**more: Any) -> Traced:
    return down(made_reply(RequestOp.LOOKUP, issued(ROOT, 1), "dir", issued(DIR, 1)), 0, **more)


def gathered(*items: Item, slices: bool = False) -> Gathered:
    found = Gathered(slices=slices)
    found.take_all(items)
    return found


def lanes(found: Gathered, ino: int = FILE) -> dict[str, list[tuple[float, int, int]]]:
    """Of an inode: by client, when in milliseconds, what is held, what is wanted back and flags."""
    data = report_data(found, "")
    told = next(one for one in data["inodes"] if one["ino"] == f"{ino:#x}")
    out = {}
    for client, flat in told["lanes"]:
        at, rows = 0, []
        for column in range(0, len(flat), LANE_COLUMNS):
            at += flat[column]
            rows.append((at / 1000, flat[column + 1], flat[column + 2]))
        out[data["clients"][client]["name"]] = rows
    return out


ME = "client.4123"

# Who holds what


def test_a_lane_tells_what_was_issued_wanted_back_and_given_back() -> None:
    found = gathered(
        opened(FULL),
        down(caps(CapOp.REVOKE, SHARED, seq=2), 4),
        up(caps(CapOp.UPDATE, SHARED, seq=2), 9),
    )
    assert lanes(found) == {ME: [(0, FULL, 0), (4, FULL, LOST | ASKED), (9, SHARED, 0)]}
    data = report_data(found, "")
    assert data["revokes"]["all"]["count"] == 1
    assert data["revokes"]["all"]["most_us"] == 5000
    assert data["revokes"]["slowest"][0]["answered_by"] == "caps"
    assert data["unanswered"] == []


def test_a_client_holds_what_it_has_not_given_back() -> None:
    found = gathered(rooted(), opened(FULL), opened(READ, 3, flow=OTHER), down(caps(CapOp.REVOKE, SHARED, seq=2), 4),
                     up(ClientSession(SessionOp.REQUEST_RENEWCAPS, 1), 1004))  # fmt: skip
    (asked,) = report_data(found, "")["unanswered"]
    assert asked == {
        "at_us": 4000,
        "age_us": 1_000_000,
        "client": 1,
        "daemon": 1,
        "ino": f"{FILE:#x}",
        "path": "/dir/file",
        "caps": "AxXxFsxcrwb",
        "seq": 2,
        "waiting": [],
    }


def test_an_unanswered_revoke_tells_who_waits() -> None:
    found = gathered(opened(FULL), down(caps(CapOp.REVOKE, SHARED, seq=2), 4),
                     up(request(RequestOp.GETATTR, FILE), 5, tid=7, flow=OTHER))  # fmt: skip
    data = report_data(found, "")
    assert [(one["what"], one["tid"]) for one in data["unanswered"][0]["waiting"]] == [("getattr", 7)]
    assert [one["what"] for one in data["waiting"]] == ["getattr"]


def test_an_answer_that_keeps_too_much_or_is_too_old_is_none() -> None:
    revoked = (opened(FULL), down(caps(CapOp.REVOKE, SHARED, seq=2), 4))
    assert gathered(*revoked, up(caps(CapOp.UPDATE, READ, seq=2), 5)).holdings.outstanding()
    assert gathered(*revoked, up(caps(CapOp.UPDATE, SHARED, seq=1), 5)).holdings.outstanding()
    assert not gathered(*revoked, up(caps(CapOp.UPDATE, SHARED, seq=2), 5)).holdings.outstanding()


def test_what_crosses_a_grant_takes_nothing_from_it() -> None:
    found = gathered(opened(SHARED), down(caps(CapOp.GRANT, FULL, seq=2), 4), up(caps(CapOp.UPDATE, SHARED, seq=1), 5))
    assert lanes(found) == {ME: [(0, SHARED, 0), (4, FULL, 0)]}


def test_sequence_numbers_wrap() -> None:
    found = gathered(opened(FULL), down(caps(CapOp.REVOKE, READ, seq=2**32 - 1), 4),
                     down(caps(CapOp.REVOKE, SHARED, seq=0), 5), up(caps(CapOp.UPDATE, SHARED, seq=0), 6))  # fmt: skip
    assert not found.holdings.outstanding()
    assert report_data(found, "")["revokes"]["all"]["most_us"] == 2000  # since it was first asked


def test_a_grant_that_takes_bits_is_a_revoke_and_one_that_gives_them_back_ends_the_wish() -> None:
    found = gathered(opened(FULL), down(caps(CapOp.GRANT, SHARED, seq=2), 4), down(caps(CapOp.GRANT, FULL, seq=3), 5))
    assert lanes(found)[ME][1:] == [(4, FULL, LOST | ASKED), (5, FULL, ASKED)]


def test_a_release_in_a_request_or_of_the_whole_cap_answers() -> None:
    revoked = (opened(FULL), down(caps(CapOp.REVOKE, SHARED, seq=2), 4))
    release = RequestRelease(FILE, 7, SHARED, 0, 2, 1, 1)
    found = gathered(*revoked, up(request(RequestOp.UNLINK, DIR, "file", releases=(release,)), 5))
    assert report_data(found, "")["revokes"]["slowest"][0]["answered_by"] == "request"
    found = gathered(*revoked, up(ClientCapRelease((CapItem(FILE, 7, 0, 1),)), 6))
    assert report_data(found, "")["revokes"]["slowest"][0]["answered_by"] == "caprelease"
    assert lanes(found)[ME][-1] == (6, 0, 0)


def test_the_end_of_a_session_an_export_and_a_failover_end_a_hold_without_an_answer() -> None:
    revoked = (opened(FULL), down(caps(CapOp.REVOKE, SHARED, seq=2), 4))
    exported = caps(CapOp.EXPORT, 0, body=CapPeer(8, 1, 1, 1, 0))
    for item, how in (
        (down(ClientSession(SessionOp.CLOSE, 0), 5), "session"),
        (down(exported, 5), "export"),
    ):
        found = gathered(*revoked, item)
        assert found.overtaken == {how: 1}
        assert report_data(found, "")["revokes"]["all"]["count"] == 0
        assert lanes(found)[ME][-1] == (5, 0, 0)


def test_a_cap_told_to_the_next_holder_of_a_rank_is_held_from_that_one() -> None:
    after = flow(number=9)
    after.daemon = "192.0.2.3:6800"
    told = ReconnectCap(FILE, CapReconnect("", 7, 0, READ, ROOT, 0, None))
    found = gathered(
        opened(FULL),
        opened(FULL, 1, FILE + 1, "lost"),
        up(ClientReconnect((told,), ()), 5, flow=after),
        down(ClientSession(SessionOp.OPEN, 0), 6, flow=after),
    )
    assert lanes(found)[ME] == [(0, FULL, 0), (5, READ, 0)]
    assert report_data(found, "")["daemons"][1:] == ["mds.0 (192.0.2.2:6800)", "mds.0 (192.0.2.3:6800)"]
    assert lanes(found, FILE + 1)[ME][-1] == (5, 0, 0)


def test_caps_of_two_ranks_are_one_lane() -> None:
    found = gathered(opened(READ), opened(SHARED, 2, flow=SECOND), up(ClientCapRelease((CapItem(FILE, 7, 0, 1),)), 3))
    assert lanes(found)[ME] == [(0, READ, 0), (3, SHARED, 0)]


def test_what_a_connection_says_before_its_client_is_known_is_that_clients() -> None:
    unknown = flow(client=None, number=4)
    first = opened(READ, flow=unknown)
    found = gathered(first)
    unknown.client_id = 77
    found.take(opened(FULL, 3, flow=unknown))
    found.take(opened(FULL, 4, flow=flow(client=77, number=5)))
    assert list(lanes(found)) == ["client.77"]


# What else is told


def test_events_of_an_inode_are_those_that_name_it() -> None:
    found = gathered(
        rooted(),
        up(request(RequestOp.LOOKUP, DIR, "file"), 1, tid=3),
        opened(FULL, 2, tid=3),
        down(caps(CapOp.REVOKE, SHARED, seq=2), 4),
        up(caps(CapOp.UPDATE, SHARED, seq=2), 9),
    )
    told = spelled_out(report_data(found, "x"))
    (file,) = [one for one in told["inodes"] if one["ino"] == f"{FILE:#x}"]
    assert file["path"] == "/dir/file"
    assert [(one["type"], one["at_us"], one["caps"], one["waited_us"]) for one in file["events"]] == [
        ("client_reply(lookup)", 2000, "pAsxLsXsxFsxcrwb", 1000),
        ("client_caps(revoke)", 4000, "pAsLsXs", None),
        ("client_caps(update)", 9000, "pAsLsXs", 5000),
    ]
    assert [one["client"] for one in file["events"]] == [ME] * 3
    assert file["lanes"][0]["stretches"][1] == {
        "at_us": 4000, "caps": "pAsxLsXsxFsxcrwb", "wanted_back": "AxXxFsxcrwb", "revoking": True, "merged": False,
    }  # fmt: skip


def test_flushes_and_requests_are_timed_and_those_without_an_answer_told() -> None:
    dirty = parse_caps("Fw")
    found = gathered(
        up(caps(CapOp.FLUSH, FULL, dirty=dirty), 0, tid=1),
        up(caps(CapOp.FLUSH, FULL, dirty=dirty), 1, tid=2),
        up(caps(CapOp.FLUSH, FULL, FILE + 1, dirty=dirty), 2, tid=3),
        down(caps(CapOp.FLUSH_ACK, 0, dirty=dirty), 5, tid=2),  # and of what was flushed before
        up(request(RequestOp.MKDIR, DIR, "new"), 6, tid=9),
        down(ClientRequestForward(1, 1, 1), 7, tid=9),
        up(request(RequestOp.MKDIR, DIR, "new"), 8, tid=9, flow=SECOND),
        down(made_reply(RequestOp.MKDIR, safe=0), 10, tid=9, flow=SECOND),
        down(made_reply(RequestOp.MKDIR), 900, tid=9, flow=SECOND),
        up(request(RequestOp.RMDIR, DIR, "old"), 901, tid=10),
    )
    data = report_data(found, "")
    assert {one["what"]: (one["count"], one["most_us"]) for one in data["took"]} == {
        "flush": (1, 4000), "mkdir": (1, 4000),
    }  # fmt: skip
    assert [(one["what"], one["tid"], one["caps"]) for one in data["waiting"]] == [
        ("flush", 3, "Fw"),
        ("rmdir", 10, ""),
    ]


def test_what_was_resent_or_could_not_be_read_counts_but_changes_nothing() -> None:
    found = gathered(opened(FULL), opened(SHARED, 1, resent=True), problem(2, size=10))
    assert lanes(found)[ME] == [(0, FULL, 0)]
    summary = report_data(found, "")["summary"]
    assert (summary["messages"], summary["problems"][0]["count"]) == (2, 1)
    assert found.summary.incomplete


def test_sessions_tell_who_clients_are_and_what_happened() -> None:
    found = gathered(
        up(ClientSession(SessionOp.REQUEST_OPEN, 0, metadata={"hostname": "web3", "pid": "1"})),
        up(ClientSession(SessionOp.REQUEST_RENEWCAPS, 1), 1),
        down(ClientSession(SessionOp.RECALL_STATE, 0, max_caps=100), 2),
        down(ClientSession(SessionOp.STALE, 0), 3),
    )
    told = spelled_out(report_data(found, ""))
    assert told["clients"][1] == {"name": ME, "heard_us": 1000, "hostname": "web3"}
    assert [one["type"].partition("(")[2] for one in told["marks"]] == ["request_open)", "recall_state)", "stale)"]
    assert sum(told["series"]["clients"][-1]["recalled"]) == 1


def test_findings_of_lint_are_told_if_there_is_lint() -> None:
    class Found:
        rule, client, ino, path, what, ns = "revoke-late", 4123, FILE, "/a", "too late", NS + 5 * MS

    assert report_data(gathered(opened()), "")["findings"] is None
    assert report_data(gathered(opened()), "", [])["findings"] == []
    assert report_data(gathered(opened()), "", [Found()])["findings"] == [
        {"at_us": 5000, "rule": "revoke-late", "meaning": "", "client": ME, "ino": f"{FILE:#x}", "path": "/a",
         "what": "too late"}
    ]  # fmt: skip


def test_an_empty_trace_is_a_report_too() -> None:
    data = report_data(gathered(), "none")
    assert data["inodes"] == []
    assert page(data)
    assert perfetto(gathered(slices=True), data)["traceEvents"] == []


# Perfetto


def test_perfetto_shows_clients_as_processes_and_what_takes_time_as_slices() -> None:
    found = gathered(
        rooted(),
        opened(FULL, 0),
        opened(FULL, 0, FILE + 1, "two"),
        down(caps(CapOp.REVOKE, SHARED, seq=2), 4),
        down(caps(CapOp.REVOKE, SHARED, FILE + 1, seq=2), 5),
        up(caps(CapOp.UPDATE, SHARED, seq=2), 9),
        up(request(RequestOp.GETATTR, FILE), 10, tid=1),
        slices=True,
    )
    told = perfetto(found, report_data(found, "x"))
    json.dumps(told)
    events = told["traceEvents"]
    assert [one["args"]["name"] for one in events if one["ph"] == "M"] == [
        ME, "mds.0 revokes", "mds.0 revokes 2", "mds.0 requests",
    ]  # fmt: skip
    slices = [one for one in events if one["ph"] == "X"]
    assert [(one["name"], one["ts"], one["dur"], one["tid"], one["args"]["answered"]) for one in slices] == [
        ("revoke AxXxFsxcrwb", 4000, 5000, 1, True),
        ("unanswered revoke", 5000, 5000, 2, False),
        ("unanswered getattr", 10000, 0, 3, False),
    ]
    assert slices[0]["args"]["path"] == "/dir/file"
    assert [one["args"] for one in events if one["ph"] == "C"] == [{"caps": 4}]  # of the root, dir and two files


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=30))
def test_slices_of_one_thread_do_not_overlap(spans: list[tuple[int, int]]) -> None:
    from cephcaps.trace.report.gather import Slice

    found = gathered(opened(), slices=True)
    found.slices = [Slice("revoke", "r", 1, 1, FILE, at, took) for at, took in spans]
    events = [one for one in perfetto(found, report_data(found, ""))["traceEvents"] if one["ph"] == "X"]
    assert len(events) == len(spans)
    busy: dict[int, int] = {}
    for one in events:
        assert one["ts"] >= busy.get(one["tid"], 0)
        busy[one["tid"]] = one["ts"] + one["dur"]


# Bounds


@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=200))
def test_percentiles_are_right_within_a_few_percent(times: list[int]) -> None:
    took = Durations()
    for one in times:
        took.add(one)
    times.sort()
    for share, found in ((0.5, took.percentiles().median), (0.9, took.percentiles().p90)):
        exact = times[max(-(-int(share * 100) * len(times) // 100) - 1, 0)]
        assert exact * 0.96 - 1 <= found <= exact
    assert (took.percentiles().least, took.percentiles().most) == (times[0], times[-1])
    assert sum(count for _, count in took.counts()) == len(times)


def test_slices_of_time_widen_and_keep_their_sums() -> None:
    series = Series()
    for at in range(0, 5_000_000, 500):
        series.count(at, 1, "revoked")
        series.holds(at, 1, at // 500)
    bins = 5_000_000 // series.width + 1
    assert bins <= MOST_BINS
    assert sum(series.counts(1, bins)["revoked"]) == 10_000
    held = series.held(1, bins)
    assert held == sorted(held)
    assert held[-1] == 9_999


def test_merged_stretches_keep_what_is_left_at_the_end_and_every_revoke() -> None:
    one = Inode(FILE, 0, 1)
    for at in range(0, 1000, 2):
        one.holds(at, 1, READ, 0)
        one.holds(at + 1, 1, READ, ASKED)
    one.holds(1001, 1, SHARED, 0)
    one.merge(100)
    lane = one.lanes[1]
    assert len(lane) <= 25 * LANE_COLUMNS
    assert lane[-2:].tolist() == [SHARED, 0]
    assert all(flags & ASKED and flags & MERGED for flags in lane[2 : -3 : 2 * LANE_COLUMNS])
    assert lane[::LANE_COLUMNS].tolist() == sorted(lane[::LANE_COLUMNS])


@given(st.lists(st.integers(1, 60), max_size=6))
def test_of_the_messages_the_first_and_the_last_are_kept(cuts: list[int]) -> None:
    one, total = Inode(FILE, 0, 1), 0
    for most in cuts:
        for _ in range(40):
            one.add(Event(total, 0, 0, 0, 0, 0, 0, -1))
            total += 1
        one.shorten(most)
        kept = one.events[::EVENT_COLUMNS].tolist()
        assert len(kept) + one.left_out == total
        gap = one.gap if one.left_out else len(kept)
        assert kept[:gap] == list(range(gap))
        assert kept[gap:] == list(range(total - len(kept) + gap, total))


def test_too_much_is_left_out_where_it_matters_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inodes_module, "MOST_INODES", 40)
    monkeypatch.setattr(inodes_module, "MOST_STRETCHES", 300)
    monkeypatch.setattr(inodes_module, "MOST_EVENTS", 200)
    monkeypatch.setattr(inodes_module, "FEWEST", 10)
    found = gathered(opened(FULL), down(caps(CapOp.REVOKE, SHARED, seq=2), 1), *storm(5000, files=100))
    data = report_data(found, "")
    assert data["inodes"][0]["ino"] == f"{FILE:#x}"  # the only one with a revoke that is open
    assert len(data["inodes"]) <= 40
    assert sum(len(one["events"]) for one in data["inodes"]) <= 200 * EVENT_COLUMNS
    assert sum(len(lane) for one in data["inodes"] for _, lane in one["lanes"]) <= 300 * LANE_COLUMNS
    limits = data["limits"]
    assert limits["dropped_inodes"] > 0
    assert limits["most_events"] is not None
    revokes = sum(isinstance(item, Traced) and getattr(item.message, "op", 0) == CapOp.REVOKE and not item.to_daemon
                  and hasattr(item.message, "caps") for item in storm(5000, files=100))  # fmt: skip
    assert data["revokes"]["all"]["count"] == revokes  # counts tell of all


def storm(messages: int, clients: int = 20, files: int = 1000) -> Iterator[Traced]:
    """Clients that take files from each other."""
    chance = random.Random(1)
    stats = [issued(FILE + number, FULL) for number in range(files + 1)]
    revokes = [caps(CapOp.REVOKE, SHARED, FILE + number, seq=2) for number in range(files + 1)]
    answers = [caps(CapOp.UPDATE, SHARED, FILE + number, seq=2) for number in range(files + 1)]
    flows = [flow(4000 + client, client % 2, client + 10) for client in range(clients)]
    holders: dict[int, int] = {}
    at, made, tid = 10.0, 0, 0
    while made < messages:
        number, client = 1 + chance.randrange(files), chance.randrange(clients)
        tid, at = tid + 1, at + 0.5
        yield up(request(RequestOp.OPEN, DIR, f"{number}"), at, tid=tid, flow=flows[client])
        holder = holders.get(number)
        if holder is not None and holder != client:
            yield down(revokes[number], at + 0.1, flow=flows[holder])
            yield up(answers[number], at + 0.2, flow=flows[holder])
        told = made_reply(RequestOp.OPEN, DIR_STAT, f"{number}", stats[number], None)
        yield down(told, at + 0.3, tid=tid, flow=flows[client])
        holders[number] = client
        made += 4


DIR_STAT = issued(DIR, 1)


def test_a_hundred_thousand_messages_are_a_page_of_a_few_megabytes() -> None:
    items = list(storm(100_000))
    begin = time.process_time()
    made = page(report_data(gathered(*items), "storm"))
    assert time.process_time() - begin < 30  # about 4 s
    assert len(made) < 8 << 20


# Whatever is in a trace


def test_every_recorded_message_is_taken() -> None:
    found = gathered(*recorded(), slices=True)
    data = report_data(found, "recorded")
    assert data["inodes"]
    json.dumps(as_text(spelled_out(data)))
    json.dumps(as_text(perfetto(found, data)))


@settings(max_examples=30)
@given(st.lists(any_message(), max_size=5))
def test_any_message_is_taken(items: Iterable[Traced]) -> None:
    found = gathered(*items, slices=True)
    data = report_data(found, "any")
    made = page(data)
    assert re.search(rb'id="data">[^<>&]*</script>', made)
    json.dumps(as_text(spelled_out(data)))
    json.dumps(as_text(perfetto(found, data)))


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63), st.integers(0, 2**64 - 1)), min_size=1, max_size=6))
def test_any_time_is_taken(times: list[tuple[int, int]]) -> None:
    found = gathered(*(opened(FULL, ino=ino)._replace(ns=ns) for ns, ino in times))
    data = report_data(found, "")
    assert 0 <= data["end_us"] <= 2**52
    assert page(data)


def test_more_clients_than_can_be_told_apart_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cephcaps.trace.report.ends.MOST", 5)
    found = gathered(*(opened(flow=flow(client, number=client)) for client in range(10, 20)))
    assert len(found.ends.clients) == 5
    assert OTHERS in next(iter(found.inodes.ranked())).lanes
