"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

# What a test means by remotes does not depend on the engine and images of the machine.
os.environ["RAYGYM_BACKEND"] = "process"

# The same examples in every run: a check that fails now and then is no check. More, and
# random ones, with HYPOTHESIS_PROFILE=search.
settings.register_profile("steady", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

_TOLD = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says a line at the end of the run, whichever process the test runs in."""
    return lambda line: record_property(_TOLD, line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for some in terminalreporter.stats.values() for report in some]
    told = {
        report.nodeid: lines
        for report in reports
        if getattr(report, "when", "") == "teardown"
        and (lines := [line for name, line in report.user_properties if name == _TOLD])
    }
    if told:
        terminalreporter.section("what tests have to tell")
    for nodeid, lines in told.items():
        terminalreporter.line(nodeid, bold=True)
        for line in lines:
            terminalreporter.line(f"  {line}")
