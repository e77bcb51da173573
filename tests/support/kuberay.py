"""What KubeRay's and Kubernetes' resource definitions ask of our example files.

Of the fields in KubeRay's API reference (``ray.io/v1``) and Kubernetes', those that our files use
or could easily get wrong; an unknown one is an error, as misspelt fields are dropped in silence.
"""

from __future__ import annotations

import re
from typing import Any

from jsonschema import Draft202012Validator

TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
FLAG = {"type": "boolean"}


def _thing(required: str, **fields: Any) -> dict[str, Any]:
    """Returns the schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


_NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
_QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
_AMOUNTS = {"type": "object", "additionalProperties": _QUANTITY, "required": ["cpu", "memory"]}
_METADATA = _thing("name", name=_NAME, labels=TEXTS, namespace=_NAME)
_CAPABILITIES = _thing("drop", drop={"const": ["ALL"]})
_CONTAINER = _thing(
    "name image resources securityContext",
    name=_NAME,
    image={"type": "string", "pattern": r":[^/]+$"},
    command=_list(TEXT),
    env=_list(_thing("name", name=TEXT, value={"type": "string"})),
    ports=_list(
        _thing(
            "containerPort",
            containerPort={"type": "integer", "minimum": 1, "maximum": 65535},
            name={"type": "string", "pattern": r"^[a-z0-9-]{1,15}$"},
            protocol={"enum": ["TCP", "UDP"]},
        )
    ),
    resources=_thing("requests limits", requests=_AMOUNTS, limits=_AMOUNTS),
    securityContext=_thing(
        "allowPrivilegeEscalation capabilities",
        allowPrivilegeEscalation={"const": False},
        capabilities=_CAPABILITIES,
    ),
    volumeMounts=_list(_thing("name mountPath", name=_NAME, mountPath=TEXT, readOnly=FLAG)),
)
_VOLUME = _thing(
    "name",
    name=_NAME,
    emptyDir=_thing("", medium={"enum": ["", "Memory"]}, sizeLimit=_QUANTITY),
    persistentVolumeClaim=_thing("claimName", claimName=_NAME, readOnly=FLAG),
)
_POD = _thing(
    "spec",
    metadata=_thing("", labels=TEXTS, annotations=TEXTS),
    spec=_thing(
        "containers securityContext",
        containers=_list(_CONTAINER),
        volumes=_list(_VOLUME),
        automountServiceAccountToken=FLAG,
        securityContext=_thing(
            "runAsNonRoot seccompProfile",
            runAsNonRoot={"const": True},
            runAsUser={"type": "integer", "minimum": 1},
            fsGroup=COUNT,
            seccompProfile=_thing("type", type={"const": "RuntimeDefault"}),
        ),
    ),
)
# KubeRay refuses a cluster with labels among these.
_STARTED = {**TEXTS, "propertyNames": {"not": {"const": "labels"}}}
_HEAD = _thing(
    "template rayStartParams labels",
    template=_POD,
    rayStartParams=_STARTED,
    labels=TEXTS,
    # Neither a LoadBalancer nor an ingress: what is open to the world is open to run code.
    serviceType={"const": "ClusterIP"},
    enableIngress={"const": False},
)
_WORKERS = _thing(
    "groupName template rayStartParams labels replicas minReplicas maxReplicas",
    groupName=_NAME,
    template=_POD,
    rayStartParams=_STARTED,
    labels=TEXTS,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas={"type": "integer", "minimum": 1},
    idleTimeoutSeconds=COUNT,
    numOfHosts=COUNT,
)
_CLUSTER = _thing(
    "rayVersion headGroupSpec workerGroupSpecs authOptions",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_thing("mode", mode={"const": "token"}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=_thing(
        "",
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        version={"enum": ["v1", "v2"]},
    ),
    headGroupSpec=_HEAD,
    workerGroupSpecs=_list(_WORKERS),
)
_JOB = _thing(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    rayClusterSpec=_CLUSTER,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    runtimeEnvYAML=TEXT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    backoffLimit=COUNT,
)
_SELECTOR = _thing("", matchLabels=TEXTS)
_PEER = _thing(
    "",
    podSelector=_SELECTOR,
    namespaceSelector=_SELECTOR,
    ipBlock=_thing("cidr", cidr=TEXT),
)
_PORTS = _list(_thing("port", port=COUNT, protocol={"enum": ["TCP", "UDP"]}))
_POLICY = _thing(
    "podSelector policyTypes",
    podSelector=_SELECTOR,
    policyTypes=_list({"enum": ["Ingress", "Egress"]}),
    ingress=_list({"type": "object", "properties": {"from": _list(_PEER), "ports": _PORTS}}),
    egress=_list({"type": "object", "properties": {"to": _list(_PEER), "ports": _PORTS}}),
)
_KINDS = {
    ("ray.io/v1", "RayCluster"): _CLUSTER,
    ("ray.io/v1", "RayJob"): _JOB,
    ("networking.k8s.io/v1", "NetworkPolicy"): _POLICY,
}


def faults(document: Any) -> list[str]:
    """Returns what is wrong with a document, one line each."""
    if not isinstance(document, dict):
        return ["expected a mapping"]
    kind = (document.get("apiVersion"), document.get("kind"))
    if kind not in _KINDS:
        return [f"unknown apiVersion and kind: {kind}"]
    schema = _thing(
        "apiVersion kind metadata spec",
        apiVersion=TEXT,
        kind=TEXT,
        metadata=_METADATA,
        spec=_KINDS[kind],
    )
    found = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(document)
    ]
    return found or _cross_faults(document)


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the description of the Ray cluster in a RayCluster or RayJob."""
    spec: dict[str, Any] = document["spec"]
    return spec.get("rayClusterSpec", spec)


def _cross_faults(document: dict[str, Any]) -> list[str]:
    """Returns what no schema sees."""
    if document["kind"] == "NetworkPolicy":
        return []
    cluster = cluster_of(document)
    found = []
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        name = group.get("groupName", "head")
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        for container in pod["containers"]:
            mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
            found += [f"{name}: no volume {missing}" for missing in sorted(mounts - volumes)]
            cpus = container["resources"]["limits"]["cpu"]
            if group["rayStartParams"].get("num-cpus", cpus) != cpus:
                found.append(f"{name}: num-cpus is not its limit of {cpus} processors")
        if "groupName" in group and not (
            group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        ):
            found.append(f"{name}: replicas outside of minReplicas to maxReplicas")
    ports = {
        port.get("name"): port["containerPort"]
        for port in cluster["headGroupSpec"]["template"]["spec"]["containers"][0].get("ports", ())
    }
    if ports.get("gcs") != 6379 or ports.get("dashboard") != 8265:
        found.append(f"head: expected the ports gcs 6379 and dashboard 8265, got {ports}")
    image_version = re.search(
        r":(.+)$", cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    )
    if image_version is None or image_version[1] != cluster["rayVersion"]:
        found.append("head: the image's tag is not rayVersion")
    return found
