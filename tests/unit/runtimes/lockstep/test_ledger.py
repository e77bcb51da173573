from __future__ import annotations

import os

import pytest

from raygym.runtimes.lockstep.ledger import Ledger, Stage


@pytest.fixture
def ledger():
    ledger = Ledger(max_envs=100_000)
    yield ledger
    ledger.close()


def test_another_process_reads_what_was_noted(ledger):
    other = Ledger(100_000, os.dup(ledger.fd))
    other.begin(Stage.HANDLING, "step", 2**64 - 1, [5, 99_999])
    entry = ledger.read()
    assert (entry.stage, entry.kind, entry.request_id) == (Stage.HANDLING, "step", 2**64 - 1)
    assert entry.envs == (5, 99_999)
    other.stage(Stage.WRITING)
    assert ledger.read().stage is Stage.WRITING
    other.close()


def test_no_envs_means_all_also_after_some(ledger):
    ledger.begin(Stage.HANDLING, "reset", 1, [3])
    ledger.begin(Stage.HANDLING, "reset", 2)
    assert ledger.read().envs == ()


def test_made_is_kept_over_the_requests_that_follow(ledger):
    assert ledger.made() is None
    ledger.begin(Stage.HANDLING, "make", 1)
    ledger.keep_made(b"made" * 100_000)
    assert ledger.made() is not None
    ledger.begin(Stage.HANDLING, "step", 2)
    assert ledger.made() == b"made" * 100_000


def test_damage_gives_a_harmless_entry(ledger):
    os.pwrite(ledger.fd, b"\xff" * 64, 0)
    entry = ledger.read()
    assert (entry.stage, entry.kind) == (Stage.WRITING, None)
    assert len(entry.envs) <= 200_000
