from __future__ import annotations

import os
import subprocess

import pytest

from raygym.service.ray_running import start_with_tries
from tests.support.process_tree import all_end, descendants
from tests.support.small_ray import another_node


class Starts:
    """What starts, where it fails so many times before."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls: list[str] = []

    def start(self) -> str:
        self.calls.append("start")
        if self.calls.count("start") <= self.failures:
            raise RuntimeError(f"failure {self.calls.count('start')}")
        return "runs"

    def undo(self) -> None:
        self.calls.append("undo")


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_what_takes_too_long_is_started_again(failures, caplog):
    starts = Starts(failures)
    assert start_with_tries(starts.start, undo=starts.undo) == "runs"
    assert starts.calls == [*["start", "undo"] * failures, "start"]
    assert [each.getMessage() for each in caplog.records] == [
        f"ray.start_again cause=RuntimeError: failure {n + 1}" for n in range(failures)
    ]


def test_three_times_at_most():
    starts = Starts(9)
    with pytest.raises(RuntimeError, match="failure 3"):
        start_with_tries(starts.start, undo=starts.undo)
    assert starts.calls == ["start", "undo"] * 3


class FakeCluster:
    """A Cluster of Ray's whose first node starts a process and then takes too long."""

    def __init__(self) -> None:
        self.late: list[subprocess.Popen[bytes]] = []
        self.nodes: list[str] = []

    def add_node(self, **options: object) -> str:
        if not self.late:
            self.late.append(subprocess.Popen(["sleep", "60"]))
            raise Exception("The current node timed out during startup.")
        self.nodes.append("a node")
        return "a node"

    def wait_for_nodes(self) -> None:
        assert self.nodes

    def list_all_nodes(self) -> list[str]:
        return self.nodes

    def remove_node(self, node: str) -> None:
        self.nodes.remove(node)


def test_a_node_that_took_too_long_does_not_come_after_all():
    cluster, before = FakeCluster(), descendants(os.getpid())
    with another_node(cluster) as node:  # type: ignore[arg-type]
        assert node == "a node"
        assert all_end([cluster.late[0].pid])
        assert descendants(os.getpid()) == before
    assert cluster.nodes == []
    cluster.late[0].wait(5)
