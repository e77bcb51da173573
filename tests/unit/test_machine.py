from __future__ import annotations

import os

import pytest

from raygym.machine import is_loopback, machine_id, process_exists


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_loopback_is_this_machines_own(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "127.0.0.1.nip.io", "1"]
)
def test_anything_else_may_be_reached_by_others(host: str) -> None:
    assert not is_loopback(host)


def test_this_process_is_there_and_on_this_machine() -> None:
    assert process_exists(os.getpid())
    assert machine_id() == machine_id()
