"""Containers of a real engine: made, found again, lost, removed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium
import pytest

from raygym.catalog import load_catalog
from raygym.config import TlsFiles
from raygym.core import Remote
from raygym.errors import ConfigError, HandshakeRefused, RemoteProtocolError, RemoteUnreachable
from raygym.remote_env.docker.errors import ContainerDied, CrashLoop, MissingImage, OutOfMemory
from raygym.remote_env.docker.start import Start
from raygym.remote_env.readiness import make_ready
from raygym.remote_env.rewarder_session import RewarderSession
from raygym.remote_env.rpc.connect import Access, open_session
from raygym.remote_env.rpc.open import open_env
from raygym.remote_env.rpc.session import MakeOptions
from tests.support.certificates import issue, make_authority
from tests.support.docker_store import WAIT_S, Containers, containers

REALTIME = ("--mode", "realtime")
LOCKSTEP = ("--mode", "lockstep")


@pytest.fixture
def remotes(gym_core_image: str) -> Iterator[Containers]:
    with containers() as made:
        yield made


def play(remote: Remote, env_id: str = "CartPole-v1") -> None:
    """Takes a few steps in lock-step."""
    assert remote.rpc is not None
    env: gymnasium.Env = open_env(f"grpc+unix://{remote.rpc.path}", env_id=env_id)
    try:
        env.reset(seed=3)
        for _ in range(3):
            env.step(env.action_space.sample())
    finally:
        env.close()


def test_a_container_plays_any_environment_that_is_asked_for(remotes):
    remote = remotes.create()
    play(remote, "CartPole-v1")
    play(remote, "MountainCar-v0")
    with pytest.raises(ConfigError, match="Nope"):
        play(remote, "Nope-v0")


def test_messages_and_memory_go_through_the_shared_directory(remotes):
    remote = remotes.create()
    session = open_session(Access(endpoint=remote.rpc), timeout_s=WAIT_S)
    try:
        assert type(session._channel).__name__ == "FramedChannel"
        session.make(MakeOptions(env_id="CartPole-v1", count=1000), timeout_s=WAIT_S)
        assert session.is_sharing_memory
        rows = session.reset(seeds=[1] * 1000, timeout_s=WAIT_S)
        assert rows.is_borrowed
        assert len(rows.observations[0]) == 1000
    finally:
        session.close()


def test_one_container_in_real_time_plays_one_id_after_another(remotes):
    remote = remotes.create(variant=REALTIME)
    for env_id in ("gym-core.CartPole-v1", "gym-core.MountainCar-v0"):
        ready = make_ready(
            remote, load_catalog().env(env_id), seed=1, options=None, timeout_s=WAIT_S
        )
        assert ready.episode_id is not None
        ready.connection.close()


def test_an_id_that_does_not_exist_is_refused_and_the_container_lives_on(remotes):
    remote = remotes.create(variant=REALTIME)
    session = RewarderSession(remote.rewarder, password=remote.password, connect_timeout_s=WAIT_S)
    try:
        with pytest.raises(RemoteProtocolError, match="Nope"):
            session.reset("gym-core.Nope-v0", seed=None, fps=30.0, timeout_s=WAIT_S)
        session.reset("gym-core.CartPole-v1", seed=None, fps=30.0, timeout_s=WAIT_S)
    finally:
        session.close()


def test_flash_games_draw_in_a_hardened_container(remotes, flashgames_image: str):
    remote = remotes.create(runtime="flashgames", variant=REALTIME)
    spec = load_catalog().env("flashgames.NeonRace-v0")
    ready = make_ready(remote, spec, seed=1, options=None, timeout_s=90.0)
    try:
        assert ready.view.picture[..., :3].std() > 5.0
    finally:
        ready.connection.close()


def test_flash_games_step_in_a_hardened_container(remotes, flashgames_image: str):
    play(remotes.create(runtime="flashgames", variant=LOCKSTEP), "flashgames.NeonRace-v0")


def test_a_create_that_was_sent_twice_makes_one_remote(remotes):
    remote_id = remotes.new_id()
    stores = [remotes.open(), remotes.open()]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(remotes.create, remote_id, store=store) for store in stores]
        first, second = (job.result(WAIT_S) for job in jobs)
    assert first == second
    assert [found.remote_id for found in remotes.store.survey(remotes.cluster)] == [remote_id]


DRIVER = """
import os, signal, sys
from pathlib import Path
from raygym.remote_env.docker.store import DockerStore
from raygym.remote_env.lease_file import LeaseFile

