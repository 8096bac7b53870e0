"""Dockerfile, docker-compose.yml and what lies in deploy/: what can be known of them without Docker."""

import json
import re
import tomllib
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cli.main import app
from jobs.settings import PREFIX, Settings
from tests.deployment.composition import ROOT, Missing, composition, variables

SECRETS = ("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "GRAFANA_PASSWORD")
ENV = {name: f"secret-{name.lower()}" for name in SECRETS}
OURS = ("migrate", "api", "maintain", "worker-cpu", "worker-gpu")
FILE = composition(ENV)
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_starts_without_a_secret(secret: str) -> None:
    with pytest.raises(Missing, match=secret):
        composition({name: value for name, value in ENV.items() if name != secret})


def test_example_of_the_env_file_names_every_variable_and_holds_no_secret() -> None:
    lines = [line.lstrip("#") for line in (ROOT / ".env.example").read_text().splitlines()]
    pairs = [line.split("=", 1) for line in lines if re.match(r"[A-Z0-9_]+=", line)]
    named = {pair[0]: pair[1] for pair in pairs}
    assert set(named) == set(variables())
    assert [named[name] for name in SECRETS] == [""] * len(SECRETS)
    assert {name for name, kind in variables().items() if kind == ":?"} == set(SECRETS)


@pytest.mark.parametrize("service", FILE.services)
def test_service_has_an_image_that_somebody_keeps_or_that_is_built_here(service: str) -> None:
    described = FILE.services[service]
    if "build" not in described:
        assert re.fullmatch(r"[a-z0-9/.-]+:v?\d[\w.-]*", described["image"]), "pinned to a version"
        return
    assert described["build"]["target"] in STAGES
    assert service in OURS


@pytest.mark.parametrize("service", OURS)
def test_command_is_one_that_the_image_has(service: str) -> None:
    (name,) = FILE.services[service]["command"]
    assert name in get_command(app).commands  # type: ignore[attr-defined]  # a group


@pytest.mark.parametrize("service", OURS)
def test_settings_are_known_and_make_sense(service: str) -> None:
    given = {name: value for name, value in FILE.environment(service).items() if name.startswith(PREFIX)}
    assert {name.removeprefix(PREFIX).lower() for name in given} <= set(Settings.model_fields)
    settings = Settings.from_mapping(given)
    assert settings.database_url == "postgresql+psycopg://scalpel:secret-postgres_password@postgres:5432/scalpel"
    assert settings.broker_url == "redis://:secret-valkey_password@valkey:6379/0"


@pytest.mark.parametrize("service", FILE.services)
def test_what_a_service_names_is_there(service: str) -> None:
    described = FILE.services[service]
    assert set(described.get("depends_on", ())) <= set(FILE.services)
    for volume in described.get("volumes", ()):
        source = volume.partition(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in FILE.content["volumes"]
    for configuration in described.get("configs", ()):
        assert configuration["source"] in FILE.content["configs"]


@pytest.mark.parametrize("service", FILE.services)
def test_ports_are_open_to_this_machine_alone(service: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in FILE.services[service].get("ports", ()))


def test_proxy_that_is_believed_is_one_address_of_a_network_that_stays_as_it_is() -> None:
    """A wider one would let other containers of the host say who a request comes from."""
    (pinned,) = FILE.content["networks"]["default"]["ipam"]["config"]
    assert ip_address(pinned["gateway"]) in ip_network(pinned["subnet"])
    for page in (".env.example", "docs/operations.md"):
        (advised,) = re.findall(r"FORWARDED_ALLOW_IPS=([\d./]+)", (ROOT / page).read_text())
        assert advised == pinned["gateway"]
    assert FILE.environment("api")["FORWARDED_ALLOW_IPS"] == "127.0.0.1", "nobody is believed who was not named"


def test_everything_waits_for_the_schema() -> None:
    for service in set(OURS) - {"migrate"}:
        assert FILE.services[service]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("service", OURS)
def test_service_of_ours_has_no_rights_that_it_does_not_need(service: str) -> None:
    described = FILE.services[service]
    assert (described["read_only"], described["cap_drop"]) == (True, ["ALL"])
    assert "privileged" not in described and "user" not in described


def test_broker_keeps_what_it_was_given() -> None:
    lines = dict(line.split(" ", 1) for line in FILE.content["configs"]["valkey"]["content"].splitlines())
    assert (lines["appendonly"], lines["maxmemory-policy"]) == ("yes", "noeviction")
    assert lines["requirepass"] == ENV["VALKEY_PASSWORD"]


@pytest.mark.parametrize("target", ["api", "worker"])
def test_image_runs_as_an_ordinary_user(target: str) -> None:
    assert re.search(rf"^FROM base AS {target}$", DOCKERFILE, flags=re.MULTILINE)
    users = [
        *re.findall(r"^USER (.+)$", STAGES["base"], re.MULTILINE),
        *re.findall(r"^USER (.+)$", STAGES[target], re.MULTILINE),
    ]
    assert users[-1] == "scalpel"


def test_image_of_the_interface_has_no_torch() -> None:
    assert '".[api]"' in STAGES["api-build"]
    assert "--from=api-build" in STAGES["api"] and "worker-build" not in STAGES["api"]


def test_no_secret_can_get_into_an_image() -> None:
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert kept[0] == "*", "what is not named stays outside"
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = {package.partition(".")[0] for package in packages}
    files = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert {line.removeprefix("!") for line in kept if line.startswith("!")} == rooms | files
    assert not re.search(r"(ARG|ENV).*(PASSWORD|SECRET|TOKEN|KEY)", DOCKERFILE)


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/scalpel.json").read_text())
    return loaded


def test_dashboard_asks_the_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    panels = dashboard()["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all("scalpel_" in target["expr"] for panel in panels for target in panel["targets"])


def test_prometheus_asks_a_service_that_answers_to_that_name() -> None:
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    settings = Settings.from_mapping(FILE.environment("api"))
    assert name in settings.hosts and int(port) == settings.port
