"""`docker/grafana`: the dashboards can be provisioned as they are, and `compose.yaml` puts them where Grafana looks.

Their queries are tested with Prometheus' rules.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.test_prometheus import DASHBOARDS, DOCKER, GRAFANA, WORDS, shown

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]

dashboards = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


@dashboards
def test_panels_have_their_own_place_and_say_what_they_show(dashboard: dict[str, Any]) -> None:
    """No two overlap in the grid of 24 columns; each has an id, a title and a description of its own."""
    panels = dashboard["panels"]
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        taken |= cells
    for name in ("id", "title"):
        assert len({panel[name] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if panel["type"] != "row" and not panel["description"]] == []


@dashboards
def test_whatever_asks_asks_the_chosen_prometheus(dashboard: dict[str, Any]) -> None:
    """Dashboards know no server of their own, and each variable that a query names can be chosen."""
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    asking = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    asking += [target for panel in asking for target in panel["targets"]]
    asking += [one for one in variables.values() if one["type"] == "query"]
    assert all(one["datasource"] == DATASOURCE for one in [*asking, *dashboard["annotations"]["list"]])
    named = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard)))
    assert named == set(variables)


@dashboards
def test_what_can_be_chosen_is_there(dashboard: dict[str, Any]) -> None:
    """The values of a label, of a metric that has it."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            [(metric, label)] = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert label in WORDS.labels(metric)
            assert label == variable["name"]


@dashboards
def test_a_legend_names_only_labels_that_its_query_keeps(dashboard: dict[str, Any]) -> None:
    """Else it would be empty."""
    queries = [query for _, query in shown(dashboard)]
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for target, query in zip(targets, queries, strict=True):
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert named <= WORDS.labels(query), query


def test_compose_puts_everything_where_it_is_looked_for() -> None:
    """Dashboards, their provisioning, the address of Prometheus, the rules."""
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["grafana"]["volumes"] if volume.startswith("."))
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/verifyd.yaml").read_text())["providers"]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "./prometheus:/etc/prometheus:ro" in COMPOSE["prometheus"]["volumes"]
    [scraped] = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["verifyd:9090"]}]