remote_id, cluster, state, expires = sys.argv[1:]
DockerStore(state=Path(state)).create(
    remote_id, "gym-core", client_id="worker-3", variant=("--mode", "lockstep"), cluster=cluster,
    lease=LeaseFile(token=1, client_id="worker-3", runtime="gym-core",
                    expires_unix_s=float(expires)),
)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_made_is_adopted_by_another(remotes):
    remote_id = remotes.new_id()
    given = [remote_id, remotes.cluster, str(remotes.state), str(time.time() + 120)]
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, *given], timeout=60, capture_output=True, check=False
    )
    assert driver.returncode == -signal.SIGKILL, driver.stderr.decode()
    play(remotes.store.adopt(remote_id))
    (found,) = remotes.store.survey(remotes.cluster)
    assert (found.first_client, found.runtime, found.state) == ("worker-3", "gym-core", "running")


def test_a_container_ends_by_itself_when_its_lease_runs_out(remotes):
    remote = remotes.create()
    expires_s = time.time() + 2.0
    remotes.store.write_lease(remote.id, remotes.lease(lasts_s=2.0))
    gone_s = remotes.await_gone(remote.id)
    assert expires_s - 0.1 <= gone_s < expires_s + 15.0
    assert [path.name for path in (remotes.state / "remotes" / remote.id).iterdir()] == [
        "remote.log"
    ]
    assert "lease.over" in remotes.store.log_tail(remote.id)
    (found,) = remotes.store.survey(remotes.cluster)
    assert (found.state, found.lease) == ("gone", None)


def test_a_lease_that_is_renewed_keeps_the_container(remotes):
    remote = remotes.create()
    short = remotes.lease(lasts_s=10.0)
    remotes.store.write_lease(remote.id, short)
    remotes.store.write_lease(remote.id, remotes.lease(lasts_s=120.0))
    while time.time() < short.expires_unix_s + 2.0:
        assert remotes.is_there(remote.id)
        time.sleep(0.1)
    play(remotes.store.adopt(remote.id))


def test_a_container_that_is_frozen_is_not_adopted_and_can_be_removed(remotes):
    remote = remotes.create()
    remotes.container(remote.id).pause()
    assert remotes.store.survey(remotes.cluster)[0].state == "paused"
    with pytest.raises(RemoteUnreachable, match="is paused"):
        remotes.store.adopt(remote.id)
    remotes.store.remove(remote.id)
    assert not remotes.is_there(remote.id)


def test_a_container_that_was_killed_is_gone_and_can_be_made_anew(remotes):
    remote = remotes.create()
    remotes.container(remote.id).kill()
    remotes.await_gone(remote.id)
    with pytest.raises(RemoteUnreachable, match=r"is gone \(exit code 137\)"):
        remotes.store.adopt(remote.id)
    play(remotes.create(remote.id))


def test_the_memory_that_a_container_holds_is_known(remotes):
    remote = remotes.create()
    assert 10 < remotes.store.memory_mib(remote.id) < 1024
    remotes.store.remove(remote.id)
    assert remotes.store.memory_mib(remote.id) is None


def test_killing_what_runs_inside_ends_the_container(remotes):
    remote = remotes.create()
    # Of its user's processes all but the first, which no process of its own can kill.
    remotes.container(remote.id).exec_run(["sh", "-c", "kill -9 -1"])
    remotes.await_gone(remote.id)
    with pytest.raises(RemoteUnreachable, match="exit code"):
        remotes.store.adopt(remote.id)


def test_many_are_started_side_by_side_by_one_store(remotes):
    with ThreadPoolExecutor(5) as pool:
        made = list(pool.map(lambda _: remotes.create(), range(5)))
    found = remotes.store.survey(remotes.cluster)
    assert {one.remote_id for one in found} == {remote.id for remote in made}
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(remotes.store.remove, [remote.id for remote in made]))
    assert remotes.store.survey(remotes.cluster) == []


