"""What Prometheus is told of clients, read back with its own library's parser."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import cephcaps
from cephcaps import Client, connect
from cephcaps.prometheus import Exporter
from cephcaps.testing import TestCluster

FAMILIES = {
    "cephcaps_up": "gauge",
    "cephcaps_inodes": "gauge",
    "cephcaps_dirty_inodes": "gauge",
    "cephcaps_flushes_in_flight": "gauge",
    "cephcaps_revoking_inodes": "gauge",
    "cephcaps_requests_in_flight": "gauge",
    "cephcaps_caps": "gauge",
    "cephcaps_session": "gauge",
    "cephcaps_late": "gauge",
    "cephcaps_release_messages": "counter",
    "cephcaps_caps_released": "counter",
    "cephcaps_unmatched_replies": "counter",
    "cephcaps_stretches_skipped": "counter",
    "cephcaps_request_failures": "counter",
    "cephcaps_request_duration_seconds": "histogram",
    "cephcaps_revoke_duration_seconds": "histogram",
    "cephcaps_flush_duration_seconds": "histogram",
}
"""Names and types, on which dashboards rely."""


def registry_of(*clients: Client) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Exporter(*clients))
    return registry


def samples(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample's value, by name and labels; none comes twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(registry: CollectorRegistry, name: str, **labels: object) -> float:
    wanted = name, frozenset((label, str(of)) for label, of in labels.items())
    return samples(parse(generate_latest(registry).decode()))[wanted]


async def test_names_and_types_stay(client: Client) -> None:
    text = generate_latest(registry_of(client)).decode()

    families = {family.name: family.type for family in parse(text) if family.name.startswith("cephcaps")}
    assert families == FAMILIES
    assert all(line.startswith(("#", "cephcaps_")) for line in text.splitlines())


async def test_a_scrape_has_the_client_s_metrics(client: Client, other: Client) -> None:
    registry = registry_of(client, other)
    async with client.open("/f", "x") as file:
        await file.setattr(mtime=10**18)
        await other.stat("/f")
        await client.sync()
        with pytest.raises(FileNotFoundError):
            await client.unlink("/nowhere")

        said = samples(parse(generate_latest(registry).decode()))
        metrics = client.metrics

    def one(name: str, **labels: object) -> float:
        return said[name, frozenset((key, str(of)) for key, of in {"client": client.global_id, **labels}.items())]

    create = metrics.request_latency[0]["create"]
    assert one("cephcaps_request_duration_seconds_count", rank=0, op="create") == create.count == 1
    assert one("cephcaps_request_duration_seconds_sum", rank=0, op="create") == pytest.approx(create.seconds)
    assert one("cephcaps_request_duration_seconds_bucket", rank=0, op="create", le="+Inf") == 1
    assert one("cephcaps_request_duration_seconds_bucket", rank=0, op="create", le="300.0") == 1
    assert one("cephcaps_flush_duration_seconds_count", rank=0) == metrics.flush_latency[0].count >= 1
    assert one("cephcaps_revoke_duration_seconds_count", rank=0) == metrics.revoke_latency[0].count >= 1
    assert one("cephcaps_caps", rank=0) == metrics.caps[0]
    assert one("cephcaps_inodes") == metrics.inodes
    assert one("cephcaps_session", rank=0, state="open") == 1
    assert one("cephcaps_up") == 1
    [(op, whys)] = metrics.request_failures[0].items()
    assert whys == {"ENOENT": 1}
    assert one("cephcaps_request_failures_total", rank=0, op=op, why="ENOENT") == 1
    assert one("cephcaps_unmatched_replies_total") == 0
    assert said["cephcaps_up", frozenset({("client", str(other.global_id))})] == 1


async def test_buckets_rise_and_end_at_the_count(client: Client) -> None:
    await client.makedirs("/a/b/c")
    [family] = [
        family
        for family in parse(generate_latest(registry_of(client)).decode())
        if family.name == "cephcaps_request_duration_seconds"
    ]
    buckets = [s.value for s in family.samples if s.name.endswith("_bucket") and s.labels["op"] == "mkdir"]
    [count] = [s.value for s in family.samples if s.name.endswith("_count") and s.labels["op"] == "mkdir"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == count == 3


async def test_openmetrics_is_as_its_parser_wants_it(client: Client) -> None:
    await client.mkdir("/d")
    text = generate_openmetrics(registry_of(client)).decode()
    assert {family.name for family in parse_openmetrics(text)} == set(FAMILIES)


async def test_a_scrape_may_come_from_another_thread(client: Client) -> None:
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry_of(client))
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"

        def scrape() -> str:
            with urllib.request.urlopen(url, timeout=10) as answer:
                body: bytes = answer.read()
                return body.decode()

        scraping = asyncio.create_task(asyncio.to_thread(scrape))
        for number in range(20):  # meanwhile, the dicts it reads grow
            await client.mkdir(f"/d{number}")
        said = samples(parse(await scraping))
    finally:
        server.shutdown()
        server.server_close()
        await asyncio.to_thread(thread.join)
    assert said["cephcaps_up", frozenset({("client", str(client.global_id))})] == 1


async def test_a_busy_loop_is_not_up_and_holds_nobody_up_for_long(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cephcaps.prometheus.PATIENCE", 0.1)
    registry, said = registry_of(client), []
    thread = threading.Thread(target=lambda: said.append(value(registry, "cephcaps_up", client=client.global_id)))
    thread.start()
    time.sleep(0.5)  # noqa: ASYNC251  # holds up the loop, which is the point
    thread.join()
    assert said == [0]
    assert value(registry, "cephcaps_up", client=client.global_id) == 1


async def test_a_client_is_shown_from_when_it_is_connected_until_it_is_closed(cluster: TestCluster) -> None:
    client = connect(cluster.conf)
    registry = registry_of(client)

    def shown() -> list[Metric]:
        return [family for family in parse(generate_latest(registry).decode()) if family.samples]

    assert not shown()
    async with client:
        assert shown()
    assert not shown()


async def test_clients_come_and_go(client: Client, other: Client) -> None:
    registry = CollectorRegistry(auto_describe=True)
    exporter = Exporter(client)
    registry.register(exporter)
    exporter.add(other)
    exporter.remove(client)
    clients = {labels for name, labels in samples(registry.collect()) if name == "cephcaps_up"}
    assert clients == {frozenset({("client", str(other.global_id))})}
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Exporter(client))


LIBRARIES = {"prometheus_client": "prometheus.py", "opentelemetry": "otel.py"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_for_telemetry_is_imported_in_its_module_alone(library: str) -> None:
    package = Path(cephcaps.__file__).parent
    named = {path.name for path in package.rglob("*.py") if library in path.read_text()}
    assert named == {LIBRARIES[library]}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_client_alone_imports_no_library_for_telemetry(library: str) -> None:
    code = (
        "import sys, pkgutil, cephcaps, cephcaps.testing, cephcaps.cli\n"
        "for name in cephcaps.__all__: getattr(cephcaps, name)\n"
        f"assert not [name for name in sys.modules if name.split('.')[0] == {library!r}]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
