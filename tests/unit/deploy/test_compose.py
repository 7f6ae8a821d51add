"""Guarantees of docker-compose.yml and of the proxy's configuration."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from deploy.compose_secrets import main
from deploy.local.places import ROOT
from deploy.local.secrets_file import load_secrets
from deploy.secret_names import SECRETS
from services.approval.settings import read_settings as read_approval
from services.gateway.settings import GATEWAY_CONNECTION_LIMIT as CONNECTION_LIMIT
from services.gateway.settings import GATEWAY_MEMORY_LIMIT_MB as MEMORY_LIMIT
from services.gateway.settings import read_settings as read_gateway
from tools.support.yaml_file import load_yaml

COMPOSE = load_yaml(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GATEWAYS = [name for name in SERVICES if name.startswith("gateway")]
APPROVALS = [name for name in SERVICES if name.startswith("approval")]
HAPROXY = (ROOT / "deploy/proxy/haproxy.cfg").read_text()
OPTIONAL = {"openclaw": "openclaw", "caddy": "tls", "prometheus": "monitoring"} | {
    "grafana": "monitoring"
}
"""Services that start with a profile only."""
CLOSING_SECONDS = 10
"""The time for closing connections and answering pending requests after the drain."""
APPROVAL_CONNECTIONS = 1024
SPARE_DESCRIPTORS = 500
CONNECTION_KB = 20
"""Memory of an idle connection in a gateway."""
PROCESS_MB = 100
"""Memory of a gateway without connections."""


def section(name: str) -> list[str]:
    """Return the lines of a section of the proxy's configuration, without comments."""
    text = re.split(r"(?m)^(?=\S)", HAPROXY)
    (found,) = [part for part in text if part.startswith(f"{name}\n")]
    return [line.strip() for line in found.splitlines()[1:] if line.strip()]


def default_of(value: str) -> str:
    """Return the default in `${NAME:-default}`."""
    found = re.fullmatch(r"\$\{\w+:-(.*)\}", value)
    assert found is not None
    return str(found[1])


def dockerfile(name: str) -> str:
    """Return the Dockerfile of a service's image."""
    image = SERVICES[name]["image"]
    (build,) = (
        one["build"] for one in SERVICES.values() if one["image"] == image and "build" in one
    )
    return (ROOT / str(build["dockerfile"])).read_text()


def settings_of(service: str) -> dict[str, str]:
    """Return a service's environment when only the secrets are set."""
    given = SERVICES[service]["environment"]
    values = {name: re.sub(r"\$\{\w+:\?[^}]*\}", "s" * 32, value) for name, value in given.items()}
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in values.items()}


def test_the_file_has_the_expected_services() -> None:
    assert len(GATEWAYS) == 3
    assert len(APPROVALS) == 2
    assert set(SERVICES) == {*GATEWAYS, *APPROVALS, "redis", "proxy", *OPTIONAL}


def test_each_image_is_built_by_one_service() -> None:
    """Several builds of one name race under the containerd image store, and one of them fails."""
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    assert len(built) == len(set(built))
    used = {service["image"] for name, service in SERVICES.items() if name != "openclaw"}
    assert used == set(built)


def test_the_dockerfiles_take_every_build_argument_that_is_passed() -> None:
    for service in SERVICES.values():
        if "build" in service:
            text = (ROOT / service["build"]["dockerfile"]).read_text()
            declared = re.findall(r"(?m)^ARG (\w+)", text)
            assert set(service["build"]["args"]) & set(declared)
            images = {name for name in declared if name.endswith("_IMAGE")}
            assert images <= set(service["build"]["args"])


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_takes_its_settings(name: str) -> None:
    settings = read_gateway(settings_of(name))
    assert settings.warnings == ()
    assert settings.common.trusted_proxies
    assert SERVICES[name]["command"] == ["python", "-m", "services.gateway"]


