"""What a container is started with."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import raygym
from raygym.catalog import Runtime
from raygym.config import TlsFiles
from raygym.errors import ConfigError
from raygym.remote_env.docker.container import (
    INSIDE,
    ContainerOptions,
    Order,
    creation,
    docker_run,
    far_end,
    image_of,
    is_lockstep,
    user_and_group,
)

FLASH = Runtime(
    name="flashgames",
    screen_px=(1024, 768),
    modes=("realtime", "lockstep"),
    image="raygym/flashgames",
    memory_mib=768,
    cpus=1.5,
    pids=123,
)
GYM = replace(FLASH, name="gym-core", image="raygym/gym-core")
ORDER = Order(
    remote_id="r-7f2a91",
    runtime=FLASH,
    image="raygym/flashgames:1",
    client_id="worker-3",
    variant=("--mode", "realtime"),
    cluster="local",
    created="2026-01-02T03:04:05.678+00:00",
    directory=Path("/dev/shm/raygym-0/remotes/r-7f2a91"),
)
SHARED = ContainerOptions()
PUBLISHED = ContainerOptions(publish_ports=True)
TLS = TlsFiles(cert=Path("a"), key=Path("b"), ca=Path("c"))


def test_all_that_a_remote_has_no_use_for_is_taken_away():
    made = creation(ORDER, SHARED, uid=1000, gid=1001)
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert made["privileged"] is False
    assert made["ipc_mode"] == "private"
    assert made["read_only"] is True
    assert made["network_mode"] == "none"
    assert made["user"] == "1000:1001"
    assert "noexec" in made["tmpfs"]["/tmp"]
    assert not {"cap_add", "devices", "pid_mode", "userns_mode", "ports"} & set(made)


def test_the_limits_are_those_of_the_catalog_and_there_is_no_swap():
    made = creation(ORDER, SHARED)
    assert (made["mem_limit"], made["memswap_limit"]) == ("768m", "768m")
    assert made["nano_cpus"] == 1_500_000_000
    assert made["pids_limit"] == 123


def test_it_never_runs_as_root():
    assert user_and_group(0, 0) == (10001, 10001)
    assert user_and_group(1000, 100) == (1000, 100)
    assert creation(ORDER, SHARED, uid=0, gid=0)["user"] == "10001:10001"


def test_only_a_runtime_that_says_so_gets_a_network():
    wants = replace(ORDER, runtime=replace(FLASH, needs_network=True))
    assert creation(wants, SHARED)["network_mode"] == "bridge"
    assert "ports" not in creation(wants, SHARED)


def test_its_directory_is_all_of_this_machine_that_it_sees():
    made = creation(ORDER, SHARED)
    assert made["mounts"] == [
        {"Type": "bind", "Source": str(ORDER.directory), "Target": "/run/raygym"}
    ]
    assert "volumes" not in made


def test_labels_tell_whose_it_is():
    assert creation(ORDER, SHARED)["labels"] == {
        "raygym.cluster": "local",
        "raygym.remote": "r-7f2a91",
        "raygym.runtime": "flashgames",
        "raygym.variant": '["--mode", "realtime"]',
        "raygym.first_client": "worker-3",
        "raygym.created": "2026-01-02T03:04:05.678+00:00",
        "raygym.directory": str(ORDER.directory),
    }


def test_the_name_is_that_of_the_remote_so_that_the_engine_refuses_a_second():
    assert creation(ORDER, SHARED)["name"] == "raygym-r-7f2a91"


def test_the_engine_removes_a_container_that_ended():
    assert creation(ORDER, SHARED)["auto_remove"] is True


def test_another_runtime_of_the_engine_is_passed_on():
    assert "runtime" not in creation(ORDER, SHARED)
    strict = ContainerOptions(container_runtime="runsc")
    assert creation(ORDER, strict)["runtime"] == "runsc"


def test_the_far_end_looks_after_its_lease_and_lives_as_long_as_that():
    arguments = far_end(ORDER, ContainerOptions(lease_grace_s=12.5))
    assert arguments[:6] == [
        "--directory", INSIDE, "--lease-grace-s", "12.5", "--idle-timeout-s", "0",
    ]  # fmt: skip
    assert arguments[-3:] == ["--mode", "realtime", "--contained"]


@pytest.mark.parametrize(
    ("variant", "added"),
    [
        (("--mode", "lockstep"), ["--any-env"]),
        (("--any-env",), []),
        (("--env", "CartPole-v1"), []),
        (("--env=CartPole-v1",), []),
    ],
)
def test_gym_core_takes_any_id_unless_the_variant_names_one(variant, added):
    order = replace(ORDER, runtime=GYM, variant=variant)
    arguments = far_end(order, SHARED)
    assert arguments[8:] == [*variant, *added, "--contained"]


@pytest.mark.parametrize(
    ("variant", "ports"),
    [
        (("--mode", "realtime"), ["5900/tcp", "15900/tcp"]),
        (("--mode", "lockstep"), ["15901/tcp"]),
    ],
)
def test_ports_are_published_on_loopback_as_the_engine_chooses(variant, ports):
    order = replace(ORDER, variant=variant, directory=None)
    made = creation(order, PUBLISHED, uid=5, gid=6)
    assert made["ports"] == dict.fromkeys(ports, ("127.0.0.1", None))
    assert made["network_mode"] == "bridge"
    assert "uid=5,gid=6,mode=0700" in made["tmpfs"][INSIDE]
    assert "--contained" not in made["command"]
    assert "mounts" not in made


def test_an_engine_elsewhere_publishes_for_other_machines():
    order = replace(ORDER, variant=("--mode", "lockstep"), directory=None)
    options = ContainerOptions(publish_ports=True, tls=TLS, publish_host="0.0.0.0")
    assert creation(order, options)["ports"] == {"15901/tcp": ("0.0.0.0", None)}


def test_certificates_go_into_a_volume_that_ends_with_the_container():
    order = replace(ORDER, variant=("--mode", "lockstep"), directory=None)
    options = ContainerOptions(publish_ports=True, tls=TLS)
    assert creation(order, options)["volumes"] == ["/etc/raygym-tls"]
    command = far_end(order, options)
    assert "--insecure" not in command
    assert command[-6:] == [
        "--tls-cert", "/etc/raygym-tls/cert.pem", "--tls-key", "/etc/raygym-tls/key.pem",
        "--tls-ca", "/etc/raygym-tls/ca.pem",
    ]  # fmt: skip


def test_tls_without_ports_is_refused():
    with pytest.raises(ConfigError, match="publish_ports=True"):
        ContainerOptions(tls=TLS)


def test_tls_of_a_client_only_is_refused():
    with pytest.raises(ConfigError, match="needs a certificate"):
        ContainerOptions(publish_ports=True, tls=TlsFiles(ca=Path("c")))


@pytest.mark.parametrize("option", ["--password-file", "--password-file=/x", "--token-file"])
def test_no_secret_is_named_among_arguments_that_everybody_can_see(option):
    with pytest.raises(ConfigError, match="everybody can see"):
        replace(ORDER, variant=(option,))


@pytest.mark.parametrize("remote_id", ["", "..", "a/b", "-x", "a b", "x" * 64, "a\n"])
def test_what_cannot_name_a_container_and_a_directory_is_refused(remote_id):
    with pytest.raises(ConfigError, match="remote_id"):
        replace(ORDER, remote_id=remote_id)


def test_an_image_has_the_tag_of_this_version():
    assert image_of(FLASH) == f"raygym/flashgames:{raygym.__version__}"
    with pytest.raises(ConfigError, match="no image"):
        image_of(replace(FLASH, image=None))


@pytest.mark.parametrize(
    ("runtime", "variant", "expected"),
    [
        (FLASH, (), False),
        (GYM, (), True),
        (GYM, ("--mode", "realtime"), False),
        (FLASH, ("--mode=lockstep",), True),
        (FLASH, ("--mode",), False),
    ],
)
def test_the_mode_is_read_from_the_arguments(runtime, variant, expected):
    assert is_lockstep(runtime, variant) is expected


@pytest.mark.parametrize(
    "options", [SHARED, PUBLISHED, ContainerOptions(publish_ports=True, tls=TLS)]
)
def test_the_line_of_docker_run_says_all_that_the_engine_is_told(options):
    directory = None if options.publish_ports else ORDER.directory
    order = replace(ORDER, variant=("--mode", "lockstep"), directory=directory)
    made = creation(order, options, uid=7, gid=8)
    words = shlex.split(docker_run(made))
    assert words[:4] == ["docker", "run", "--detach", "--rm"]
    assert words[-len(made["command"]) - 1 :] == [made["image"], *made["command"]]
    text = " ".join(words)
    for part in (
        "--user 7:8",
        "--read-only",
        "--cap-drop ALL",
        "--ipc private",
        "--security-opt=no-new-privileges:true",
        "--memory 768m --memory-swap 768m",
        "--cpus 1.5",
        "--pids-limit 123",
        f"--network {made['network_mode']}",
        "--env HOME=/tmp",
        *(f"--tmpfs {path}:{given}" for path, given in made["tmpfs"].items()),
        *(f"--label {name}={value}" for name, value in made["labels"].items()),
        *(f"--publish 127.0.0.1::{port}" for port in made.get("ports", ())),
        *(f"--volume {volume}" for volume in made.get("volumes", ())),
    ):
        assert part in text
    assert ("--mount type=bind,source=" in text) is (directory is not None)
    assert json.loads(made["labels"]["raygym.variant"]) == ["--mode", "lockstep"]
