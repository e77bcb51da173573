from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raygym
from raygym.core import Endpoint, Secret
from raygym.gateway.backends import open_backend
from raygym.gateway.http_front import HttpConfig
from raygym.remote_env.allocator_address import parse_allocator
from raygym.remote_env.allocator_backend import AllocatorBackend
from raygym.remote_env.vnc_session import VncSession
from raygym.train import main as train_main
from tests.support.http_gateway import TOKEN, HttpGateway, http_gateway, two_tenants
from tests.support.universe_allocator import Fatal, UniverseAllocatorClient
from tests.support.universe_client import UniverseClient

TTL_S = 3.0
TIMEOUT_S = 60.0
CATCH = "test.Catch-v0"


PROCESSES = partial(open_backend, backend="process", start_timeout_s=60, is_on_ray=False)


@pytest.fixture
def gateway() -> Iterator[HttpGateway]:
    """A gateway with processes as remotes, where allocations expire within seconds."""
    config = HttpConfig(ttl_s=TTL_S)
    with http_gateway(
        open_backend=PROCESSES, tenants=two_tenants(), config=config, has_clock=False
    ) as gateway:
        yield gateway


@pytest.fixture
def timeless() -> Iterator[HttpGateway]:
    """The same, where time stands still until a test moves it."""
    with http_gateway(open_backend=PROCESSES, tenants=two_tenants()) as gateway:
        yield gateway


def wait_for(is_so: Callable[[], Any]) -> None:
    pause = threading.Event()
    for _ in range(int(TIMEOUT_S / 0.02)):
        if is_so():
            return
        pause.wait(0.02)
    raise AssertionError("it never was")


def is_empty(gateway: HttpGateway) -> bool:
    status = gateway.leasing.status()
    return status.used == 0 and not status.leases and not gateway.front.allocator.allocations()


def sockets_of(gateway: HttpGateway) -> list[Path]:
    remotes = [held.remote for held in gateway.leasing.held()]
    return [Path(remote.vnc.path) for remote in remotes if remote.vnc and remote.vnc.path]


def test_an_environment_is_leased_over_http_played_and_given_back(gateway: HttpGateway) -> None:
    env = raygym.make(CATCH, remotes=gateway.url(TOKEN), client_id="me")
    observation, info = env.reset(seed=3)
    assert observation.any()
    assert info["remote_id"] == gateway.front.allocator.allocations()[0].name
    (directory,) = sockets_of(gateway)
    total, is_over = 0.0, False
    while not is_over:
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        total += reward
        is_over = terminated or truncated
    assert info["outcome"] == "ok"
    assert total == info["episode_score"] != 0
    assert info["reaction_time_ms"] is not None
    env.close()
    wait_for(lambda: is_empty(gateway))
    assert not directory.exists()
    assert gateway.front.allocator.counts.given_back == 1


def test_a_flash_game_is_played_over_http(gateway: HttpGateway) -> None:
    env = raygym.make("flashgames.NeonRace-v0", remotes=gateway.url(TOKEN), mode="realtime")
    first, _ = env.reset()
    for _ in range(20):
        observation, _, _, _, info = env.step(1)
        assert info["outcome"] == "ok"
    assert np.unique(observation).size > 20
    assert (observation != first).any()
    env.close()
    wait_for(lambda: is_empty(gateway))


def test_lock_step_goes_through_too(gateway: HttpGateway) -> None:
    env = raygym.make("gym-core.CartPole-v1", remotes=gateway.url(TOKEN), client_id="me")
    observations = [env.reset(seed=7)[0], *[env.step(1)[0] for _ in range(5)]]
    local = raygym.make("CartPole-v1")
    expected = [local.reset(seed=7)[0], *[local.step(1)[0] for _ in range(5)]]
    np.testing.assert_array_equal(observations, expected)
    env.close()
    wait_for(lambda: is_empty(gateway))


def test_a_vector_has_a_remote_for_each_environment(gateway: HttpGateway) -> None:
    envs = raygym.make_vec(CATCH, remotes=gateway.url(TOKEN, "?n=2"))
    envs.reset()
    assert len(gateway.leasing.status().leases) == 2
    assert {lease.env_id for lease in gateway.leasing.status().leases} == {CATCH}
    # Whether an episode is over by now is up to the clock.
    _, _, _, truncated, _ = envs.step(envs.action_space.sample())
    assert not truncated.any()
    envs.close()
    wait_for(lambda: is_empty(gateway))