@pytest.mark.parametrize("name", APPROVALS)
def test_an_approval_takes_its_settings(name: str) -> None:
    settings = read_approval(settings_of(name))
    assert settings.warnings == ()
    assert settings.common.trusted_proxies
    assert SERVICES[name]["command"] == ["python", "-m", "services.approval"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_has_a_default_and_each_names_the_command_that_makes_it(name: str) -> None:
    text = str(SERVICES[name].get("environment", {}))
    for secret, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text):
        if secret in SECRETS:
            assert rest == ":?is not set, run: make secrets"
        else:
            # Optional secrets are empty by default.
            assert rest == ":-" or not re.search("SECRET|TOKEN", secret)
            assert rest.startswith(":-")


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_runs_as_root_or_writes_outside_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["user"].split(":")[0] not in {"root", "0"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_limited_and_its_log_rotates(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert service["logging"]["driver"] == "json-file"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_of_the_checkout_is_mounted(name: str) -> None:
    """It would need to be readable by the container's user, and on the engine's machine."""
    volumes = {volume.split(":")[0] for volume in SERVICES[name].get("volumes", [])}
    assert volumes <= set(COMPOSE["volumes"])
    assert "configs" not in SERVICES[name]


def test_descriptors_suffice_for_the_connections() -> None:
    unlimited = {name for name, service in SERVICES.items() if "ulimits" not in service}
    # These three take as many as their settings, or their clients, need.
    assert unlimited == {*GATEWAYS, "proxy", "caddy"}
    for name in APPROVALS:
        assert SERVICES[name]["ulimits"]["nofile"] > APPROVAL_CONNECTIONS + SPARE_DESCRIPTORS
    connections = len(GATEWAYS) * CONNECTION_LIMIT.default + len(APPROVALS) * APPROVAL_CONNECTIONS
    limit = int(default_of(SERVICES["proxy"]["environment"]["DESCRIPTOR_LIMIT"]))
    assert limit > 2 * connections + SPARE_DESCRIPTORS
    assert 'fd-hard-limit "${DESCRIPTOR_LIMIT}"' in section("global")
    assert not any(line.startswith("maxconn") for line in section("global"))


def test_memory_suffices_for_what_the_settings_allow() -> None:
    megabytes = default_of(SERVICES["redis"]["mem_limit"]).removesuffix("m")
    maxmemory = default_of(SERVICES["redis"]["command"][1]).removesuffix("mb")
    assert SERVICES["redis"]["command"][0] == "--maxmemory"
    assert int(megabytes) > 2 * int(maxmemory)
    assert default_of(SERVICES["gateway-1"]["mem_limit"]) == "1g"
    held = 2 * MEMORY_LIMIT.default
    connections = CONNECTION_LIMIT.default * CONNECTION_KB / 1024
    assert held + connections + PROCESS_MB < 1024


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_restarted_and_checked(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert "test" in check or "HEALTHCHECK" in dockerfile(name)
    assert check["start_interval"] == "1s"
    # Each check starts a process, and HAProxy makes checks of its own.
    assert int(check["interval"].removesuffix("s")) >= 20


@pytest.mark.parametrize("name", [*GATEWAYS, *APPROVALS, "proxy"])
def test_the_grace_is_longer_than_the_drain(name: str) -> None:
    drain = int(SERVICES["gateway-1"]["environment"]["DRAIN_SECONDS"])
    grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace >= drain + CLOSING_SECONDS


@pytest.mark.parametrize("name", [*GATEWAYS, *APPROVALS])
def test_the_service_is_process_1_and_receives_the_signal(name: str) -> None:
    assert isinstance(SERVICES[name]["command"], list)
    assert not {"init", "entrypoint", "stop_signal"} & set(SERVICES[name])


def test_only_the_proxy_is_reached_and_only_from_this_machine() -> None:
    always = [name for name in SERVICES if "ports" in SERVICES[name] and name not in OPTIONAL]
    assert always == ["proxy"]
    ports = SERVICES["proxy"]["ports"]
    assert all(port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:") for port in ports)
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
    assert SERVICES["redis"]["networks"] == ["back"]
    assert COMPOSE["networks"]["back"]["internal"] is True


def test_openclaw_is_optional_and_reached_by_gateways_alone() -> None:
    assert SERVICES["openclaw"]["profiles"] == ["openclaw"]
    assert SERVICES["openclaw"]["networks"] == ["upstream"]
    others = {name for name, one in SERVICES.items() if "upstream" in one.get("networks", [])} - {
        "openclaw"
    }
    assert others == set(GATEWAYS)


def test_profiles() -> None:
    found = {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one}
    assert found == {name: [profile] for name, profile in OPTIONAL.items()}


def test_the_proxys_address_is_the_only_one_that_is_trusted() -> None:
    address = SERVICES["proxy"]["networks"]["front"]["ipv4_address"]
    for name in (*GATEWAYS, *APPROVALS):
        assert SERVICES[name]["environment"]["TRUSTED_PROXIES"] == address


def test_the_proxy_believes_caddy_alone() -> None:
    address = SERVICES["caddy"]["networks"]["front"]["ipv4_address"]
    assert default_of(SERVICES["proxy"]["environment"]["FRONT_PROXIES"]) == address
    # No other container gets that address.
    (pool,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    assert ip_address(address) not in ip_network(pool["ip_range"])


BACKENDS = ["gateways", "unready-gateways", "approvals", "unready-approvals"]


class TestProxy:
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_each_connection_goes_to_a_random_replica(self, backend: str) -> None:
        lines = section(f"backend {backend}")
        assert "balance random(1)" in lines
        assert not re.search(r"\b(stick|stick-table|cookie|source|hash-type)\b", " ".join(lines))

    def test_the_proxy_knows_every_replica(self) -> None:
        given = SERVICES["proxy"]["environment"]
        named = set(re.findall(r'"\$\{(\w+)(?:\[\*\])?\}"', HAPROXY))
        assert named == set(given)
        targets = {given[name].split(":")[0] for name in given if re.search(r"_\d$", name)}
        assert targets == {*GATEWAYS, *APPROVALS}

    def test_it_sets_what_railways_edge_sets(self) -> None:
        lines = section("frontend edge")
        for header in (
            *("X-Real-IP", "X-Forwarded-Proto", "X-Forwarded-Host"),
            *("X-Request-Start", "X-Railway-Request-Id", "X-Railway-Edge"),
        ):
            assert any(line.startswith(f"http-request set-header {header} ") for line in lines)
        assert "http-request del-header X-Forwarded-For" in lines

    def test_it_sends_nobody_to_a_replica_that_is_not_ready_while_one_is(self) -> None:
        lines = section("defaults")
        assert section("frontend edge")[-4:] == [
            "use_backend unready-approvals if { so_name -m str approvals } { nbsrv(approvals) eq 0 }",
            "use_backend approvals if { so_name -m str approvals }",
            "use_backend unready-gateways if { nbsrv(gateways) eq 0 }",
            "default_backend gateways",
        ]
        for backend in BACKENDS:
            servers = [line for line in section(f"backend {backend}") if line.startswith("server")]
            unchecked = [line for line in servers if line.endswith("no-check")]
            assert unchecked == (servers if backend.startswith("unready") else [])
        assert "option httpchk GET /readyz" in lines
        assert any(line.startswith("default-server check ") for line in lines)


class TestSecrets:
    def test_every_one_that_is_asked_for_is_made_once(self, tmp_path: Any) -> None:
        file = tmp_path / ".env"
        assert main(file) == 0
        made = load_secrets(file, {}, ())
        text = file.read_text()
        asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
        assert asked == set(SECRETS)
        assert made == {}
        assert all(re.search(rf"(?m)^{name}=\w{{64}}$", text) for name in asked)
        assert file.stat().st_mode & 0o777 == 0o600
        assert main(file) == 0
        assert file.read_text() == text

    def test_a_broken_file_is_reported(
        self, tmp_path: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / ".env"
        file.write_text("no equals sign\n")
        assert main(file) == 1
        assert "line 1" in capsys.readouterr().err
