"""The JSON form of events and metrics: what scripts rely on, so any change of it shows here."""

from __future__ import annotations

import json

import msgspec
import pytest

from cephcaps import events
from cephcaps.caps import Caps
from cephcaps.engine.latency import BOUNDS, Histogram
from cephcaps.events import Event, to_json
from cephcaps.view import Late, Latency, Metrics

CAP = {"ino": 0x100_0000_0001, "rank": 0, "caps": Caps("AxFx"), "issued": Caps("pAsLsXsFs"), "seq": 3}
CAP_JSON = '"ino":1099511627777,"rank":0,"caps":"AxFx","issued":"pAsLsXsFs","seq":3'
REQUEST = {"tid": 7, "op": "lookup", "ino": 1, "path": "d"}
REQUEST_JSON = '"tid":7,"op":"lookup","ino":1,"path":"d"'

FORMS: list[tuple[Event, str]] = [
    (events.CapGranted(**CAP), f'{{"event":"CapGranted",{CAP_JSON}}}'),
    (events.CapRevoking(**CAP), f'{{"event":"CapRevoking",{CAP_JSON}}}'),
    (events.CapRevokeAcked(**CAP), f'{{"event":"CapRevokeAcked",{CAP_JSON}}}'),
    (events.CapReleased(**CAP), f'{{"event":"CapReleased",{CAP_JSON}}}'),
    (events.CapFlushing(**CAP, flush_tid=9), f'{{"event":"CapFlushing","flush_tid":9,{CAP_JSON}}}'),
    (events.CapFlushed(**CAP, flush_tid=9), f'{{"event":"CapFlushed","flush_tid":9,{CAP_JSON}}}'),
    (events.CapImported(**CAP), f'{{"event":"CapImported",{CAP_JSON}}}'),
    (events.CapExported(**CAP), f'{{"event":"CapExported",{CAP_JSON}}}'),
    (events.CapStale(**CAP), f'{{"event":"CapStale",{CAP_JSON}}}'),
    (events.RequestStarted(**REQUEST), f'{{"event":"RequestStarted",{REQUEST_JSON}}}'),
    (
        events.RequestEnded(**REQUEST, rank=0, result=-2, error=""),
        f'{{"event":"RequestEnded","rank":0,"result":-2,"error":"",{REQUEST_JSON}}}',
    ),
    (
        events.RequestEnded(**REQUEST, rank=-1, result=None, error="cancelled"),
        f'{{"event":"RequestEnded","rank":-1,"result":null,"error":"cancelled",{REQUEST_JSON}}}',
    ),
    (
        events.SessionChanged(rank=1, state="stale", why="silent"),
        '{"event":"SessionChanged","rank":1,"state":"stale","why":"silent"}',
    ),
    (events.MdsMapChanged(epoch=12), '{"event":"MdsMapChanged","epoch":12}'),
    (
        events.RecordingEnded(path="/tmp/x.pcapng", reason="No space left on device"),
        '{"event":"RecordingEnded","path":"/tmp/x.pcapng","reason":"No space left on device"}',
    ),
    (events.EventsDropped(count=5), '{"event":"EventsDropped","count":5}'),
]
BASES = {events.CapEvent, events.RequestEvent}
"""Never made: what their classes have in common."""


@pytest.mark.parametrize(("event", "form"), FORMS, ids=lambda value: type(value).__name__)
def test_the_json_form_of_an_event_stays(event: Event, form: str) -> None:
    assert to_json(event).decode() == form


def test_every_class_of_event_has_its_form_held_here() -> None:
    public = [getattr(events, name) for name in events.__all__]
    classes = {kind for kind in public if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}

    assert {type(event) for event, _ in FORMS} == classes - BASES


def test_metrics_have_a_json_form() -> None:
    latency = Latency(count=2, seconds=0.75, buckets=(1, 1))
    metrics = Metrics(
        inodes=4, caps={0: 4}, dirty=1, flushing=2, revoking=3, requests=5, release_messages=6, caps_released=7,
        unmatched_replies=0, bytes_skipped=0, late=(Late("flush", 1, 0, 6.5, "flush 1 of Ax is not acknowledged"),),
        sessions={0: "open"}, request_latency={0: {"lookup": latency}},
        request_failures={-1: {"getattr": {"RequestTimeout": 1}}}, revoke_latency={0: latency}, flush_latency={},
    )  # fmt: skip

    assert json.loads(metrics.to_json()) == {
        "inodes": 4,
        "caps": {"0": 4},
        "dirty": 1,
        "flushing": 2,
        "revoking": 3,
        "requests": 5,
        "release_messages": 6,
        "caps_released": 7,
        "unmatched_replies": 0,
        "bytes_skipped": 0,
        "late": [{"kind": "flush", "ino": 1, "rank": 0, "age": 6.5, "why": "flush 1 of Ax is not acknowledged"}],
        "sessions": {"0": "open"},
        "request_latency": {"0": {"lookup": {"count": 2, "seconds": 0.75, "buckets": [1, 1]}}},
        "request_failures": {"-1": {"getattr": {"RequestTimeout": 1}}},
        "revoke_latency": {"0": {"count": 2, "seconds": 0.75, "buckets": [1, 1]}},
        "flush_latency": {},
    }
    assert msgspec.json.decode(metrics.to_json(), type=Metrics) == metrics


def test_a_duration_counts_in_the_first_bucket_that_it_fits() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1], BOUNDS[-1] + 1, 1e9):
        histogram.add(seconds)

    assert list(BOUNDS) == sorted(BOUNDS)
    assert histogram.counts == [2, 1, *[0] * (len(BOUNDS) - 3), 1, 2]
    assert Latency.of(histogram).count == 6
