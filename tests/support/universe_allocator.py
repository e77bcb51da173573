"""OpenAI Universe's client of the allocator, as its code behaves.

Independent of our own client. It asks, polls what is pending, never refreshes what it has, and
gives nothing back.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

TIMEOUT_S = 60.0


class Fatal(Exception):
    """An answer other than 200, with a detail."""


class UniverseAllocatorClient:
    """Allocates remotes for one client.

    Args:
        base_url: ``http://host:port``.
        api_key: Sent as the user of Basic authorization.
        client_id: Steady name.
        runtime_id: Universe's name of the runtime.
    """

    def __init__(self, base_url: str, api_key: str, client_id: str, runtime_id: str) -> None:
        self._base_url = base_url
        self._authorization = "Basic " + base64.b64encode(f"{api_key}:".encode()).decode()
        self._client_id = client_id
        self._runtime_id = runtime_id

    def allocate(self, handles: Sequence[str]) -> list[dict[str, Any]]:
        """Returns as many remotes, by handle."""
        answer = self._post(
            "/v1/allocations",
            {
                "client": self._client_id,
                "runtime": self._runtime_id,
                "params": {"tag": "0.20.28", "cpu": 3.9},
                "handles": list(handles),
                "initial": True,
                "placement": "public",
            },
        )
        assert len(answer["info"]["n"]) == len(answer["env_n"]) <= len(handles)
        assert all(isinstance(entry["new"], bool) for entry in answer["info"]["n"])
        ready: dict[str, dict[str, Any]] = {}
        pending = {env["name"]: env for env in answer["env_n"]}
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            for env in list(pending.values()):
                if env["status"] == "allocated":
                    ready[env["handle"]] = pending.pop(env["name"])
            if not pending:
                return [ready[handle] for handle in handles]
            assert time.monotonic() < deadline_s, f"still pending: {pending}"
            answer = self._post(
                f"/v1/allocations/{self._client_id}", {"names": list(pending.keys())}
            )
            pending = {env["name"]: env for env in answer["env_n"]}

    def _post(self, route: str, data: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._base_url + route,
            json.dumps(data).encode(),
            {"Content-type": "application/json", "Authorization": self._authorization},
        )
        try:
            with urllib.request.urlopen(request, timeout=80) as answer:
                assert answer.status == 200
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise Fatal(json.load(error)["detail"]) from error
