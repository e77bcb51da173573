from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, unix_serve

from raygym.core import Endpoint, Secret
from raygym.errors import (
    HandshakeRefused,
    RemoteProtocolError,
    RemoteUnreachable,
    SessionLost,
)
from raygym.remote_env.rewarder_session import RewarderSession
from raygym.wire.rewarder_client import RewarderClient

SKEW_S = 3.0


class Rewarder:
    """A scripted far end of the reward channel on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.endpoint = Endpoint(path=str(path))
        self.received: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.greeting: Callable[[], None] = lambda: self.describe("running", 0)
        self.answer_reset: Callable[[dict[str, Any]], None] = self.run_next
        self.answers_pings = True
        self.episode = 0
        self._connection: ServerConnection | None = None
        self._sent = 0
        self._server = unix_serve(self._serve, str(path))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def send(self, method: str, body: dict[str, Any], **headers: Any) -> None:
        assert self._connection is not None
        self._sent += 1
        stamped = {"message_id": self._sent, "sent_at": time.time() + SKEW_S, **headers}
        message = {"method": method, "headers": stamped, "body": body}
        self._connection.send(json.dumps(message))

    def describe(self, state: str, episode: int) -> None:
        body = {"env_id": "test.Catch-v0", "env_state": state, "fps": 50}
        self.send("v0.env.describe", body, episode_id=str(episode))

    def reward(self, value: float, *, done: bool = False, **info: Any) -> None:
        body = {"reward": value, "done": done, "info": info}
        self.send("v0.env.reward", body, episode_id=str(self.episode))

    def run_next(self, request: dict[str, Any]) -> None:
        self.episode += 1
        self.describe("resetting", self.episode)
        self.describe("running", self.episode)
        self.reply(request, "v0.reply.env.reset", {}, episode_id=str(self.episode))

    def reply(
        self, request: dict[str, Any], method: str, body: dict[str, Any], **headers: Any
    ) -> None:
        parent = request["headers"]["message_id"]
        self.send(method, body, parent_message_id=parent, parent_runtime=0.01, **headers)

    def close(self) -> None:
        self._server.shutdown()
        if self._connection is not None:
            self._connection.close()
        self._thread.join(5)

    def hang_up(self) -> None:
        assert self._connection is not None
        self._connection.socket.shutdown(socket.SHUT_RDWR)

    def say(self, data: str | bytes) -> None:
        assert self._connection is not None
        self._connection.send(data)

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers = dict(connection.request.headers.raw_items())
        self._connection = connection
        try:
            self.greeting()
            for text in connection:
                message = json.loads(text)
                self.received.append(message)
                if message["method"] == "v0.control.ping" and self.answers_pings:
                    self.reply(message, "v0.reply.control.ping", {})
                elif message["method"] == "v0.env.reset":
                    self.answer_reset(message)
        except ConnectionClosed:
            pass


@pytest.fixture
def rewarder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rewarder]:
    rewarder = Rewarder(tmp_path_factory.mktemp("w") / "rewarder.sock")
    yield rewarder
    rewarder.close()


@pytest.fixture
def session(rewarder: Rewarder) -> Iterator[RewarderSession]:
    session = RewarderSession(rewarder.endpoint, password=Secret("secret"))
    yield session
    session.close()


def test_no_answer_comes_in_while_the_skew_is_read(
    session: RewarderSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_client: RewarderClient) -> tuple[float, float]:
        # As the reader of the channel does with each message.
        other = threading.Thread(target=session.pop, daemon=True)
        other.start()
        other.join(0.2)
        assert other.is_alive()
        return 1.0, 2.0

    monkeypatch.setattr(RewarderClient, "clock_skew_s", property(read))
    assert session.clock_skew_s == (1.0, 2.0)


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def reset(session: RewarderSession, timeout_s: float = 10.0) -> str:
    return session.reset("test.Catch-v0", seed=7, fps=50, timeout_s=timeout_s)


def test_the_password_travels_as_the_name_of_basic_authorization(
    rewarder: Rewarder, session: RewarderSession
) -> None:
    headers = {name.lower(): value for name, value in rewarder.headers.items()}
    expected = base64.b64encode(b"secret:").decode()
    assert headers["authorization"] == f"Basic {expected}"
    assert headers["openai-observer"] == "false"


def test_the_clocks_are_compared_by_pings(rewarder: Rewarder, session: RewarderSession) -> None:
    wait_until(lambda: session.clock_skew_s is not None)
    skew = session.clock_skew_s
    assert skew is not None
    low, high = skew
    assert low <= SKEW_S <= high + 0.001
    assert high - low < 2
    wait_until(lambda: len(rewarder.received) >= 5)


def test_a_reset_returns_the_episode_that_runs(
    rewarder: Rewarder, session: RewarderSession
) -> None:
    assert reset(session) == "1"
    assert reset(session) == "2"
    bodies = [m["body"] for m in rewarder.received if m["method"] == "v0.env.reset"]
    assert bodies[0] == {"env_id": "test.Catch-v0", "seed": 7, "fps": 50}


def test_rewards_are_summed_until_they_are_taken(
    rewarder: Rewarder, session: RewarderSession
) -> None:
    reset(session)
    rewarder.reward(1.0)
    rewarder.reward(0.5, game_state={"speed": 2})
    collected: list[Any] = []

    def has_both() -> bool:
        collected.append(session.pop())
        return sum(b.count for b in collected) == 2

    wait_until(has_both)
    assert sum(b.reward for b in collected) == 1.5
    assert not any(b.done for b in collected)
    assert {"speed": 2} in [b.info.get("game_state") for b in collected]


def test_the_episode_after_an_end_is_awaited(rewarder: Rewarder, session: RewarderSession) -> None:
    reset(session)
    rewarder.reward(1.0, done=True)
    popped: list[Any] = []

    def is_done() -> bool:
        popped.append(session.pop())
        return bool(popped[-1].done)

    wait_until(is_done)
    threading.Timer(0.05, lambda: rewarder.describe("running", 2)).start()
    rewarder.describe("resetting", 2)
    assert session.await_episode(after="1", timeout_s=10) == "2"


def test_an_episode_that_never_runs_is_given_up(session: RewarderSession) -> None:
    with pytest.raises(RemoteUnreachable, match="episode after 0"):
        session.await_episode(after="0", timeout_s=0.05)


def test_a_refused_reset_says_why(rewarder: Rewarder, session: RewarderSession) -> None:
    rewarder.answer_reset = lambda request: rewarder.reply(
        request, "v0.reply.error", {"message": "no such environment"}
    )
    with pytest.raises(RemoteProtocolError, match="no such environment"):
        reset(session)


def test_a_reset_without_an_answer_is_given_up(
    rewarder: Rewarder, session: RewarderSession
) -> None:
    rewarder.answer_reset = lambda _: None
    with pytest.raises(RemoteUnreachable, match=r"reset to test\.Catch-v0"):
        reset(session, timeout_s=0.05)


def test_the_manifest_is_known_where_it_is_sent(rewarder: Rewarder) -> None:
    def greet() -> None:
        rewarder.describe("running", 0)
        rewarder.send("v0.raygym.manifest", {"protocol": 1, "timing_strip": [18, 752]})

    rewarder.greeting = greet
    session = RewarderSession(rewarder.endpoint, password=None)
    reset(session)
    assert session.manifest is not None
    assert session.manifest["timing_strip"] == [18, 752]
    session.close()


def test_without_a_describe_the_session_is_given_up(rewarder: Rewarder) -> None:
    rewarder.greeting = lambda: None
    with pytest.raises(RemoteUnreachable, match="first describe"):
        RewarderSession(rewarder.endpoint, password=None, connect_timeout_s=0.2)


def test_a_refusal_is_told_in_its_own_words(rewarder: Rewarder) -> None:
    rewarder.greeting = lambda: rewarder.send(
        "v0.connection.close", {"message": "Invalid password: try another"}
    )
    with pytest.raises(HandshakeRefused, match="Invalid password"):
        RewarderSession(rewarder.endpoint, password=Secret("wrong"))


def test_a_lost_connection_wakes_who_waits(rewarder: Rewarder, session: RewarderSession) -> None:
    rewarder.answer_reset = lambda _: rewarder.hang_up()
    with pytest.raises(SessionLost):
        reset(session)
    assert session.lost is not None
    with pytest.raises(SessionLost):
        reset(session)


@pytest.mark.parametrize("data", ["no json", b"\x00\x01", '{"method": 3}'])
def test_what_the_protocol_does_not_allow_ends_the_session(
    rewarder: Rewarder, session: RewarderSession, data: str | bytes
) -> None:
    rewarder.say(data)
    wait_until(lambda: session.lost is not None)
    assert isinstance(session.lost, SessionLost)
    assert isinstance(session.lost.__cause__, RemoteProtocolError)


def test_messages_keep_the_time_of_the_last(rewarder: Rewarder, session: RewarderSession) -> None:
    before_s = session.last_message_s
    reset(session)
    assert before_s < session.last_message_s <= time.monotonic()


def test_closing_ends_the_reader_and_may_be_done_twice(session: RewarderSession) -> None:
    session.close()
    session.close()
    assert not any(thread.name.startswith("rewarder ") for thread in threading.enumerate())
    with pytest.raises(SessionLost, match="closed here"):
        reset(session)


def test_closing_takes_no_time_even_if_the_far_end_does_not_answer(
    tmp_path_factory: pytest.TempPathFactory, rewarder: Rewarder
) -> None:
    release = threading.Event()

    def greet() -> None:
        rewarder.describe("running", 0)
        release.wait(20)

    rewarder.greeting = greet
    session = RewarderSession(rewarder.endpoint, password=None)
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 5
    release.set()


def test_what_is_no_websocket_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("n") / "rewarder.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"RFB 003.008\n\r\n\r\n")
            connection.close()

        greeter = threading.Thread(target=greet)
        greeter.start()
        with pytest.raises(RemoteUnreachable, match="is it a reward channel"):
            RewarderSession(Endpoint(path=str(path)), password=None, connect_timeout_s=5)
        greeter.join(5)
