from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.remote_env.static_backend import StaticBackend
from tests.compliance.backend import BackendCompliance


def remote(name: str, port: int = 5900) -> Remote:
    endpoint = Endpoint(host="127.0.0.1", port=port)
    return Remote(
        id=name, runtime="", vnc=endpoint, rewarder=endpoint, password=Secret("open-sesame")
    )


class TestStaticBackend(BackendCompliance):
    owns_remotes = False

    @pytest.fixture
    def backend(self) -> Iterator[StaticBackend]:  # type: ignore[override]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            yield StaticBackend([remote("a", port), remote("b", port)])


def test_all_addresses_are_lent_before_one_is_refused() -> None:
    backend = StaticBackend([remote("a"), remote("b")])
    assert [backend.start("catch", client_id="c").id for _ in range(2)] == ["a", "b"]
    with pytest.raises(RemoteFailedToStart, match="all 2 addresses are in use"):
        backend.start("catch", client_id="c")


def test_a_removed_address_is_lent_again_after_all_others() -> None:
    backend = StaticBackend([remote("a"), remote("b")])
    backend.remove(backend.start("catch", client_id="c").id)
    assert [backend.start("catch", client_id="c").id for _ in range(2)] == ["b", "a"]


def test_no_address_or_the_same_id_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        StaticBackend([])
    with pytest.raises(ConfigError, match="same id"):
        StaticBackend([remote("a"), remote("a")])
