"""What every Backend must do; subclass it with a ``backend`` fixture."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from raygym.core import Backend, Endpoint, Remote


def accepts(endpoint: Endpoint | None) -> bool:
    """Returns whether somebody listens at an Endpoint."""
    assert endpoint is not None
    try:
        if endpoint.path is not None:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(endpoint.path)
        else:
            with socket.create_connection((endpoint.host, endpoint.port), timeout=5):
                pass
    except OSError:
        return False
    return True


class BackendCompliance:
    runtime = "catch"
    owns_remotes = True
    """Whether ``remove`` ends a Remote, or only hands it back."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        raise NotImplementedError

    def start(self, backend: Backend) -> Remote:
        return backend.start(self.runtime, client_id="compliance")

    def test_a_started_remote_listens_at_its_endpoints(self, backend: Backend) -> None:
        remote = self.start(backend)
        assert remote.runtime == self.runtime
        assert accepts(remote.vnc)
        assert accepts(remote.rewarder)

    def test_remotes_have_ids_of_their_own_and_are_listed(self, backend: Backend) -> None:
        started = [self.start(backend), self.start(backend)]
        assert started[0].id != started[1].id
        assert sorted(r.id for r in backend.list()) == sorted(r.id for r in started)

    def test_a_removed_remote_is_gone_and_others_stay(self, backend: Backend) -> None:
        removed, kept = self.start(backend), self.start(backend)
        backend.remove(removed.id)
        assert [r.id for r in backend.list()] == [kept.id]
        assert accepts(kept.vnc)
        assert accepts(removed.vnc) is not self.owns_remotes
        assert accepts(removed.rewarder) is not self.owns_remotes

    def test_a_lease_is_named_after_its_remote_where_one_is_held(self, backend: Backend) -> None:
        remote = self.start(backend)
        lease_id = backend.lease_id(remote.id)
        assert lease_id == "" or lease_id.startswith(f"{remote.id}:")
        backend.remove(remote.id)
        assert backend.lease_id(remote.id) == ""
        assert backend.lease_id("r-nobody") == ""

    def test_removing_an_unknown_or_removed_id_does_nothing(self, backend: Backend) -> None:
        remote = self.start(backend)
        backend.remove("r-nobody")
        backend.remove(remote.id)
        backend.remove(remote.id)
        assert list(backend.list()) == []

    def test_a_remote_can_be_started_after_one_was_removed(self, backend: Backend) -> None:
        backend.remove(self.start(backend).id)
        assert accepts(self.start(backend).vnc)

    def test_remotes_may_be_started_from_several_threads(self, backend: Backend) -> None:
        started: list[Remote] = []
        threads = [
            threading.Thread(target=lambda: started.append(self.start(backend))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len({remote.id for remote in started}) == 2

    def test_a_password_never_shows_in_a_repr(self, backend: Backend) -> None:
        remote = self.start(backend)
        assert remote.password is not None
        assert remote.password.reveal() not in repr(remote) + str(remote)

    def test_the_log_of_an_unknown_remote_is_empty(self, backend: Backend) -> None:
        assert backend.log_tail("r-nobody") == ""
        assert isinstance(backend.log_tail(self.start(backend).id, lines=3), str)

    def test_closing_removes_everything_and_may_be_done_twice(self, backend: Backend) -> None:
        remote = self.start(backend)
        backend.close()
        backend.close()
        assert list(backend.list()) == []
        assert accepts(remote.vnc) is not self.owns_remotes
