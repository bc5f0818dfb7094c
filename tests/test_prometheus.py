"""`docker/prometheus` and `docker/grafana`: rules and dashboards, held to what the service exposes.

Rules are tested by promtool. Every query is read for its metrics and labels, then asked of a real Prometheus that
scrapes a real service and evaluates the rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.prometheus_server import find_server, promtool, scraping
from tests.queries import Vocabulary
from tests.redis_server import wait_until
from tests.test_cli import Process, client, free
from tests.test_metrics import NAMES
from tests.test_readme import quoted, reachable
from tests.test_readme import table as readme_table
from tests.world import NUMBER

DOCKER = Path(__file__).parent.parent / "docker"
PROMETHEUS, GRAFANA, KUBERNETES = DOCKER / "prometheus", DOCKER / "grafana", DOCKER / "kubernetes"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
UNIT_TESTS = yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}

[ADAPTER] = yaml.safe_load((KUBERNETES / "deployment/prometheus-adapter.yaml").read_text())["rules"]["custom"]
"""What the autoscaler's metric is made by."""

FILLED_IN = {"$__rate_interval": "1m", "$__range": "1h", "$application": "shop", "$country": "GB"}
FILLED_IN |= {"$provider": "console", "$channel": ".*"}
"""What Grafana puts into queries, and what a reader may choose."""
WORDS = Vocabulary(NAMES, RECORDED)
SCRAPED = """
redis = "memory://"

[server]
api = "{api}"
receipts = "{api}"
ops = "{ops}"

[applications.shop]
brand = "Shop"
api_keys = ["sha256:68b80066be4092952ce3a818d864a9cdd4b5869adb5ec8879fefe8fd2679f246"]
cascade = [
  {{ channel = "sms", providers = ["console"], wait = "1s" }},
  {{ channel = "whatsapp", providers = ["console"] }},
]

[providers.console]
kind = "console"
"""
"""A service whose codes can be read, and whose first step ends in silence after a second."""


def shown(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The queries of a dashboard, each with its panel's title, filled in."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for variable, value in FILLED_IN.items():
                query = query.replace(variable, value)
            assert "$" not in query.replace("$1", ""), query
            yield f"{dashboard['title']}: {panel['title']}", query


def adapted() -> str:
    """The query that the adapter makes of its template, for a pod by its address."""
    parts = {
        "Series": ADAPTER["seriesQuery"].partition("{")[0],
        "LabelMatchers": 'job="verifyd"',
        "GroupBy": "instance",
    }
    return re.sub("<<[.]([A-Za-z]+)>>", lambda part: parts[part[1]], ADAPTER["metricsQuery"])


QUERIES = [
    ("prometheus-adapter", adapted()),
    *((rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES),
    *(query for dashboard in DASHBOARDS.values() for query in shown(dashboard)),
]
"""Every query that is shipped, with where it is."""


def test_the_rules_pass_their_unit_tests() -> None:
    """And the configuration that loads them is sound."""
    promtool("test", "rules", PROMETHEUS / "rules.test.yml")
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_a_missing_prometheus_is_an_error_that_tells_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a skip: tests that did not run would look like tests that passed."""
    monkeypatch.setenv("VERIFYD_TEST_PROMETHEUS", "/nowhere/prometheus")
    with pytest.raises(RuntimeError, match="make test"):
        find_server()


def test_each_alert_is_seen_to_fire() -> None:
    """With what it says; that whatever looks alike is silent is in the same tests."""
    fired = {one["alertname"] for test in UNIT_TESTS for one in test["alert_rule_test"] if one.get("exp_alerts")}
    assert fired == set(ALERTS)


@pytest.mark.parametrize("place", sorted({place for place, _ in QUERIES}))
def test_a_query_asks_only_for_what_there_is(place: str) -> None:
    """Its metrics, their labels, those that it groups and matches by; both sides of an operator have the same."""
    for query in (query for where, query in QUERIES if where == place):
        WORDS.labels(query)


def test_a_recorded_series_is_named_by_its_labels() -> None:
    """As Prometheus' own advice for such names has it: level, metric, operation."""
    for name, labels in WORDS.recorded.items():
        level, metric, operation = name.split(":")
        assert "_".join(sorted(labels, key=level.index)) == level
        assert metric.startswith("otp_")
        assert operation


def test_a_message_names_only_labels_that_its_alert_has() -> None:
    """An alert without its country says nothing."""
    for name, rule in ALERTS.items():
        said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert said <= WORDS.labels(rule["expr"]), name
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert {"summary", "description"} == set(rule["annotations"]), name


def test_each_alert_has_its_row_in_the_runbook() -> None:
    """In order, with how urgent it is."""
    rows = readme_table("| alert | severity | it means | what to do |")
    assert [(quoted(name)[0], severity) for name, severity, *_ in rows] == [
        (name, rule["labels"]["severity"]) for name, rule in ALERTS.items()
    ]
    assert [name for name, _, means, do in rows if not means or not do] == []


def test_every_query_is_answered_by_a_prometheus_that_scrapes_a_service(tmp_path: Path) -> None:
    """It knows each metric by its type, records what the rules say, and gives no query an error."""
    api, ops = free(), free()
    path = tmp_path / "otp.toml"
    path.write_text(SCRAPED.format(api=api, ops=ops))
    with Process("serve", path, home=tmp_path) as service, client(api, "vk_example") as http:
        wait_until(lambda: reachable(ops), "it serves")
        with scraping(ops, PROMETHEUS / "rules.yml", free()) as prometheus:
            assert http.post("/verifications", json={"to": NUMBER}).status_code == httpx.codes.CREATED
            code = service.said(r"sms to \S+ Shop: your sign-in code is (\d+)")[1]
            service.said(rf"whatsapp to .*{code}")
            checked = http.post("/verifications/check", json={"to": NUMBER, "code": code}).json()
            assert checked["valid"]

            def seen() -> bool:
                return bool(prometheus.ask("query", query='otp_verifications_total{result="approved"}')["result"])

            wait_until(seen, "it has scraped the approval")
            for name, (kind, labels) in NAMES.items():
                assert prometheus.ask("metadata", metric=name)[name][0]["type"] == kind
                for series in prometheus.ask("series", **{"match[]": f'{{__name__=~"{name}(_bucket|_sum|_count)?"}}'}):
                    # A label without a value is none to Prometheus.
                    assert series.keys() - {"__name__", "instance", "job", "le"} <= labels
            for _, query in QUERIES:
                prometheus.ask("query", query=query)
            assert prometheus.ask("query", query="otp_advances_total")["result"]
            health = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
            assert [rule["lastError"] for rule in health if rule["health"] == "err"] == []
            assert len(health) == len(RULES)
