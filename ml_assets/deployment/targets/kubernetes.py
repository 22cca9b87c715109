"""Kubernetes, as GKE has it: a Deployment that scales, with everything that should stand around it.

The image is a bundle's, which asks nobody for a key: the network policy says who may reach it. With a Secret it is the image of
this repository, and `ml-assets serve` answers: by entity keys, with API keys, with a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ml_assets.deployment.targets.plan import OWN_COMMAND, Plan, Release, Run, Write
from ml_assets.deployment.targets.settings import Settings, outside_name
from ml_assets.packaging.container import DIGEST_VARIABLE, PORT, USER

VERSION = "1.34"
"""Of the API that the manifests are written for, and checked against."""
FILE = "manifests.yaml"
HASHES_VARIABLE = "ML_ASSETS_API_KEY_HASHES"
HOME = "/app"
"""Where deploy/Dockerfile puts this repository."""
SHARED = "shared"
"""Below it: what all pods see under one path, such as the bundles (ML_ASSETS_MODELS)."""
STORES = (443, 5432, 6379, 5000)
"""Ports that `ml-assets serve` asks: buckets, a database or MLflow's server for the registry, Redis for features."""
DRAIN_SECONDS = 10
"""Requests still come in while the endpoints learn that a pod is going."""
DNS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
NODE_DNS = {"ipBlock": {"cidr": "169.254.20.10/32"}}  # GKE's cache on each node
METADATA = (
    ("169.254.169.252/32", 988),
    ("169.254.169.254/32", 80),
)  # GKE's metadata server, without and with Dataplane V2

Manifest = dict[str, Any]


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice two times: an alias of YAML's is legal, and no person expects it."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def plan(release: Release, settings: Settings) -> Plan:
    """Return the manifests and the commands that apply them; `SettingError` without an image by digest."""
    settings.require_image("kubernetes")
    name = settings.name or outside_name(release.problem)
    context = (f"--context={settings.context}",) if settings.context else ()
    follow = ("rollout", "status", f"deployment/{name}", f"--namespace={settings.namespace}", "--timeout=300s")
    text = yaml.dump_all(manifests(release, settings), Dumper=_Plain, sort_keys=False, width=120)
    return Plan(
        "kubernetes",
        (
            Write(FILE, text, f"for the API of Kubernetes {VERSION}; keep it under version control"),
            Run(("kubectl", *context, "apply", f"--filename={FILE}"), "creates what is new, changes what differs"),
            Run(("kubectl", *context, *follow), "ends when the new pods are ready; the old ones answer until then"),
        ),
        _notes(settings, name),
    )


def _notes(settings: Settings, name: str) -> tuple[str, ...]:
    found = [f"take it back: kubectl rollout undo deployment/{name} --namespace={settings.namespace}"]
    if settings.secret:
        found.append(
            f"Secret {settings.secret} must exist, with {HASHES_VARIABLE} and what says where things are: "
            f"kubectl create secret generic {settings.secret} --namespace={settings.namespace} --from-env-file=FILE"
        )
    if settings.secret and not settings.shared:
        found.append(f"bundles must lie where the registry says: --shared mounts a claim with them at {HOME}/{SHARED}")
    if settings.service_account:
        found.append(
            f"let it act as {settings.service_account}: grant roles/iam.workloadIdentityUser to "
            f"serviceAccount:PROJECT.svc.id.goog[{settings.namespace}/{name}]"
        )
    return tuple(found)


def manifests(release: Release, settings: Settings) -> list[Manifest]:
    """Return all manifests in the order in which they can be created."""
    name = settings.name or outside_name(release.problem)
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "ml-assets"}
    made = [
        _service_account(settings),
        _network_policy(settings, labels),
        _deployment(release, settings, name, labels),
        _service(settings, labels),
        _autoscaler(settings, name),
        _disruption_budget(labels),
        *([_pod_monitoring(labels)] if settings.monitoring else []),
    ]
    common = {"name": name, "namespace": settings.namespace, "labels": labels}
    return [_namespace(settings), *(_named(manifest, common) for manifest in made)]


def _named(manifest: Manifest, common: Mapping[str, Any]) -> Manifest:
    head = {key: manifest[key] for key in ("apiVersion", "kind")}
    return {**head, "metadata": {**common, **manifest.get("metadata", {})}, **{k: manifest[k] for k in _rest(manifest)}}


def _rest(manifest: Manifest) -> list[str]:
    return [key for key in manifest if key not in ("apiVersion", "kind", "metadata")]


def _namespace(settings: Settings) -> Manifest:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/part-of": "ml-assets"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.namespace, "labels": labels}}


def _service_account(settings: Settings) -> Manifest:
    """GKE's workload identity gives out tokens by its metadata server, so no token is mounted."""
    account = settings.service_account
    annotations = {"annotations": {"iam.gke.io/gcp-service-account": account}} if account else {}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": annotations,
        "automountServiceAccountToken": False,
    }


