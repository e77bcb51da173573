"""Whatever is killed: nothing is left over, nothing is lost, and no cut episode looks whole."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from raygym.remote_env.lease_file import read_lease
from tests.support.chaos import KINDS, Chaos, chaos, eventually
from tests.support.chaos_player import PARTS

SEED = 4
ROUNDS = 20
EACH_AT_LEAST = 2
LONG_S = 120.0
"""Of a lease: longer than it takes to start all of Ray again."""
SHORT_S = 4.0
GONE_WITHIN_S = 15.0
NEON, CART = (part.client_id for part in PARTS)
LENGTHS = {part.client_id: part.length for part in PARTS}
LOSES_REMOTE = {"container"}
CUTS_BOTH = {"driver", "Ray"}
CUTS_ONE = {"EnvActor", "container", "browser"}
OUTLIVED_BY_PLAYER = {"container", "browser"}


@pytest.fixture
def world(engine, flashgames_image: str, gym_core_image: str) -> Iterator[Chaos]:
    with chaos(engine, f"test-{secrets.token_hex(4)}") as made:
        yield made


def draw(rng: random.Random) -> list[tuple[str, str]]:
    """Returns what is killed in each round, and whose."""
    kinds = list(KINDS) * EACH_AT_LEAST
    kinds += rng.choices(list(KINDS), k=ROUNDS - len(kinds))
    rng.shuffle(kinds)
    return [(kind, NEON if kind == "browser" else rng.choice([NEON, CART])) for kind in kinds]


def have_stepped(world: Chaos, clients: set[str], *, since_s: float, is_new: bool) -> bool:
    """Returns whether players took steps after a time, of an episode that began after it."""
    world.must_run()
    for client in clients:
        later = [line["event"] for line in world.lines(client) if line["at_s"] > since_s]
        if is_new:
            later = later[later.index("begin") :] if "begin" in later else []
        if "steps" not in later:
            return False
    return True


def are_held(world: Chaos, *, since_s: float) -> bool:
    """Returns whether the leases are those of the players, and nothing but theirs is there."""
    rows = {row["client_id"]: row for row in world.rows(since_s=since_s)}
    names = {world.remote_id(client) for client in LENGTHS}
    return (
        rows.keys() == LENGTHS.keys()
        and all(is_held(world, client, row) for client, row in rows.items())
        and world.containers().keys() == names
        and world.directories() == names
    )


def is_held(world: Chaos, client: str, row: dict[str, Any]) -> bool:
    """Returns whether a player holds the Remote that it plays on, and renews in time."""
    remote_id = world.remote_id(client)
    lease = read_lease(world.state / "remotes" / remote_id)
    is_its_own = row["remote_id"] == remote_id and row["is_ready"] and row["holder"] is not None
    if lease is None or lease.holder is None or not is_its_own:
        return False
    pids = {row["holder"]["pid"], lease.holder["pid"]}
    ends_s = min(row["expires_s"], lease.expires_unix_s)
    # It is renewed three times in that time.
    is_renewed = ends_s > time.time() + row["ttl_s"] / 2
    return pids == world.env_actor(client) and lease.token == row["token"] and is_renewed


def say(*words: str) -> None:
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def told(world: Chaos) -> str:
    """Returns what a person needs to see why."""
    lines = [f"{client}: {line}" for client in LENGTHS for line in world.lines(client)[-8:]]
    lines += [f"row: {row}" for row in world.rows(since_s=0.0)]
    lines += [f"container: {found} {one.status}" for found, one in world.containers().items()]
    for remote_id in world.directories():
        directory = world.state / "remotes" / remote_id
        names = sorted(path.name for path in directory.iterdir())
        lines.append(f"directory: {remote_id} {names} {read_lease(directory)}")
    return "\n".join([*lines, world.log.read_text()[-3000:]])


def wait_until_usable(world: Chaos, cut: set[str], *, since_s: float) -> str:
    """Says after how many seconds all players had stepped, on the leases that they hold."""
    try:
        eventually(
            lambda: (
                have_stepped(world, cut, since_s=since_s, is_new=True)
                and have_stepped(world, set(LENGTHS) - cut, since_s=since_s, is_new=False)
            ),
            "the players step",
        )
        stepped_s = time.time()
        eventually(lambda: are_held(world, since_s=stepped_s), "leases are those of the players")
    except AssertionError as error:
        error.add_note(told(world))
        raise
    return f"stepping {stepped_s - since_s:.1f} s, leases {time.time() - since_s:.1f} s"


def play_round(world: Chaos, kind: str, client: str) -> str:
    """Kills one, waits until all play again and looks at what became of it."""
    cut = set(LENGTHS) if kind in CUTS_BOTH else {client} if kind in CUTS_ONE else set()
    before = {name: world.remote_id(name) for name in LENGTHS}
    ended = {name: len(ends(world, name)) for name in LENGTHS}
    killed_s = time.time()
    world.kill(kind, client)
    world.start()
    took = wait_until_usable(world, cut, since_s=killed_s)
    for name, remote_id in before.items():
        is_lost = kind in LOSES_REMOTE and name == client
        assert (world.remote_id(name) != remote_id) == is_lost, told(world)
        later = ends(world, name)[ended[name] :]
        if name not in cut:
            assert {end["outcome"] for end in later} <= {"ok"}, told(world)
        elif kind in OUTLIVED_BY_PLAYER:
            assert later[0]["outcome"] != "ok" or later[0]["steps"] == LENGTHS[name], told(world)
    return took


def check_containers(world: Chaos) -> None:
    """What a container could leave behind elsewhere, it does not have."""
    for container in world.containers().values():
        container.reload()
        assert set(container.attrs["NetworkSettings"]["Networks"]) == {"none"}
        assert {mount["Type"] for mount in container.attrs["Mounts"]} == {"bind"}
    assert world.contained_processes()


def start(world: Chaos) -> None:
    started_s = time.time()
    world.start()
    say("start", wait_until_usable(world, set(LENGTHS), since_s=started_s))


def containers_are_gone(world: Chaos) -> bool:
    return not world.containers() and not world.contained_processes()


def end_all_with_9(world: Chaos) -> None:
    """Kills all there is outside of containers: these end by themselves, when their leases do."""
    world.lease_for(ttl_s=SHORT_S, keep_s=SHORT_S)
    killed_s = time.time()
    for client in LENGTHS:
        world.kill("EnvActor", client)
    wait_until_usable(world, set(LENGTHS), since_s=killed_s)
    world.kill("Ray", "")
    assert not world.processes()
    left_s = SHORT_S + GONE_WITHIN_S
    eventually(lambda: containers_are_gone(world), "the containers go", within_s=left_s)
    for remote_id in world.directories():
        left = [path.name for path in (world.state / "remotes" / remote_id).iterdir()]
        assert left == ["remote.log"]


def end_orderly(world: Chaos) -> None:
    """Stops the players; what they gave back is removed when it was kept for long enough."""
    world.stop_players()
    left_s = SHORT_S + GONE_WITHIN_S
    eventually(
        lambda: containers_are_gone(world) and not world.directories(),
        "containers and directories go",
        within_s=left_s,
    )
    world.stop_ray()


def check_nothing_is_left(world: Chaos) -> None:
    label = {"label": f"raygym.cluster={world.cluster}"}
    assert not world.engine.networks.list(filters=label)
    assert not world.engine.volumes.list(filters=label)
    assert [path.name for path in world.state.iterdir()] == ["remotes"]
    assert not world.directories()
    assert [path.name for path in world.temporary.iterdir()] == []


def ends(world: Chaos, client: str) -> list[dict[str, Any]]:
    """Returns how each episode of a player ended, of those that did while it lived."""
    return [line for line in world.lines(client) if line["event"] == "end"]


def play_to_the_end(world: Chaos) -> None:
    """Waits until each player has ended an episode that nobody cut."""
    before = {client: len(ends(world, client)) for client in LENGTHS}
    eventually(
        lambda: all(len(ends(world, client)) > count for client, count in before.items()),
        "episodes end",
    )


def check_episodes(world: Chaos) -> None:
    """An episode is ok exactly if it was played to its end, and then all are the same."""
    for client, length in LENGTHS.items():
        found = ends(world, client)
        whole = [end for end in found if end["outcome"] == "ok"]
        assert {end["steps"] for end in whole} == {length}, whole
        assert len({end["score"] for end in whole}) == 1, whole
        for end in found:
            assert end["truncated"] or end["terminated"], end
            assert end["outcome"] == "ok" or (end["reason"] and not end["terminated"]), end


@pytest.mark.alone
@pytest.mark.timeout(900)
def test_nothing_is_left_or_lost_or_looks_whole_whatever_is_killed(world):
    rng = random.Random(SEED)
    world.lease_for(ttl_s=LONG_S, keep_s=LONG_S)
    start(world)
    for kind, client in draw(rng):
        check_containers(world)
        time.sleep(rng.uniform(0.0, 0.5))
        say(f"{kind} ({client})", play_round(world, kind, client))
    end_all_with_9(world)
    start(world)
    play_to_the_end(world)
    end_orderly(world)
    check_nothing_is_left(world)
    check_episodes(world)
