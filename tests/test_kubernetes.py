"""`docker/kubernetes`: what the overlays come to is valid, fits together, is confined, and has settings that work.

No cluster is asked: the schemas are those of Kubernetes' releases, from a package.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from openapi_schema_validator import OAS31Validator

from service.api.ops import OpsApi
from tests.kustomize import BUILDERS, Resource
from tests.test_cli import ENVIRONMENT, run
from tests.test_prometheus import ADAPTER, KUBERNETES
from tests.test_readme import block

OVERLAYS = {
    f"{overlay} by {name}": build(KUBERNETES / overlay)
    for overlay in ("sidecar", "deployment")
    for name, build in BUILDERS.items()
}
"""What each overlay comes to: by our stand-in for kustomize, and by the real one where that is installed."""
OLDEST = "1.29"
"""The first with sidecar containers without switching them on."""
SERVICE_MONITOR = json.loads((Path(__file__).parent / "data/kubernetes/servicemonitor.json").read_text())
FILES = {
    "redis-url": "redis://redis:6379/0",
    "key": ENVIRONMENT["VERIFYD_KEY"],
    "shop-api-key-hash": ENVIRONMENT["SHOP_API_KEY_HASH"],
    "gateway-secret": ENVIRONMENT["GATEWAY_SECRET"],
}
"""The keys of the Secret."""

overlays = pytest.mark.parametrize("overlay", OVERLAYS)
sidecars = pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name.startswith("sidecar")])
deployments = pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name.startswith("deployment")])


def found(overlay: str, kind: str, name: str | None = None) -> Resource:
    """The one resource of a kind, or of those the one with that name."""
    [one] = [
        one for one in OVERLAYS[overlay] if one["kind"] == kind and (name is None or one["metadata"]["name"] == name)
    ]
    return one


def pod(overlay: str) -> dict[str, Any]:
    """The pod that verifyd runs in: its metadata and its spec."""
    template: dict[str, Any] = found(overlay, "Deployment")["spec"]["template"]
    return template


def containers(overlay: str) -> dict[str, dict[str, Any]]:
    """All containers of that pod."""
    spec = pod(overlay)["spec"]
    return {one["name"]: one for one in [*spec.get("initContainers", ()), *spec["containers"]]}


def ports(overlay: str) -> dict[str, int]:
    """The ports of verifyd's container by name."""
    return {one["name"]: one["containerPort"] for one in containers(overlay)["verifyd"]["ports"]}


