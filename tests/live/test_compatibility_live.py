"""Every place of docs/compatibility.md, on the release at hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cluster import LiveCluster
from .compatibility import AUTHS, MODES, TABLE, VERSIONS, YES, Cell, cluster_for, entity_for, work_under_conflict
from .release import Release


@pytest.fixture(scope="module", params=[True, False], ids=["cephx", "none"])
def cluster_of_a_kind(release: Release, request: pytest.FixtureRequest) -> Iterator[LiveCluster]:
    with cluster_for(release.name, authentic=request.param) as cluster:
        yield cluster


@pytest.mark.parametrize("mode", MODES)
async def test_each_kind_of_key_works_in_each_mode(cluster_of_a_kind: LiveCluster, mode: str) -> None:
    cluster = cluster_of_a_kind
    authentic = "required = none" not in cluster.conf.read_text()
    tried = [cell for auth in AUTHS if (cell := Cell(cluster.release.name, auth, mode)).reason is None]
    for cell in tried:
        if (cell.auth != "none") is authentic:
            await work_under_conflict(cluster, entity_for(cluster, cell.auth), mode)


def test_the_table_says_so(release: Release) -> None:
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith(f"| {VERSIONS[release.name]} |")]
    assert len(rows) == len(AUTHS)
    for auth, row in zip(AUTHS, rows, strict=True):
        reasons = [Cell(release.name, auth, mode).reason for mode in MODES]
        assert [cell.strip() for cell in row.split("|")[3:-1]] == [f"– ({why})" if why else YES for why in reasons]
