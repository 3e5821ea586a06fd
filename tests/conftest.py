"""What all tests share: a skip fails where ``CEPHCAPS_NO_SKIP=1`` says that everything must run; fuzzing's depth; no
key is ever shown."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.keys import check_report, watch

# Started in the background, by nohup or by a CI system, this process may have been told to ignore signals, and every
# process that a test starts and then interrupts would do so too.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

NO_SKIP = os.environ.get("CEPHCAPS_NO_SKIP") == "1"

# No deadline: the time of one example says nothing on a busy machine. `make fuzz` chooses fuzz.
settings.register_profile("cephcaps", deadline=None, max_examples=25)
settings.register_profile("fuzz", deadline=None, max_examples=20_000)
settings.load_profile("cephcaps")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _no_skip(report)
    check_report(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _no_skip(report)
    return report


def _no_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CEPHCAPS_NO_SKIP=1, and this would be skipped: {why}"


@pytest.fixture(autouse=True, scope="session")
def keys_are_watched() -> Iterator[None]:
    yield from watch()
