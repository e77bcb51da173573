from __future__ import annotations

import pytest

from raygym.errors import ConfigError
from raygym.runtimes.lockstep.limits import Limits, RpcConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("max_streams", 0),
        ("max_message_bytes", 2**31),
        ("step_timeout_s", 0),
        ("start_timeout_s", -1),
        ("idle_timeout_s", -1),
        ("keepalive_s", 0),
    ],
)
def test_a_setting_out_of_range_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"RpcConfig\.{field}.*{value}"):
        RpcConfig(**{field: value})


@pytest.mark.parametrize("field", ["max_envs", "max_message_bytes", "max_shared_memory_bytes"])
def test_a_limit_out_of_range_is_named(field):
    with pytest.raises(ConfigError, match=rf"Limits\.{field}"):
        Limits(**{field: -1})


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.3.2.1", "localhost", "::1"])
def test_loopback_needs_no_encryption(bind):
    assert RpcConfig(bind=bind).is_local


def test_a_unix_socket_needs_no_encryption(tmp_path):
    assert RpcConfig(bind=None, directory=tmp_path).is_local


def test_it_must_listen_somewhere():
    with pytest.raises(ConfigError, match="bind, directory"):
        RpcConfig(bind=None)


def test_plaintext_beyond_loopback_must_be_said():
    assert not RpcConfig(bind="0.0.0.0", is_insecure=True).is_local