def test_removing_leaves_no_container_no_directory_and_no_volume(remotes):
    remote = remotes.create()
    remotes.store.remove(remote.id)
    assert remotes.store.survey(remotes.cluster) == []
    assert list((remotes.state / "remotes").iterdir()) == []


def test_too_little_memory_is_told_as_such(remotes):
    remotes.limit("gym-core", memory_mib=16)
    with pytest.raises(OutOfMemory, match="16 MiB"):
        remotes.create(store=remotes.open())
    assert remotes.store.survey(remotes.cluster) == []


def test_containers_that_die_one_after_the_other_are_a_crash_loop(remotes):
    wrong = ("--mode", "lockstep", "--env", "Nope-v0")
    for _ in range(2):
        with pytest.raises(ContainerDied, match="exit code 2") as caught:
            remotes.create(variant=wrong)
        assert "Nope" in caught.value.log
    for _ in range(2):
        with pytest.raises(CrashLoop, match="gym-core"):
            remotes.create(variant=wrong)
    assert remotes.store.survey(remotes.cluster) == []
    play(remotes.create())


def test_the_memory_of_a_container_is_told_while_it_runs(remotes):
    remote = remotes.create()
    memory_mib = remotes.store.memory_mib(remote.id)
    assert memory_mib is not None
    assert 10 < memory_mib < 1024
    remotes.store.remove(remote.id)
    assert remotes.store.memory_mib(remote.id) is None


def test_a_missing_image_says_how_to_get_it(remotes):
    remotes.limit("gym-core", image="raygym-test/not-there")
    with pytest.raises(MissingImage, match="raygym images build gym-core"):
        remotes.create(store=remotes.open())


def test_a_remote_whose_maker_died_between_making_and_starting_is_started(remotes, monkeypatch):
    remote_id = remotes.new_id()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Start, "_await", die)
        broken.setattr(type(remotes.store), "_clean_up", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            remotes.create(remote_id)
    play(remotes.create(remote_id))
    assert len(remotes.store.survey(remotes.cluster)) == 1


def test_published_ports_need_no_shared_directory_and_ask_for_a_token(remotes):
    store = remotes.open(publish_ports=True)
    remote = remotes.create(store=store)
    assert remote.rpc.host == "127.0.0.1"
    assert remote.password is not None
    env = open_env(
        f"grpc://127.0.0.1:{remote.rpc.port}", env_id="CartPole-v1", token=remote.password
    )
    env.reset(seed=1)
    env.close()
    with pytest.raises(HandshakeRefused, match="token"):
        open_env(f"grpc://127.0.0.1:{remote.rpc.port}", env_id="CartPole-v1")
    assert store.adopt(remote.id) == remote
    assert "lockstep.ready" in store.log_tail(remote.id)
    assert not (remotes.state / "remotes" / remote.id).exists()


def test_a_published_remote_ends_with_its_lease_too(remotes):
    store = remotes.open(publish_ports=True)
    remote = remotes.create(store=store, variant=REALTIME, lasts_s=120.0)
    assert {remote.vnc.host, remote.rewarder.host} == {"127.0.0.1"}
    store.write_lease(remote.id, remotes.lease(lasts_s=0.5))
    remotes.await_gone(remote.id)
    with pytest.raises(RemoteUnreachable):
        store.write_lease(remote.id, remotes.lease())


def test_published_grpc_speaks_tls_with_the_certificates_that_were_put_in(remotes, tmp_path: Path):
    authority = make_authority(tmp_path)
    client = TlsFiles(ca=authority.path)
    store = remotes.open(publish_ports=True, tls=issue(authority, tmp_path, "server"))
    remote = remotes.create(store=store)
    assert remote.rpc.is_tls
    env = open_env(
        f"grpcs://127.0.0.1:{remote.rpc.port}",
        env_id="CartPole-v1",
        token=remote.password,
        tls=client,
    )
    env.reset(seed=1)
    env.close()
    mounts = remotes.container(remote.id).attrs["Mounts"]
    (volume,) = [mount["Name"] for mount in mounts if mount["Type"] == "volume"]
    store.remove(remote.id)
    left = remotes.engine.ask("volumes", lambda client: client.volumes.list())
    assert volume not in [one.name for one in left]
