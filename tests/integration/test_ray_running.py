from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CLUSTER = """
import sys
from tests.support.small_ray import small_ray
with small_ray(num_cpus=1) as address:
    print(address, flush=True)
    sys.stdin.read()
"""
USES = """
import glob, os, ray
from raygym.service.ray_running import ray_running
with ray_running(1, has_dashboard=False):
    print(ray.get_runtime_context().gcs_address)
    for file in glob.glob(f"/tmp/ray/prom_metrics_service_discovery_raygym_{os.getpid()}.json"):
        print(file)
        print(open(file).read())
"""


def run(address: str | None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    environment.pop("RAY_ADDRESS", None)
    if address is not None:
        environment["RAY_ADDRESS"] = address
    return subprocess.run(
        [sys.executable, "-c", USES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a Ray cluster that somebody else started."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate(timeout=60)


def test_a_run_joins_the_cluster_that_it_is_told_and_leaves_it_running(cluster: str):
    for _ in range(2):
        done = run(cluster, RAY_AUTH_MODE="token")
        assert done.stdout.strip() == cluster, done.stderr


def test_otherwise_it_starts_one_of_its_own_beside_those_that_run(cluster: str):
    done = run(None)
    assert done.returncode == 0, done.stderr
    address, _, _ = done.stdout.splitlines()
    assert address not in ("", cluster)


def test_prometheus_finds_the_one_of_its_own_while_it_runs():
    _, file, content = run(None).stdout.splitlines()
    assert "prom_metrics_service_discovery_raygym_" in file
    assert re.fullmatch(
        r'\[{"labels": {"job": "ray"}, "targets": \["[\d.]+:[1-9]\d+"\]}\]', content
    )
    assert not Path(file).exists()


def test_a_cluster_that_cannot_be_joined_is_a_clear_error():
    done = run("127.0.0.1:1")
    assert done.returncode == 1
    assert "ConfigError: RAY_ADDRESS=127.0.0.1:1: that Ray cluster cannot be joined" in done.stderr
