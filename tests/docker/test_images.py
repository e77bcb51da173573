"""The images as `docker run` gives them, hardened as far as an engine can."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker.client import DockerClient

from raygym import __version__, images
from raygym.images_engine import BuildFailed

RUNTIMES = ("flashgames", "gym-core", "wob")
MOST_BYTES = {"flashgames": 1_000_000_000, "gym-core": 500_000_000, "wob": 1_000_000_000}
ARGUMENTS = {"gym-core": ["--env", "CartPole-v1"]}
ANSWERS = {
    "flashgames": "vnc: 1024x768; rewarder: waiting for a reset",
    "gym-core": "lock-step: gym-core version 1",
    "wob": "vnc: 1024x768; rewarder: waiting for a reset",
}
HEALTHY_WITHIN_S = 90.0
SOON_S = 30.0
SECOND_NS = 10**9

Start = Callable[..., Any]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, engine: DockerClient) -> str:
    request.getfixturevalue(f"{request.param.replace('-', '_')}_image")
    return str(request.param)


@pytest.fixture
def start(engine: DockerClient) -> Iterator[Start]:
    """Starts hardened containers, and removes them in the end."""
    started = []

    def hardened(runtime: str, *arguments: str, user: int = 10001) -> Any:
        mine = f"uid={user},gid={user},mode=0700"
        given = arguments or ARGUMENTS.get(runtime, [])
        container = engine.containers.run(
            images.tag_of(runtime),
            ["--directory", "/run/raygym", *given],
            name=f"raygym-test-{secrets.token_hex(4)}",
            detach=True,
            user=f"{user}:{user}",
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            tmpfs={"/tmp": "rw,nosuid,nodev,size=256m,mode=1777", "/run/raygym": f"rw,{mine}"},
            mem_limit="1g",
            memswap_limit="1g",
            pids_limit=300,
            # As the image says it, but sooner.
            healthcheck={"interval": SECOND_NS},
        )
        started.append(container)
        return container

    yield hardened
    for container in started:
        container.remove(force=True)


def until(what: Callable[[], Any], *, within_s: float) -> Any:
    """Returns the first true answer of ``what``; the last one if there is none in time."""
    deadline_s = time.monotonic() + within_s
    while not (answer := what()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return answer


def health(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs["State"].get("Health") or {})


def await_healthy(container: Any) -> None:
    def is_decided() -> bool:
        return health(container).get("Status") == "healthy" or container.status == "exited"

    until(is_decided, within_s=HEALTHY_WITHIN_S)
    said = health(container)
    assert said.get("Status") == "healthy", (said, container.logs().decode()[-2000:])


def python(container: Any, program: str) -> str:
    code, output = container.exec_run(["python", "-c", program])
    assert code == 0, output.decode()
    return output.decode().strip()


def test_a_hardened_container_gets_healthy_by_real_handshakes(runtime: str, start: Start):
    container = start(runtime)
    await_healthy(container)
    assert ANSWERS[runtime] in health(container)["Log"][-1]["Output"]


def test_a_container_works_for_whatever_user_it_is_started_as(runtime: str, start: Start):
    await_healthy(start(runtime, user=54321))


@pytest.mark.parametrize("name", ["flashgames", "wob"])
def test_a_browser_host_gets_healthy_in_lockstep_too(
    name: str, request: pytest.FixtureRequest, start: Start
):
    request.getfixturevalue(f"{name}_image")
    container = start(name, "--mode", "lockstep")
    await_healthy(container)
    said = health(container)["Log"][-1]["Output"]
    assert "vnc: 1024x768" in said
    assert f"lock-step: {name} version 1" in said


def test_nothing_in_it_runs_as_root(runtime: str, start: Start):
    container = start(runtime)
    await_healthy(container)
    listed = container.top(ps_args="-eo pid,uid,comm")["Processes"]
    assert listed
    assert {row[1] for row in listed} == {"10001"}


def test_it_is_stopped_by_sigterm_and_ends_well(runtime: str, start: Start):
    container = start(runtime)
    await_healthy(container)
    container.stop(timeout=20)
    assert container.wait(timeout=20)["StatusCode"] == 0


def test_the_health_check_fails_where_no_remote_is_ready(runtime: str, start: Start):
    container = start(runtime)
    code, output = container.exec_run(["python", "-m", "raygym.runtimes.healthcheck", "/tmp"])
    assert code == 1
    assert b"no Remote is ready there" in output


def test_a_remote_that_hangs_gets_unhealthy(gym_core_image: str, start: Start):
    container = start("gym-core")
    await_healthy(container)
    python(
        container,
        "import os, signal, pathlib, json;"
        "pid = json.loads(pathlib.Path('/run/raygym/ready.json').read_text())['pid'];"
        "os.kill(pid, signal.SIGSTOP)",
    )
    # Three checks of five seconds each must fail.
    sick = until(lambda: health(container)["Status"] == "unhealthy", within_s=HEALTHY_WITHIN_S)
    assert sick, health(container)


def test_what_a_killed_browser_leaves_behind_is_reaped(flashgames_image: str, start: Start):
    container = start("flashgames")
    await_healthy(container)
    python(
        container,
        "import os, signal, pathlib\n"
        "for entry in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try:\n"
        "        if (entry / 'comm').read_text().startswith('chrom'):\n"
        "            os.kill(int(entry.name), signal.SIGKILL)\n"
        "    except (FileNotFoundError, ProcessLookupError):\n"
        "        pass\n",
    )

    # The engine's own list leaves zombies out.
    look = (
        "import pathlib\n"
        "for entry in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    name, _, rest = (entry / 'stat').read_text().rpartition(')')\n"
        "    if rest.split()[0] == 'Z':\n"
        "        print(name)\n"
    )
    until(lambda: not python(container, look), within_s=SOON_S)
    assert python(container, look) == ""


def test_neither_ray_nor_torch_nor_pip_is_in_it(runtime: str, start: Start):
    found = python(
        start(runtime),
        "import importlib.util as u; "
        "print([n for n in ('ray', 'torch', 'pip', 'rich', 'docker') if u.find_spec(n)])",
    )
    assert found == "[]"


def test_it_holds_this_raygym_and_the_pinned_packages(runtime: str, start: Start):
    container = start(runtime)
    program = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    found = json.loads(python(container, program))
    assert found.pop("raygym") == __version__
    lines = (images.images_context.DOCKERFILES / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    assert {n: v for n, v in found.items() if pinned.get(n.lower().replace("_", "-")) != v} == {}


def test_atari_and_classic_environments_can_be_made(gym_core_image: str, start: Start):
    container = start("gym-core")
    for env_id in ("CartPole-v1", "ale_py:ALE/Pong-v5"):
        made = python(
            container,
            f"import gymnasium; e = gymnasium.make({env_id!r}, render_mode='rgb_array');"
            "e.reset(seed=1); print(e.render().ndim)",
        )
        assert made.splitlines()[-1] == "3"


def test_its_labels_say_what_it_is(runtime: str, engine: DockerClient):
    image = engine.images.get(images.tag_of(runtime))
    said = {key.rpartition(".")[2]: value for key, value in image.labels.items()}
    assert said["name"].startswith("debian")
    assert said["title"] == f"raygym/{runtime}"
    assert said["version"] == __version__
    assert said["licenses"] == "MIT"
    assert said["revision"].startswith("sha256:")
    assert all(key.startswith("org.opencontainers.image.") for key in image.labels)


def test_its_user_entry_point_and_health_check_are_set(runtime: str, engine: DockerClient):
    config = engine.images.get(images.tag_of(runtime)).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tini", "--", "python", "-m", "raygym.runtimes", runtime]
    assert config["Healthcheck"]["Test"][-2:] == ["raygym.runtimes.healthcheck", "/run/raygym"]


def test_it_is_not_larger_than_we_say(runtime: str, engine: DockerClient):
    assert images.look(engine, runtime).size_bytes < MOST_BYTES[runtime]


def test_ls_knows_every_image_and_a_second_build_gives_the_same(
    gym_core_image: str, engine: DockerClient
):
    first = images.look(engine, "gym-core")
    (second,) = images.build(engine, ["gym-core"])
    assert {image.runtime for image in images.ls(engine)} >= set(RUNTIMES)
    if first.is_current and second.is_current:
        assert first.id == second.id


def test_a_build_that_fails_ends_with_its_own_words(gym_core_image: str, engine: DockerClient):
    # On it, apt-get is not root.
    with pytest.raises(BuildFailed) as failed:
        images.build(engine, ["gym-core"], base=gym_core_image)
    assert "building raygym/gym-core" in str(failed.value)
    assert "Permission denied" in str(failed.value)
