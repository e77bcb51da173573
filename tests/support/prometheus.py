"""Debian's Prometheus beside a test, and what it answers."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raygym.runtimes.cache import cached

_START_S = 60.0
_LISTENING = re.compile(r'msg="Listening on".* address=(\S+)')


def program(name: str) -> str:
    """Returns the path of ``prometheus`` or ``promtool``.

    Raises:
        FileNotFoundError: It is neither on the PATH nor where scripts/setup unpacks it.
    """
    unpacked = cached("prometheus") / "usr" / "bin" / name
    found = shutil.which(name) or (str(unpacked) if unpacked.exists() else None)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: run scripts/setup test")
    return found


def promtool(*arguments: str) -> str:
    """Runs promtool and returns what it printed.

    Raises:
        AssertionError: It found a fault.
    """
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """A Prometheus that runs.

    Args:
        address: Where it listens: ``127.0.0.1:9090``.
    """

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/api/v1"

    def get(self, path: str, **parameters: str) -> Any:
        """Returns the data of an answer of its API."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{url}: {error.read().decode()}") from error
        assert said["status"] == "success", said
        return said["data"]

    def values(self, query: str, *, at_s: float | None = None) -> list[float]:
        """Returns the values of a query that are numbers, now or at a unix time."""
        when = {} if at_s is None else {"time": f"{at_s:.3f}"}
        found = self.get("query", query=query, **when)["result"]
        numbers = [float(one["value"][1]) for one in found]
        return [number for number in numbers if not math.isnan(number)]

    def metric_names(self) -> set[str]:
        """Returns the names of all metrics that it has seen."""
        return set(self.get("label/__name__/values"))

    def await_true(self, holds: Callable[[], bool], what: str, *, timeout_s: float) -> None:
        """Waits until something holds.

        Raises:
            AssertionError: It did not in time; says ``what``.
        """
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
            time.sleep(0.2)


@contextlib.contextmanager
def prometheus(config: Path, directory: Path) -> Iterator[Prometheus]:
    """Runs Prometheus on a port that is free, and ends it.

    Args:
        config: Its ``prometheus.yml``.
        directory: Where its data and its log go.
    """
    log = directory / "prometheus.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
        )
    try:
        yield Prometheus(_address(process, log))
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        found = _LISTENING.search(log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"Prometheus did not start:\n{log.read_text()}")