def test_universes_own_client_is_kept_while_it_is_connected_and_noticed_when_it_goes(
    timeless: HttpGateway,
) -> None:
    gateway = timeless
    base_url = f"http://127.0.0.1:{gateway.port}"
    with pytest.raises(Fatal, match="a token is needed"):
        UniverseAllocatorClient(base_url, "tyytjgq3envte2j9yv2e-me", "me", "gym-core").allocate("0")
    client = UniverseAllocatorClient(base_url, TOKEN, "me", "gym-core")
    (env,) = client.allocate(["0"])
    host, _, port = env["vnc_address"].rpartition(":")
    endpoint = Endpoint(host=host, port=int(port))
    screen = VncSession(endpoint, password=Secret(env["vnc_password"]))
    rewarder = UniverseClient(env["rewarder_address"], env["rewarder_password"], timeout_s=30)
    rewarder.reset("gym-core.PongDeterministic-v3", fps=60)
    rewarder.until("v0.env.reward", done=False)
    assert screen.read_frame(newer_than=0, timeout_s=30).pixels.any()
    allocator = gateway.front.allocator
    for _ in range(3):
        gateway.clock.now_s += 600
        gateway.sweep()
    rewarder.until("v0.env.reward", done=False)
    assert client.allocate(["0"])[0] == env
    screen.close()
    rewarder.close()
    wait_for(lambda: allocator.allocations()[0].connections == 0)
    gateway.clock.now_s += 60
    gateway.sweep()
    assert is_empty(gateway)
    assert allocator.counts.expired == 1


def test_the_remote_of_a_killed_client_is_given_back_and_those_of_others_live_on(
    gateway: HttpGateway,
) -> None:
    command = [sys.executable, "-m", "tests.support.allocator_player", gateway.url(TOKEN)]
    players = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True)
        for name in ("killed", "lives-on")
    ]
    try:
        lines = [player.stdout for player in players]
        names = [line.readline().strip() for line in lines if line is not None]
        assert {a.name for a in gateway.front.allocator.allocations()} == set(names)
        players[0].send_signal(signal.SIGKILL)
        wait_for(lambda: len(gateway.leasing.held()) == 1)
        assert gateway.front.allocator.counts.expired == 1
        assert [a.name for a in gateway.front.allocator.allocations()] == names[1:]
        assert lines[1] is not None
        assert [lines[1].readline() for _ in range(4)] == [".\n"] * 4
    finally:
        for player in players:
            player.kill()
            player.wait(10)
            if player.stdout is not None:
                player.stdout.close()
    wait_for(lambda: is_empty(gateway))


def test_many_clients_share_few_slots_and_those_that_die_cost_nobody_a_remote() -> None:
    served: list[int] = []
    with http_gateway(slots=4, config=HttpConfig(ttl_s=1), has_clock=False) as gateway:
        address = parse_allocator(gateway.url())

        def use(number: int) -> None:
            name = f"client-{number}"
            if number % 4:
                backend = AllocatorBackend(address, start_timeout_s=TIMEOUT_S)
                backend.start("wob", client_id=name)
                served.append(number)
                backend.close()
            else:
                # It neither dials nor refreshes nor gives back, as if it had died.
                UniverseAllocatorClient(address.id, "key", name, "world-of-bits").allocate(["0"])
                served.append(number)

        clients = [threading.Thread(target=use, args=(number,)) for number in range(32)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(TIMEOUT_S)
        assert sorted(served) == list(range(32))
        wait_for(lambda: is_empty(gateway))
        counts = gateway.front.allocator.counts
        assert (counts.created, counts.given_back, counts.expired) == (32, 24, 8)


def test_a_run_trains_on_remotes_that_a_gateway_lends(gateway: HttpGateway, tmp_path: Path) -> None:
    code = train_main(
        [
            *("--env", CATCH, "--remotes", gateway.url(TOKEN), "--workers", "2"),
            *("--steps", "300", "--logdir", str(tmp_path / "run")),
        ]
    )
    assert code == 0
    assert gateway.leasing.status().granted >= 2
    wait_for(lambda: is_empty(gateway))
