from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from raygym.service.placement import ENV_SLOTS, KIND_LABEL
from tests.support import kuberay

TOP = Path(__file__).parents[2]
FILES = {"aws": TOP / "cluster.yaml", "local": TOP / "cluster.local.yaml"}
KUBERAY = sorted((TOP / "examples" / "kuberay").glob("*.yaml"))
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
COMMANDS = (*STARTS, "setup_commands", "head_setup_commands", "worker_setup_commands")


def loaded(provider: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(FILES[provider].read_text())
    return config


def validated(config: dict[str, Any]) -> dict[str, Any]:
    """Returns it as Ray's launcher completes it; raises what Ray does."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def commands(config: dict[str, Any]) -> list[str]:
    return [command for key in COMMANDS for command in config.get(key, ())]


def start_faults(config: dict[str, Any]) -> list[str]:
    """Returns what is wrong with how Ray is started: no token, or a dashboard for everybody."""
    found = []
    for key in STARTS:
        found += [
            f"{key}: no token: {command}"
            for command in config[key]
            if "ray " in command and not re.search(r"\bRAY_AUTH_MODE=token\b.*ray ", command, re.S)
        ]
        if not any("ray start" in command for command in config[key]):
            found.append(f"{key}: starts nothing")
    head = " ".join(config["head_start_ray_commands"])
    if "--dashboard-host=127.0.0.1" not in head:
        found.append("the dashboard is not bound to loopback")
    found += [f"open to all: {command}" for command in commands(config) if "0.0.0.0" in command]
    if "~/.ray/auth_token" not in config["file_mounts"]:
        found.append("no token is carried to the nodes")
    return found


def shellcheck(command: str) -> str:
    assert shutil.which("shellcheck"), "apt-get install --no-install-recommends shellcheck"
    # SC2016: what stands in single quotes is for the shell that reads it later.
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "--exclude=SC2016", "-"],
        input=f"{command}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("provider", FILES)
def test_ray_takes_the_file(provider):
    assert validated(loaded(provider))["provider"]["type"] == provider


def test_ray_refuses_what_is_wrong_with_a_file():
    with pytest.raises(jsonschema.ValidationError):
        validated({**loaded("aws"), "docker_image": "raygym"})
    with pytest.raises(ValueError, match="head_node_type"):
        validated({**loaded("aws"), "head_node_type": "nobody"})
    with pytest.raises(ValueError, match="max_workers"):
        validated({**loaded("aws"), "max_workers": 0})


def test_the_nodes_for_remotes_have_slots_and_a_label_and_the_head_has_none():
    types = validated(loaded("aws"))["available_node_types"]
    env, head = types["env"], types["head"]
    assert env["resources"][ENV_SLOTS] >= 1
    assert ENV_SLOTS not in head["resources"]
    assert (env["labels"], head["labels"]) == ({KIND_LABEL: "env"}, {KIND_LABEL: "head"})
    assert 0 <= env["min_workers"] <= env["max_workers"] <= loaded("aws")["max_workers"]


def test_one_line_makes_spot_of_on_demand():
    text = FILES["aws"].read_text()
    lines = [line for line in text.splitlines() if "MarketType" in line]
    assert len(lines) == 1
    config = yaml.safe_load(text.replace(lines[0] + "\n", ""))
    env = validated(config)["available_node_types"]["env"]["node_config"]
    assert "InstanceMarketOptions" not in env
    assert env["InstanceType"]


def test_nothing_but_ssh_is_open_on_aws():
    rules = loaded("aws")["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]


@pytest.mark.parametrize("kind", ["head", "env"])
def test_containers_cannot_ask_for_credentials_of_their_machine(kind):
    node = loaded("aws")["available_node_types"][kind]["node_config"]
    assert node["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}


@pytest.mark.parametrize("provider", FILES)
def test_ray_is_started_with_a_token_and_its_dashboard_on_loopback(provider):
    assert start_faults(loaded(provider)) == []


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("head_start_ray_commands", "export RAY_AUTH_MODE=token", "export OTHER=token"),
        (
            "worker_start_ray_commands",
            "export RAY_AUTH_MODE=token",
            "export RAY_AUTH_MODE=disabled",
        ),
        ("head_start_ray_commands", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        ("head_start_ray_commands", "--dashboard-host=127.0.0.1", ""),
        ("worker_start_ray_commands", "ray start", "true"),
    ],
)
def test_an_open_start_is_found(key, old, new):
    config = loaded("local")
    config[key] = [command.replace(old, new) for command in config[key]]
    assert start_faults(config)


@pytest.mark.parametrize("provider", FILES)
def test_the_files_that_are_carried_are_there(provider):
    for there, here in loaded(provider)["file_mounts"].items():
        assert there.startswith("~/")
        assert here == "~/.ray/auth_token" or (TOP / here).exists(), here


@pytest.mark.parametrize(
    "command", dict.fromkeys(each for provider in FILES for each in commands(loaded(provider)))
)
def test_shellcheck_finds_no_fault_in_a_command(command):
    assert shellcheck(command) == ""


def test_shellcheck_finds_a_fault_where_there_is_one():
    assert "SC2086" in shellcheck("rm -rf $DIRECTORY")


@pytest.mark.parametrize("key", STARTS)
def test_a_machine_of_ones_own_says_how_many_slots_it_has(key):
    command = loaded("local")[key][-1]
    for environment, slots in (({}, "getconf"), ({"RAYGYM_ENV_SLOTS": "7"}, "7")):
        # `sg` hands on what stands in its quotes to a shell; this one prints what ray would get.
        script = f'ray() {{ printf "%s\\n" "$@"; }}; sg() {{ eval "$3"; }}\n{command}'
        done = subprocess.run(
            ["bash", "-euc", script],
            env={"PATH": "/usr/bin:/bin", "HOME": "/h", "RAY_HEAD_IP": "h", **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        arguments = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        expected = (
            int(subprocess.check_output(["getconf", "_NPROCESSORS_ONLN"]))
            if slots == "getconf"
            else int(slots)
        )
        assert json.loads(arguments["--resources"]) == {ENV_SLOTS: expected}
        assert arguments["--labels"] == f"{KIND_LABEL}=env"


@pytest.mark.parametrize("key", STARTS)
@pytest.mark.parametrize(("failures", "starts", "status"), [(0, 1, 0), (2, 3, 0), (9, 3, 1)])
def test_a_machine_of_ones_own_tries_three_times_to_start_ray(
    key, failures, starts, status, tmp_path
):
    (command,) = loaded("local")[key]
    calls = tmp_path / "calls"
    so_far = f'"$(grep -c start {calls})"'
    ray = f'echo "$1" >> {calls}; [ "$1" = stop ] || [ {so_far} -gt {failures} ]'
    script = f'ray() {{ {ray}; }}; sleep() {{ :; }}; sg() {{ eval "$3"; }}\n{command}'
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", "HOME": "/h", "RAY_HEAD_IP": "h"},
        timeout=30,
    )
    assert done.returncode == status
    assert calls.read_text().split() == ["stop", "start"] * starts


def test_own_machines_get_the_autoscaler_that_starts_workers_from_plain_ray_up_too():
    (start,) = [each for each in loaded("local")["head_start_ray_commands"] if "ray start" in each]
    assert re.search(r"export .*\bRAY_enable_autoscaler_v2=0\b.*\bray start", start, re.S)


def test_a_machine_of_ones_own_may_be_away_for_a_week():
    (start,) = [each for each in loaded("local")["head_start_ray_commands"] if "ray start" in each]
    wait = re.search(r"export .*\bAUTOSCALER_NODE_START_WAIT_S=(\d+)\b.*\bray start", start, re.S)
    assert wait
    assert int(wait[1]) == 7 * 24 * 3600


@pytest.mark.parametrize("provider", FILES)
def test_nodes_get_the_ray_that_is_tested(provider):
    pins = (TOP / "constraints.txt").read_text().splitlines()
    assert f"ray=={ray.__version__}" in pins
    installs = [command for command in commands(loaded(provider)) if "raygym[train]" in command]
    assert installs
    assert all("-c ~/raygym/constraints.txt" in command for command in installs)


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_kuberay_files_are_what_their_definitions_ask_for(path):
    assert [fault for document in documents(path) for fault in kuberay.faults(document)] == []


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_pods_for_remotes_have_slots_and_a_label_as_rays_autoscaler_reads_them(path):
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )

    document = documents(path)[0]
    cluster = kuberay.cluster_of(document)
    names = {"metadata": {"name": "raygym", "namespace": "default"}}
    derived = validated(_derive_autoscaling_config_from_ray_cr({**names, "spec": cluster}))
    types = derived["available_node_types"]
    head, env = types.pop(derived["head_node_type"]), types.pop("env")
    assert types == {}
    assert env["resources"][ENV_SLOTS] >= 1
    assert ENV_SLOTS not in head["resources"]
    assert (env["labels"], head["labels"]) == ({KIND_LABEL: "env"}, {KIND_LABEL: "head"})
    assert (env["min_workers"], env["max_workers"]) == (1, 8)
    assert cluster["rayVersion"] == ray.__version__


def _without_token(spec):
    del spec["authOptions"]


def _with_an_open_service(spec):
    spec["headGroupSpec"]["serviceType"] = "LoadBalancer"


def _with_a_misspelt_field(spec):
    spec["workerGroupSpecs"][0]["maxReplica"] = 3


def _with_labels_where_they_are_refused(spec):
    spec["headGroupSpec"]["rayStartParams"]["labels"] = "raygym/kind=head"


def _without_limits(spec):
    del spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]


def _as_root(spec):
    spec["headGroupSpec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = False


def _with_another_port(spec):
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"][1]["containerPort"] = 80


def _without_its_volume(spec):
    del spec["workerGroupSpecs"][0]["template"]["spec"]["volumes"]


def _with_too_many_replicas(spec):
    spec["workerGroupSpecs"][0]["replicas"] = 99


@pytest.mark.parametrize(
    "spoil",
    [
        _without_token,
        _with_an_open_service,
        _with_a_misspelt_field,
        _with_labels_where_they_are_refused,
        _without_limits,
        _as_root,
        _with_another_port,
        _without_its_volume,
        _with_too_many_replicas,
    ],
)
@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_a_spoilt_kuberay_file_is_found(path, spoil):
    document = documents(path)[0]
    # Anchors make one object of what is written once.
    document = json.loads(json.dumps(document))
    spoil(kuberay.cluster_of(document))
    assert kuberay.faults(document)


def test_a_kind_that_nobody_knows_is_found():
    assert kuberay.faults({"apiVersion": "ray.io/v1alpha1", "kind": "RayCluster"})
