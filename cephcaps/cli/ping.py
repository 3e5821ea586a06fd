"""``cephcaps ping``: how long an MDS takes to get a cap back from one client for another."""

from __future__ import annotations

import time

import click

from cephcaps.cli.options import CephCommand, Settings, absolute_path, global_options
from cephcaps.cli.output import emit, emit_json
from cephcaps.cli.running import run

__all__ = ["ping"]

BOUNDS_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
BAR = 40


@click.command(cls=CephCommand)
@click.argument("path", metavar="PATH", type=absolute_path)
@click.option("--count", "rounds", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Rounds.")
@click.option("--max", "limit", metavar="MS", type=float, help="Fail (exit 110) if the median is above this.")
@global_options()
@click.pass_obj
def ping(settings: Settings, path: str, rounds: int, limit: float | None) -> int:
    """Let two sessions fight over one inode, and show how long each revoke took.

    In every round one session changes the mode of PATH under an exclusive cap, so that the change is only in its cache,
    and the other asks for the attributes: the MDS has to revoke the cap, take in what comes with it, and answer. PATH
    is made if it does not exist, and then removed in the end; its mode is put back.

    JSON is one object: rounds, min_ms, median_ms, p99_ms, max_ms, histogram.

    \b
      cephcaps ping /some/file --count 1000 --max 20
    """
    import statistics

    times = run(_ping, settings, path, rounds)
    times.sort()
    median = statistics.median(times)
    facts = {
        "path": path,
        "rounds": len(times),
        "min_ms": round(times[0], 3),
        "median_ms": round(median, 3),
        "p99_ms": round(times[min(len(times) - 1, int(len(times) * 0.99))], 3),
        "max_ms": round(times[-1], 3),
    }
    buckets = _histogram(times)
    if settings.format == "plain":
        emit("".join(_bars(buckets)))
        emit(
            "{rounds} revokes: min {min_ms} ms, median {median_ms} ms, 99 % {p99_ms} ms, max {max_ms} ms\n".format(
                **facts
            )
        )
    else:
        emit_json({**facts, "histogram": {f"<{bound:g}": count for bound, count in buckets}}, pretty=settings.pretty)
    return 110 if limit is not None and median > limit else 0


async def _ping(settings: Settings, path: str, rounds: int) -> list[float]:
    import asyncio

    async with settings.connect() as holder, settings.connect() as asker:
        existed = await holder.exists(path)
        async with holder.open(path, "a"):
            mode = (await holder.stat(path)).mode & 0o7777
            times = []
            for round_ in range(rounds):
                await holder.chmod(path, mode ^ (0o100 if round_ % 2 == 0 else 0))
                began = time.perf_counter()
                await asker.stat(path)
                times.append((time.perf_counter() - began) * 1000)
                asker.release(path)
                await asyncio.sleep(0)
            await holder.chmod(path, mode)
        if not existed:
            await holder.unlink(path)
        return times


def _histogram(times: list[float]) -> list[tuple[float, int]]:
    """Counts below each bound, empty ends left out."""
    counts = []
    low = 0.0
    for bound in (*BOUNDS_MS, float("inf")):
        counts.append((float(bound), sum(low <= value < bound for value in times)))
        low = bound
    filled = [index for index, (_, count) in enumerate(counts) if count]
    return counts[filled[0] : filled[-1] + 1]


def _bars(buckets: list[tuple[float, int]]) -> list[str]:
    most = max(count for _, count in buckets)
    return [f"  < {bound:6g} ms {count:7}  {'#' * -(-count * BAR // most)}\n" for bound, count in buckets]
