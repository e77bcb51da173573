from __future__ import annotations

import pytest

from raygym.config import ObservationConfig
from raygym.core import Secret
from raygym.errors import ConfigError, RemoteUnreachable
from raygym.remote_env.rpc import open as opening
from raygym.remote_env.rpc.open import RpcOptions, open_env, open_vector_env
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.lockstep import Trouble
from tests.support.rpc_peers import LoopServer

ADDRESS = "grpc://127.0.0.1:1"


@pytest.fixture
def opened(monkeypatch) -> list:
    """Every session goes to environments of this process; the list holds what was asked for."""
    server = LoopServer(Trouble)
    asked: list = []

    def open_session(access, *, timeout_s: float, **options):
        asked.append((access, options, server))
        return server.open(timeout_s=timeout_s)

    monkeypatch.setattr(opening, "open_session", open_session)
    return asked


def test_every_kind_of_address_has_its_endpoint(opened):
    for address, endpoint, is_tls, token in (
        ("grpc://127.0.0.1:5", "127.0.0.1:5", False, None),
        ("grpcs://far.test:5?token=hush", "far.test:5", True, "hush"),
        ("grpc+unix:///run/x.sock", "unix:/run/x.sock", False, None),
    ):
        open_env(address).close()
        access, *_ = opened.pop()
        assert str(access.endpoint) == endpoint
        assert access.endpoint.is_tls is is_tls
        assert (access.token.reveal() if access.token else None) == token


def test_a_token_of_its_own_goes_before_the_addresss(opened):
    for token in ("mine", Secret("mine")):
        open_env(f"{ADDRESS}?token=other", token=token).close()
        assert opened.pop()[0].token.reveal() == "mine"


def test_no_token_shows_in_the_spec(opened):
    for options in ({}, {"token": "hush"}):
        address = ADDRESS if options else f"{ADDRESS}?token=hush"
        env = open_env(address, **options)
        assert "hush" not in repr(env.spec)
        again = env.spec.make()
        assert opened[-1][0].token.reveal() == "hush"
        again.close()
        env.close()


def test_options_become_a_request(opened):
    env = open_env(
        ADDRESS,
        env_kwargs={"length": 7},
        render_mode="rgb_array",
        frame_skip=3,
        client_id="me",
        uses_local_socket=False,
        uses_shared_memory=False,
    )
    _, options, server = opened[0]
    make = server.channels[0].requests[1].make
    assert options == {"client_id": "me", "uses_local_socket": False}
    assert make.kwargs.items["length"].integer == 7
    assert (make.count, make.frame_skip, make.render_mode) == (1, 3, "rgb_array")
    assert make.autoreset == pb.DISABLED
    assert not make.wants_shared_memory
    env.close()
    open_vector_env(ADDRESS, 4, autoreset="SameStep").close()
    make = server.channels[1].requests[1].make
    assert (make.count, make.autoreset, make.wants_shared_memory) == (4, pb.SAME_STEP, True)


def test_an_observation_config_becomes_a_picture():
    options = RpcOptions(observation=ObservationConfig(width_px=4, height_px=3, is_grey=True))
    message = options.make_options(1, opening.AutoresetMode.DISABLED).message()
    assert message.picture == pb.Picture(width=4, height=3, is_grey=True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"failures": "ignore"}, "failures"),
        ({"render_mode": "human"}, "render_mode"),
        ({"frame_skip": 0}, "frame_skip"),
        ({"connect_timeout_s": 0}, "connect_timeout_s"),
        ({"step_timeout_s": -1}, "step_timeout_s"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(opened, options, word):
    for opener in (open_env, lambda address, **rest: open_vector_env(address, 2, **rest)):
        with pytest.raises(ConfigError, match=word):
            opener(ADDRESS, **options)
    assert opened == []


@pytest.mark.parametrize("address", ["4", "vnc://127.0.0.1:5900", f"{ADDRESS},grpc://127.0.0.1:2"])
def test_what_is_not_one_address_of_ours_is_refused(opened, address):
    with pytest.raises(ConfigError, match="expected one address"):
        open_env(address)
    assert opened == []


def test_plaintext_to_another_machine_is_refused(opened):
    with pytest.raises(ConfigError, match="is_insecure"):
        open_env("grpc://192.0.2.1:5?token=hush")
    assert opened == []
    open_env("grpc://192.0.2.1:5", is_insecure=True).close()


def test_a_server_out_of_reach_is_said_at_once(monkeypatch):
    def open_session(_access, **_options):
        raise RemoteUnreachable("nothing listens", problem="refused")

    monkeypatch.setattr(opening, "open_session", open_session)
    with pytest.raises(RemoteUnreachable):
        open_env(ADDRESS)