def _deployment(release: Release, settings: Settings, name: str, labels: Mapping[str, str]) -> Manifest:
    """No `replicas`: they are the autoscaler's, and applying this again must not reset them."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "revisionHistoryLimit": 5,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": _origin(release)},
                "spec": _pod(release, settings, name, labels),
            },
        },
    }


def _origin(release: Release) -> dict[str, str]:
    told = {"version": release.version, "bundle-digest": release.digest, "data-hash": release.data_hash}
    return {f"ml-assets/{key}": value for key, value in told.items() if value}


def _pod(release: Release, settings: Settings, name: str, labels: Mapping[str, str]) -> Manifest:
    spread = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": labels}}
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30 + DRAIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {**spread, "topologyKey": key} for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "containers": [{**_container(settings), **(_serve if settings.secret else _bundle)(release, settings)}],
        "volumes": [
            *({"name": name, "emptyDir": {"sizeLimit": "1Gi"}} for name in ("tmp", "data")),
            *_shared({"name": SHARED, "persistentVolumeClaim": {"claimName": settings.shared}}, settings),
        ],
    }


def _container(settings: Settings) -> Manifest:
    """Requests equal limits, so that the pod is the last to be evicted."""
    amount = {"cpu": settings.cpu, "memory": settings.memory}
    return {
        "name": "model",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",  # a digest means one image for ever
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"requests": amount, "limits": amount},
        "startupProbe": _probe("/health", periodSeconds=2, failureThreshold=60),
        "livenessProbe": _probe("/health", periodSeconds=10, failureThreshold=3),
        "readinessProbe": _probe("/ready", periodSeconds=5, failureThreshold=2),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "data", "mountPath": f"{HOME}/data"},
            *_shared({"name": SHARED, "mountPath": f"{HOME}/{SHARED}", "readOnly": True}, settings),
        ],
    }


def _shared(part: Manifest, settings: Settings) -> list[Manifest]:
    """Of the bundles that the registry names: an image of a bundle has its own."""
    return [part] if settings.secret and settings.shared else []


def _bundle(release: Release, _: Settings) -> Manifest:
    """The digest is the registry's, so an image of another bundle does not start, and the rollout ends with the old pods."""
    return {"env": [{"name": DIGEST_VARIABLE, "value": release.digest}]}


def _serve(release: Release, settings: Settings) -> Manifest:
    """The keys are named one by one nowhere: what the Secret holds is the environment."""
    command = [OWN_COMMAND, "serve", release.problem, "--host=0.0.0.0", f"--port={PORT}"]
    return {"args": command, "envFrom": [{"secretRef": {"name": settings.secret}}]}


def _probe(path: str, **times: int) -> Manifest:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2, **times}


def _service(settings: Settings, labels: Mapping[str, str]) -> Manifest:
    ports = [{"name": "http", "port": settings.port, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {"type": "ClusterIP", "selector": labels, "ports": ports},
    }


def _autoscaler(settings: Settings, name: str) -> Manifest:
    """Up at once, down slowly: a model that is asked for again in a minute need not start again."""
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": settings.replicas,
            "maxReplicas": settings.most_replicas,
            "metrics": [{"type": "Resource", "resource": cpu}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    }


def _disruption_budget(labels: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }


def _network_policy(settings: Settings, labels: Mapping[str, str]) -> Manifest:
    """Nothing but the port in, nothing but DNS out, and what `_outside` says."""
    ingress: Manifest = {"ports": [{"protocol": "TCP", "port": PORT}]}
    if settings.clients:
        callers = [settings.clients, *(["gmp-system"] if settings.monitoring else [])]
        ingress["from"] = [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": one}}} for one in callers
        ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [ingress],
            "egress": [_dns(), *_outside(settings)],
        },
    }


def _dns() -> Manifest:
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return {"to": [DNS, NODE_DNS], "ports": ports}


def _outside(settings: Settings) -> list[Manifest]:
    """A bundle asks nobody. `ml-assets serve` asks its stores, and Google's metadata server when it acts as an account."""
    wanted: list[tuple[Manifest, int]] = [({}, port) for port in (STORES if settings.secret else ())]
    tokens = [({"to": [{"ipBlock": {"cidr": cidr}}]}, port) for cidr, port in METADATA if settings.service_account]
    return [{**to, "ports": [{"protocol": "TCP", "port": port}]} for to, port in (*wanted, *tokens)]


def _pod_monitoring(labels: Mapping[str, str]) -> Manifest:
    """Of Google Managed Prometheus: a custom resource, which the API's own schemas do not know."""
    return {
        "apiVersion": "monitoring.googleapis.com/v1",
        "kind": "PodMonitoring",
        "spec": {
            "selector": {"matchLabels": labels},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "30s"}],
        },
    }