def settings(overlay: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """The file and the environment that verifyd gets, with its secrets in a folder."""
    for name, content in FILES.items():
        (folder / name).write_text(content + "\n")
    text = found(overlay, "ConfigMap")["data"]["otp.toml"]
    path = folder / "otp.toml"
    path.write_text(text.replace("file:/run/secrets/verifyd/", f"file:{folder}/"))
    return path, {one["name"]: one["value"] for one in containers(overlay)["verifyd"]["env"]}


@overlays
@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_every_manifest_is_valid(overlay: str, version: str) -> None:
    """To the letter: a field that Kubernetes does not know is an error."""
    for one in OVERLAYS[overlay]:
        if one["kind"] == "ServiceMonitor":
            OAS31Validator(SERVICE_MONITOR).validate(one)
        else:
            kubernetes_validate.validate(one, version, strict=True)


@overlays
def test_the_configuration_passes_the_check(overlay: str, tmp_path: Path) -> None:
    """Of `verifyd check`, with what the Secret holds and the container's environment."""
    path, environment = settings(overlay, tmp_path)
    ended = run("check", path, home=tmp_path, environment=environment)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


@overlays
def test_listeners_are_where_the_ports_say(overlay: str, tmp_path: Path) -> None:
    """In a sidecar callers come over loopback alone; receipts and operations are reached in both."""
    path, environment = settings(overlay, tmp_path)
    server = tomllib.loads(path.read_text())["server"] | {"api": environment["API_ADDRESS"]}
    places = {name: server[name].rpartition(":") for name in ("api", "receipts", "ops")}
    reached = {name: int(port) for name, (host, _, port) in places.items() if host != "127.0.0.1"}
    assert reached == ports(overlay)
    assert (places["api"][0] == "127.0.0.1") == overlay.startswith("sidecar")
    assert ("api" in reached) == overlay.startswith("deployment")


@overlays
def test_the_secret_is_made_as_it_is_read(overlay: str) -> None:
    """The command in the README makes each key that the configuration reads, and it is mounted for verifyd alone."""
    read = re.findall(r'"file:/run/secrets/verifyd/([a-z-]+)"', found(overlay, "ConfigMap")["data"]["otp.toml"])
    made = re.findall(r"--from-literal=([a-z-]+)=", block("kubectl create secret"))
    assert set(made) == set(read) == set(FILES)
    [volume] = [one["name"] for one in pod(overlay)["spec"]["volumes"] if "secret" in one]
    mounted = [name for name, one in containers(overlay).items() if volume in str(one.get("volumeMounts"))]
    assert mounted == ["verifyd"]
    assert "secret" not in str(containers(overlay)["verifyd"]["env"]).lower()


@overlays
def test_verifyd_is_confined(overlay: str) -> None:
    """As the restricted standard for pods asks, and with a root that nothing is written to."""
    one = containers(overlay)["verifyd"]
    context = one["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["runAsUser"] == pod(overlay)["spec"]["securityContext"]["fsGroup"] == 65532
    assert {"requests", "limits"} == set(one["resources"])
    assert not pod(overlay)["spec"]["automountServiceAccountToken"]
    assert all("emptyDir" in v or "configMap" in v or "secret" in v for v in pod(overlay)["spec"]["volumes"])
    for context in (other["securityContext"] for other in containers(overlay).values()):
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@overlays
def test_the_platform_waits_longer_than_verifyd_needs_to_end(overlay: str, tmp_path: Path) -> None:
    """It drains, then it has its grace."""
    server = tomllib.loads(settings(overlay, tmp_path)[0].read_text())["server"]
    drain, grace = (int(server[name].removesuffix("s")) for name in ("drain", "grace"))
    assert drain >= 5
    assert pod(overlay)["spec"]["terminationGracePeriodSeconds"] > drain + grace


@overlays
def test_what_points_at_verifyd_finds_it(overlay: str) -> None:
    """Services by labels and ports, probes by paths, the monitor by the service, policies and budgets by labels."""
    labels, known = pod(overlay)["metadata"]["labels"].items(), ports(overlay)
    for one in (one for one in OVERLAYS[overlay] if one["kind"] == "Service"):
        assert one["spec"]["selector"].items() <= labels
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= known.keys()
    assert found(overlay, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels
    monitor, ops = found(overlay, "ServiceMonitor")["spec"], found(overlay, "Service", "verifyd-ops")
    assert monitor["selector"]["matchLabels"] == ops["metadata"]["labels"]
    assert [one["port"] for one in monitor["endpoints"]] == [one["name"] for one in ops["spec"]["ports"]]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = containers(overlay)["verifyd"][probe]["httpGet"]
        assert asked["port"] == "ops"
        assert hasattr(OpsApi, asked["path"].removeprefix("/"))


@overlays
def test_the_shop_stays_when_redis_is_away(overlay: str) -> None:
    """Readiness depends on Redis where verifyd is a service of its own, and not where it would take the shop along."""
    path = containers(overlay)["verifyd"]["readinessProbe"]["httpGet"]["path"]
    assert path == ("/healthz" if overlay.startswith("sidecar") else "/readyz")


@sidecars
def test_the_sidecar_starts_before_the_shop_and_ends_after(overlay: str) -> None:
    """A native one: an init container that goes on."""
    spec = pod(overlay)["spec"]
    assert [(one["name"], one["restartPolicy"]) for one in spec["initContainers"]] == [("verifyd", "Always")]
    assert [one["name"] for one in spec["containers"]] == ["shop"]
    calls = {one["name"]: one["value"] for one in spec["containers"][0]["env"]}
    assert calls["VERIFYD_URL"] == f"http://{spec['initContainers'][0]['env'][0]['value']}"


@deployments
def test_policies_of_the_deployment_hold_for_its_pods(overlay: str) -> None:
    """The autoscaler, the budget and the network policy; whatever listens is let in from somewhere."""
    labels = pod(overlay)["metadata"]["labels"].items()
    policy, budget = found(overlay, "NetworkPolicy")["spec"], found(overlay, "PodDisruptionBudget")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert budget["selector"]["matchLabels"].items() <= labels
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports(overlay).keys()
    assert all(rule["from"] for rule in policy["ingress"])
    scaled = found(overlay, "HorizontalPodAutoscaler")["spec"]
    deployment = found(overlay, "Deployment")
    assert (scaled["scaleTargetRef"]["kind"], scaled["scaleTargetRef"]["name"]) == ("Deployment", "verifyd")
    assert "replicas" not in deployment["spec"]
    assert scaled["minReplicas"] > budget["maxUnavailable"]


@deployments
def test_the_autoscaler_asks_for_what_the_adapter_makes_of_a_real_metric(overlay: str) -> None:
    """By its name; with the pods and namespaces that the monitor adds. Its query is tested with Prometheus' rules."""
    [metric] = found(overlay, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == ADAPTER["name"]["as"]
    assert ADAPTER["resources"]["overrides"] == {name: {"resource": name} for name in ("namespace", "pod")}


@overlays
def test_the_image_is_what_the_manifests_take_it_for(overlay: str) -> None:
    """Its version, its user, its ports, and where it looks for its configuration."""
    project = tomllib.loads((KUBERNETES.parent.parent / "pyproject.toml").read_text())["project"]
    dockerfile = (KUBERNETES.parent / "Dockerfile").read_text()
    one = containers(overlay)["verifyd"]
    assert one["image"].rpartition(":")[2] == project["version"]
    context = one["securityContext"]
    assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile
    [exposed] = re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE)
    assert {str(port) for port in ports(overlay).values()} <= set(exposed.split())
    [config] = [mount["mountPath"] for mount in one["volumeMounts"] if mount["name"] == "config"]
    assert f'\nCMD ["serve", "{config}/otp.toml"]\n' in dockerfile
    assert found(overlay, "ConfigMap")["data"].keys() == {"otp.toml"}
