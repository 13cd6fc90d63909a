"""What the dashboard shows and the alerts ask must be told by the service, label by label."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import promql_parser
import pytest
import yaml
from prometheus_client import Metric

from feature_repo.base import CacheCounts
from ranker.service.metrics import STAGES, STATUS_NAMES, Metrics
from ranker.service.readings import FollowerCounts, WorkerCounts
from ranker.serving import ServingInfo

INFRA = Path(__file__).resolve().parents[2] / "infra"
SERVICE = INFRA.parent / "ranker" / "service"
PROMETHEUS_OWN = {"up": {"job", "instance"}}
TARGET = {"job", "instance"}  # added by whoever scrapes
INFO = ServingInfo(
    generation_id="g", model="m", num_items=1, spaces=(), as_of=datetime(2026, 1, 1, tzinfo=UTC)
)


def told() -> dict[str, set[str]]:
    """Every series that a server may tell, with its labels."""
    metrics = Metrics()
    metrics.watch_queue(lambda: 0)
    metrics.watch_under_way(lambda: 0)
    metrics.watch_coalesced(lambda: 0)
    metrics.watch_workers(lambda: WorkerCounts(num_alive=1, num_busy=0))
    metrics.watch_caches(lambda: {"prefix": CacheCounts()})
    metrics.watch_generation(lambda: INFO)
    metrics.watch_follower(lambda: FollowerCounts(num_switched=0, num_refused=0))
    metrics.watch_store(lambda: True)
    return {**PROMETHEUS_OWN, **dict(series(metrics))}


def series(metrics: Metrics) -> Iterator[tuple[str, set[str]]]:
    for collector in metrics.registry._collector_to_names:
        labels = set(getattr(collector, "_labelnames", ()))
        for metric in collector.collect():
            for name, own in named(metric):
                yield name, labels | own | TARGET


def named(metric: Metric) -> Iterator[tuple[str, set[str]]]:
    """A family's series; one without samples yet has no more than its kind to tell."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    for suffix in suffixes.get(metric.type, [""]):
        yield metric.name + suffix, {"le"} if suffix == "_bucket" else set()
    for sample in metric.samples:
        yield sample.name, set(sample.labels)


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((INFRA / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((INFRA / "grafana" / "ranker.json").read_text())
    return list(dashboard["panels"])


def expressions() -> list[tuple[str, str]]:
    shown = [(one["title"], target["expr"]) for one in panels() for target in one["targets"]]
    return [(rule["alert"], rule["expr"]) for rule in alerts()] + shown


def parsed(expression: str) -> Any:
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def asked(expression: str) -> list[tuple[str, set[str]]]:
    """The series that an expression reads, with the labels that it picks by."""
    found: list[tuple[str, set[str]]] = []

    def look(node: Any) -> bool:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql_parser.VectorSelector):
            found.append((selector.name, {one.name for one in selector.matchers.matchers}))
        return True

    promql_parser.walk(parsed(expression), look)
    return found


@pytest.mark.parametrize(("name", "expression"), expressions())
def test_what_is_watched_is_told_by_the_service(name: str, expression: str) -> None:
    known = told()
    reads = asked(expression)
    assert reads, name
    for metric, labels in reads:
        assert metric in known, f"{name}: no metric {metric}"
        assert labels <= known[metric], f"{name}: {metric} has no labels {labels - known[metric]}"


@pytest.mark.parametrize(("name", "expression"), expressions())
def test_what_is_grouped_by_is_a_label_of_what_is_read(name: str, expression: str) -> None:
    known = told()
    labels = set().union(*(known[metric] for metric, _ in asked(expression)))
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {one.strip() for one in grouped.split(",")} <= labels, name


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("code", {code.name for code in grpc.StatusCode}),
        ("job", {"ranker"}),
        ("reason", set(re.findall(r'"([A-Z_]{4,})"', (SERVICE / "statuses.py").read_text()))),
        ("stage", {*STAGES, "first"}),
        ("status", set(STATUS_NAMES.values())),
    ],
)
def test_values_that_are_picked_by_are_values_that_occur(label: str, values: set[str]) -> None:
    picked = set()
    for _, expression in expressions():
        for text in re.findall(rf'\b{label}=~?"([^"]+)"', expression):
            picked |= set(text.split("|"))
    assert picked
    assert picked <= values


def test_every_alert_says_what_happened_and_how_urgent_it_is() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_panels_lie_beside_each_other_and_read_the_provisioned_source() -> None:
    source = yaml.safe_load((INFRA / "grafana" / "datasource.yaml").read_text())
    (uid,) = [one["uid"] for one in source["datasources"]]
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels()]
    assert len(set(places)) == len(places)
    assert len({one["id"] for one in panels()}) == len(places)
    for one in panels():
        assert {target["datasource"]["uid"] for target in one["targets"]} == {uid}


def test_prometheus_and_grafana_are_given_the_files_where_they_look() -> None:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    rules = yaml.safe_load((INFRA / "prometheus.yml").read_text())["rule_files"]
    mounted = {volume.split(":")[1] for name in services for volume in services[name]["volumes"]}
    assert {f"/etc/prometheus/{one}" for one in rules} <= mounted
    provider = yaml.safe_load((INFRA / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounted
    assert home.startswith(provider["options"]["path"])


def test_the_autoscaler_goes_by_a_metric_that_the_service_tells() -> None:
    ranker = list(yaml.safe_load_all((INFRA / "kubernetes" / "ranker.yaml").read_text()))
    (scaler,) = [one for one in ranker if one["kind"] == "HorizontalPodAutoscaler"]
    (metric,) = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"]]
    assert metric in told()
    adapter = yaml.safe_load((INFRA / "kubernetes" / "prometheus-adapter.yaml").read_text())
    assert metric in adapter["rules"]["custom"][0]["seriesQuery"]
