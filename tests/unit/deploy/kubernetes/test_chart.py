"""The Helm chart, rendered by Helm and checked against the schemas of Kubernetes."""

from __future__ import annotations

import json
import re
from itertools import groupby
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import yaml  # type: ignore[import-untyped]

from deploy.local.places import ROOT
from deploy.secret_names import PASSWORDS
from services.approval import settings as approval
from services.gateway import settings as gateway
from shared.settings.declarations import Number, Secret
from tools.kubernetes.chart import (
    CHART,
    LEFT_OUT,
    SCHEMA,
    SET_BY_THE_CHART,
    HelmFailed,
    free_settings,
    is_secret,
    lint,
    optional_secrets,
    render,
    schema_text,
)
from tools.kubernetes.fetch import VERSIONS, KubernetesTools, kubernetes_tools
from tools.support.yaml_file import load_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

# The first test fetches Helm and the schemas, 60 MB.
pytestmark = pytest.mark.timeout(240)

Object = dict[str, Any]

SERVICES = {"gateway": gateway, "approval": approval}
LEAST: Object = {"image": {"registry": "ghcr.io/me/latchkey"}}
MOST: Object = LEAST | {
    "gatewayPublicUrl": "https://gateway.example.com",
    "approvalPublicUrl": "https://approval.example.com",
    "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
    "gateway": {
        "drainSeconds": 45,
        "autoscaling": {"enabled": True, "connections": 10_000},
        "settings": {
            "GATEWAY_CONNECTION_LIMIT": 30_000,
            "LOG_LEVEL": "debug",
            "GATEWAY_ALLOWED_ORIGINS": "https://gateway.example.com",
        },
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "podAnnotations": {"a": "b"},
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    },
    "approval": {
        "settings": {"PENDING_LIMIT": 5},
        "optionalSecrets": ["WEBHOOK_TARGETS", "WEBHOOK_SECRETS"],
    },
    "upstream": {"url": "ws://openclaw:18789", "podSelector": {"app": "openclaw"}},
    "redis": {"storageClass": "fast"},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "controller": "nginx",
        "gatewayHost": "gateway.example.com",
        "approvalHost": "approval.example.com",
        "tlsSecret": "tls",
    },
    "networkPolicy": {
        "from": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "approvalEgress": [{"ports": [{"port": 8443}]}],
    },
    "monitoring": {"serviceMonitor": True, "prometheusRule": True, "labels": {"release": "p"}},
    "secret": {"create": True, "values": {"BUS_SECRET": "x" * 32}},
}
OWN_REDIS: Object = LEAST | {"redis": {"enabled": False}}
ALL_VALUES = {"least": LEAST, "most": MOST, "own redis": OWN_REDIS}
EXAMPLES = {
    "REDIS_URL": "redis://u:p@h:6379/0",
    "WEBHOOK_TARGETS": "json+https://hooks.example/path",
    "WEBHOOK_SECRETS": "whsec_" + "c2Vj" * 10,
}
CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, which Kubernetes has no schemas for."""
CLOSING_SECONDS = 10


@pytest.fixture(scope="module")
def tools() -> KubernetesTools:
    return kubernetes_tools()


@pytest.fixture(scope="module")
def rendered(tools: KubernetesTools) -> Mapping[str, list[Object]]:
    return {name: render(tools.helm, values) for name, values in ALL_VALUES.items()}


def find(objects: list[Object], kind: str, end: str = "") -> Object:
    """Return the only object of a kind whose name ends so."""
    (found,) = (
        one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(end)
    )
    return found


def pod(objects: list[Object], service: str) -> Object:
    kind = "StatefulSet" if service == "redis" else "Deployment"
    spec: Object = find(objects, kind, f"-{service}")["spec"]["template"]["spec"]
    return spec


def environment(objects: list[Object], service: str) -> dict[str, Any]:
    (container,) = pod(objects, service)["containers"]
    names = [one["name"] for one in container["env"]]
    assert len(names) == len(set(names))
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


class TestSchemas:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("values", ALL_VALUES)
    def test_every_object_is_valid(
        self,
        tools: KubernetesTools,
        rendered: Mapping[str, list[Object]],
        version: str,
        values: str,
    ) -> None:
        validate = Validator(tools, version)
        for one in rendered[values]:
            if one["kind"] not in CUSTOM_KINDS:
                assert validate.problems(one) == []

    def test_a_misspelt_field_is_found(
        self, tools: KubernetesTools, rendered: Mapping[str, list[Object]]
    ) -> None:
        broken = json.loads(json.dumps(find(rendered["least"], "Deployment", "-gateway")))
        broken["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
        broken["spec"]["replicas"] = "three"
        assert len(Validator(tools, VERSIONS[-1]).problems(broken)) == 2

    def test_every_kind_is_rendered(self, rendered: Mapping[str, list[Object]]) -> None:
        assert {one["kind"] for one in rendered["most"]} == CUSTOM_KINDS | {
            *("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "Ingress"),
            *("HorizontalPodAutoscaler", "NetworkPolicy", "Secret"),
        }

    @pytest.mark.parametrize("values", ALL_VALUES)
    def test_no_two_objects_have_one_name(
        self, rendered: Mapping[str, list[Object]], values: str
    ) -> None:
        names = sorted((one["kind"], one["metadata"]["name"]) for one in rendered[values])
        assert [key for key, found in groupby(names) if len(list(found)) > 1] == []

    @pytest.mark.parametrize("values", ALL_VALUES)
    def test_lint(self, tools: KubernetesTools, values: str) -> None:
        assert "0 chart(s) failed" in lint(tools.helm, ALL_VALUES[values])


class Validator:
    """Checks objects against the schemas of one release of Kubernetes."""

    def __init__(self, tools: KubernetesTools, version: str) -> None:
        text = tools.schemas[version].read_text()
        self._schema = json.loads(re.sub(r'"\$ref": "[^"#]*#', '"$ref": "#', text))
        self._schema.pop("$id", None)
        self._names = {
            (kind["group"], kind["version"], kind["kind"]): name
            for name, definition in self._definitions.items()
            for kind in definition.get("x-kubernetes-group-version-kind", ())
        }

    @property
    def _definitions(self) -> Object:
        found: Object = self._schema.get("$defs") or self._schema["definitions"]
        return found

    def problems(self, one: Object) -> list[str]:
        """Return what is wrong with an object."""
        group, _, version = one["apiVersion"].rpartition("/")
        name = self._names[group, version, one["kind"]]
        where = "$defs" if "$defs" in self._schema else "definitions"
        schema = {**self._schema, "$ref": f"#/{where}/{name}"}
        found = jsonschema_rs.validator_for(schema).iter_errors(one)
        return [f"{one['kind']} {error.instance_path}: {error.message}" for error in found]


class TestSettings:
    @pytest.mark.parametrize("service", SERVICES)
    @pytest.mark.parametrize("values", ALL_VALUES)
    def test_the_service_accepts_what_the_chart_sets(
        self, rendered: Mapping[str, list[Object]], service: str, values: str, tmp_path: Any
    ) -> None:
        found = environment(rendered[values], service)
        for name, value in found.items():
            if name.endswith("_FILE"):
                file = tmp_path / name
                file.write_text(EXAMPLES.get(name.removesuffix("_FILE"), "s" * 32))
                assert value.startswith("/run/secrets/latchkey/")
                found[name] = str(file)
        password = f"REDIS_{service.upper()}_PASSWORD"
        if password in found:
            found["REDIS_URL"] = found["REDIS_URL"].replace(
                f"$({password})", found.pop(password)["secretKeyRef"]["key"]
            )
            assert found["REDIS_URL"] == f"redis://{service}:{password}@latchkey-redis:6379/0"
        settings = SERVICES[service].read_settings(found)
        assert settings.warnings == ()

    @pytest.mark.parametrize("service", SERVICES)
    def test_each_setting_can_be_given(self, tools: KubernetesTools, service: str) -> None:
        free = free_settings(service)
        values = {one.name: one.shown_default.strip("`") for one in free}
        given = {
            one.name: float(values[one.name]) if isinstance(one, Number) else values[one.name]
            for one in free
        }
        found = environment(render(tools.helm, LEAST | {service: {"settings": given}}), service)
        assert set(given) <= set(found)
        declared = {one.name for one in SERVICES[service].ALL}
        secret = {one.name for one in SERVICES[service].ALL if is_secret(one)} - {"REDIS_URL"}
        assert declared == set(given) | secret | SET_BY_THE_CHART[service] | (
            declared & set(LEFT_OUT)
        )
        with_upstream = environment(render(tools.helm, MOST), service)
        missing = secret - {name.removesuffix("_FILE") for name in with_upstream}
        assert missing == set(), (
            "tools/kubernetes/chart.py and latchkey.secretKeys list the secrets"
        )

    def test_the_schema_of_the_values_is_what_the_code_declares(self) -> None:
        assert SCHEMA.read_text() == schema_text(), "run make docs"

    @pytest.mark.parametrize(
        ("service", "settings", "problem"),
        [
            ("gateway", {"GATEWAY_CONECTION_LIMIT": 5}, "GATEWAY_CONECTION_LIMIT"),
            ("gateway", {"BEAT_SECONDS": 61}, "BEAT_SECONDS"),
            ("gateway", {"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
            ("approval", {"PENDING_LIMIT": 0}, "PENDING_LIMIT"),
            ("approval", {"BUS_SECRET": "s" * 32}, "BUS_SECRET"),
            ("gateway", {"PORT": 1}, "PORT"),
        ],
    )
    def test_a_wrong_setting_is_refused_before_anything_is_installed(
        self, tools: KubernetesTools, service: str, settings: Object, problem: str
    ) -> None:
        with pytest.raises(HelmFailed, match=problem):
            render(tools.helm, LEAST | {service: {"settings": settings}})

    def test_the_registry_is_required(self, tools: KubernetesTools) -> None:
        with pytest.raises(HelmFailed, match=r"image\.registry is required"):
            render(tools.helm, {})

    def test_an_ingress_needs_trusted_proxies(self, tools: KubernetesTools) -> None:
        values = LEAST | {"ingress": {"enabled": True, "gatewayHost": "g.example.com"}}
        with pytest.raises(HelmFailed, match="trustedProxies is required"):
            render(tools.helm, values)


class TestPods:
    @pytest.mark.parametrize("values", ALL_VALUES)
    def test_no_pod_is_root_or_writes_to_its_image(
        self, rendered: Mapping[str, list[Object]], values: str
    ) -> None:
        kinds = ("gateway", "approval", *(() if values == "own redis" else ("redis",)))
        for spec in (pod(rendered[values], kind) for kind in kinds):
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert spec["automountServiceAccountToken"] is False
            (container,) = spec["containers"]
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]

    @pytest.mark.parametrize(("values", "drain"), [("least", 20), ("most", 45)])
    def test_the_grace_period_covers_pre_stop_and_drain(
        self, rendered: Mapping[str, list[Object]], values: str, drain: int
    ) -> None:
        assert environment(rendered[values], "gateway")["DRAIN_SECONDS"] == str(drain)
        for service, seconds in (("gateway", drain), ("approval", 9)):
            spec = pod(rendered[values], service)
            (container,) = spec["containers"]
            (word, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
            assert word == "sleep"
            grace = spec["terminationGracePeriodSeconds"]
            assert grace >= int(pause) + seconds + CLOSING_SECONDS

    @pytest.mark.parametrize("service", SERVICES)
    def test_probes_ask_the_ops_port(
        self, rendered: Mapping[str, list[Object]], service: str
    ) -> None:
        (container,) = pod(rendered["least"], service)["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "ops"}
        assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "ops"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        found = environment(rendered["least"], service)
        assert ports == {service: int(found["PORT"]), "ops": int(found["OPS_PORT"])}
        assert container["command"] == ["python", "-m", f"services.{service}"]

    def test_each_service_gets_its_own_secrets_only(
        self, rendered: Mapping[str, list[Object]]
    ) -> None:
        for values, objects in rendered.items():
            for service, module in SERVICES.items():
                (volume,) = pod(objects, service)["volumes"]
                keys = {item["key"] for item in volume["secret"]["items"]}
                declared = {one.name for one in module.ALL if isinstance(one, Secret)}
                if values == "most":
                    declared |= set(optional_secrets(service))
                if values == "own redis":
                    declared |= {f"{service.upper()}_REDIS_URL"}
                assert keys == declared - ({"UPSTREAM_SECRET"} if values != "most" else set())

    def test_redis_runs_our_image_with_its_files(
        self, rendered: Mapping[str, list[Object]]
    ) -> None:
        found = environment(rendered["least"], "redis")
        assert set(found) == {f"{name}_FILE" for name in PASSWORDS}
        spec = pod(rendered["least"], "redis")
        assert spec["containers"][0]["args"] == ["--maxmemory", "512mb"]
        assert not any(one["kind"] == "StatefulSet" for one in rendered["own redis"])
        (container,) = pod(rendered["least"], "redis")["containers"]
        assert container["image"].startswith("ghcr.io/me/latchkey/latchkey-redis:")

    def test_rolling_updates_and_disruptions_leave_replicas(
        self, rendered: Mapping[str, list[Object]]
    ) -> None:
        for service in SERVICES:
            deployment = find(rendered["least"], "Deployment", f"-{service}")["spec"]
            assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
            assert deployment["replicas"] > 1
            budget = find(rendered["least"], "PodDisruptionBudget", f"-{service}")["spec"]
            assert budget["maxUnavailable"] == 1
            assert budget["selector"] == deployment["selector"]


class TestNetwork:
    def test_only_gateways_and_approvals_reach_redis(
        self, rendered: Mapping[str, list[Object]]
    ) -> None:
        policy = find(rendered["most"], "NetworkPolicy", "-redis")["spec"]
        (rule,) = policy["ingress"]
        components = [
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for peer in rule["from"]
        ]
        assert components == ["gateway", "approval"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert "egress" not in policy

    def test_only_gateways_reach_the_upstream(self, rendered: Mapping[str, list[Object]]) -> None:
        policy = find(rendered["most"], "NetworkPolicy", "-upstream")["spec"]
        assert policy["podSelector"]["matchLabels"] == {"app": "openclaw"}
        ((peer,),) = (rule["from"] for rule in policy["ingress"])
        assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
        outward = {
            service: json.dumps(
                find(rendered["most"], "NetworkPolicy", f"-{service}")["spec"]["egress"]
            )
            for service in SERVICES
        }
        assert "openclaw" in outward["gateway"]
        assert "openclaw" not in outward["approval"]
        assert '{"port": 443}' in outward["approval"], "for notifications"
        assert '{"port": 8443}' in outward["approval"]

    def test_metrics_are_for_those_who_are_named(
        self, rendered: Mapping[str, list[Object]]
    ) -> None:
        for values, ports in (("least", {"gateway"}), ("most", {"gateway", "ops"})):
            rules = find(rendered[values], "NetworkPolicy", "-gateway")["spec"]["ingress"]
            assert {port["port"] for rule in rules for port in rule["ports"]} == ports
            assert all(rule.get("from") for rule in rules if rule["ports"][0]["port"] == "ops")

    def test_clients_do_not_reach_the_ops_port(self, rendered: Mapping[str, list[Object]]) -> None:
        for service in SERVICES:
            ports = find(rendered["most"], "Service", f"-{service}")["spec"]["ports"]
            assert [port["targetPort"] for port in ports] == [service]

    def test_selectors_find_the_pods(self, rendered: Mapping[str, list[Object]]) -> None:
        for service in (*SERVICES, "redis"):
            kind = "StatefulSet" if service == "redis" else "Deployment"
            labels = find(rendered["most"], kind, f"-{service}")["spec"]["template"]["metadata"][
                "labels"
            ]
            for selecting in ("Service", "NetworkPolicy"):
                spec = find(rendered["most"], selecting, f"-{service}")["spec"]
                selector = spec.get("selector") or spec["podSelector"]["matchLabels"]
                assert selector.items() <= labels.items()

    @pytest.mark.parametrize(
        ("controller", "annotation"),
        [
            ("nginx", "nginx.ingress.kubernetes.io/proxy-read-timeout"),
            ("haproxy", "haproxy.org/timeout-tunnel"),
        ],
    )
    def test_an_ingress_keeps_websockets_open(
        self, tools: KubernetesTools, controller: str, annotation: str
    ) -> None:
        ingress = MOST["ingress"] | {"controller": controller, "annotations": {"a": "b"}}
        objects = render(tools.helm, MOST | {"ingress": ingress})
        for service in SERVICES:
            found = find(objects, "Ingress", f"-{service}")
            assert found["metadata"]["annotations"][annotation] in {"3600", "1h"}
            assert found["metadata"]["annotations"]["a"] == "b"
            backend = found["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
            assert backend == {"name": f"latchkey-{service}", "port": {"name": "http"}}


class TestMonitoring:
    def test_the_alerts_are_those_of_deploy_prometheus(
        self, rendered: Mapping[str, list[Object]]
    ) -> None:
        rule = find(rendered["most"], "PrometheusRule")
        assert rule["spec"] == load_yaml(ROOT / "deploy/prometheus/alerts.yml")
        assert rule["metadata"]["labels"]["release"] == "p"

    def test_the_monitors_scrape_the_jobs_of_the_alerts(
        self, rendered: Mapping[str, list[Object]]
    ) -> None:
        for service in SERVICES:
            monitor = find(rendered["most"], "ServiceMonitor", f"-{service}")["spec"]
            (endpoint,) = monitor["endpoints"]
            job = {"targetLabel": "job", "replacement": f"latchkey-{service}"}
            assert endpoint["relabelings"] == [job]
            scraped = find(rendered["most"], "Service", f"-{service}-ops")
            selector = monitor["selector"]["matchLabels"]
            assert selector.items() <= scraped["metadata"]["labels"].items()
            assert endpoint["port"] == scraped["spec"]["ports"][0]["name"]

    def test_autoscaling_by_cpu_and_connections(self, rendered: Mapping[str, list[Object]]) -> None:
        scaler = find(rendered["most"], "HorizontalPodAutoscaler")["spec"]
        cpu, connections = scaler["metrics"]
        assert cpu["resource"]["name"] == "cpu"
        assert connections["pods"]["metric"]["name"] == "latchkey_gateway_connections"
        assert connections["pods"]["target"]["averageValue"] == "10000"
        assert "replicas" not in find(rendered["most"], "Deployment", "-gateway")["spec"]
        assert not any(one["kind"] == "HorizontalPodAutoscaler" for one in rendered["least"])


def test_the_values_on_the_page_are_accepted(tools: KubernetesTools) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    least, own_redis = (
        yaml.safe_load(dedent(block)) for block in re.findall(r"(?s)```yaml\n(.*?)```", page)
    )
    whole = render(tools.helm, least)
    assert environment(whole, "gateway")["TRUSTED_PROXIES"] == "10.0.0.0/8"
    assert find(whole, "Ingress", "-gateway")["spec"]["tls"]
    found = render(tools.helm, least | own_redis)
    for service in SERVICES:
        egress = find(found, "NetworkPolicy", f"-{service}")["spec"]["egress"]
        assert egress[-1]["ports"] == [{"port": 6379}]
        assert "REDIS_URL_FILE" in environment(found, service)


def test_a_release_of_another_name_has_objects_of_that_name(tools: KubernetesTools) -> None:
    names = {one["metadata"]["name"] for one in render(tools.helm, LEAST, name="prod")}
    assert all(name.startswith("prod-latchkey-") for name in names)


def test_the_version_is_that_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    chart = load_yaml(CHART / "Chart.yaml")
    version = re.findall(r'(?m)^version = "(.+)"', project)[0]
    assert chart["version"] == chart["appVersion"] == version
