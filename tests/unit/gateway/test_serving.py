"""A gateway's actor from outside, without Ray."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from raygym.gateway.serving import RunningGateway


class Handle:
    """An actor's handle whose every method may be called."""

    class Method:
        def remote(self) -> str:
            return "ref"

    def __getattr__(self, _name: str) -> Method:
        return self.Method()


def test_one_that_does_not_close_in_time_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed: list[Any] = []

    def get(_ref: str, *, timeout: float) -> None:
        raise RayTaskError("close", "its remotes hang", TimeoutError())

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "kill", killed.append)
    handle = Handle()
    RunningGateway(node="n-1", handle=handle).stop()
    assert killed == [handle]
    assert "gateway.not_closed node=n-1" in caplog.text
