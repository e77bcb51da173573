"""The page of metrics, the dashboard and the alert rules say the same as the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from raygym.service.metrics.recorder import FLUSH_EVERY_S
from raygym.service.metrics.specs import LAGS, SPECS, TIMINGS
from raygym.service.reports import TIMES_MS
from tests.support.dashboard import DASHBOARD, MONITORING, panels, queries
from tests.support.prometheus import promtool

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
RULES = MONITORING / "prometheus" / "alerts.yml"
RULE_TESTS = MONITORING / "prometheus" / "alerts_test.yml"
NAME = re.compile(r"\bray_raygym_\w+")
SELECTOR = re.compile(r"(ray_raygym_\w+)\{([^}]*)\}")
BY = re.compile(r"by \(([^)]*)\)")
EXPORTED = {spec.exported: spec for spec in SPECS.values()}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def test_the_page_has_a_row_for_each_metric_as_the_code_has_it_and_no_other():
    rows = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `ray_raygym_")
    ]
    assert rows == [
        [
            f"`{spec.exported}`",
            spec.kind,
            spec.unit,
            ", ".join(f"`{tag}`" for tag in spec.tags),
            spec.meaning,
        ]
        for spec in SPECS.values()
    ]


def test_the_page_names_no_metric_that_there_is_not():
    assert set(NAME.findall(PAGE.read_text())) <= set(EXPORTED)


def test_the_page_names_each_alert_and_no_other():
    named = set(re.findall(r"^\| `(Raygym\w+)`", PAGE.read_text(), re.MULTILINE))
    assert named == {rule["alert"] for rule in rules()}


def test_the_page_says_how_often_sums_are_handed_over():
    assert f"every {FLUSH_EVERY_S:g} seconds" in PAGE.read_text()


def test_all_lags_of_a_step_but_the_skew_of_clocks_are_metrics():
    assert set(LAGS) == set(TIMES_MS) - {"clock_skew_ms"}


@pytest.mark.parametrize("timing", TIMINGS, ids=lambda timing: timing.name)
def test_the_bounds_of_a_timing_ascend_and_its_buckets_have_no_slot(timing):
    assert list(timing.bounds_s) == sorted(set(timing.bounds_s))
    assert "slot" not in timing.bucket_tags


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_a_name_is_one_that_prometheus_takes_and_bears_no_suffix_of_rays(spec):
    assert re.fullmatch(r"raygym_[a-z0-9_]+", spec.name)
    assert not spec.name.endswith("_total")
    assert len(set(spec.tags)) == len(spec.tags)
    assert "|" not in spec.meaning


def test_each_panel_has_a_place_of_its_own_and_an_id():
    dashboard = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_panels_have_titles_of_their_own_and_take_the_chosen_prometheus():
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("source", ["dashboard", "rules"])
def test_queries_name_metrics_and_tags_that_there_are(source):
    texts = (
        [query for _, query in queries(rate_interval="1m")]
        if source == "dashboard"
        else [rule["expr"] for rule in rules()]
    )
    assert texts
    for text in texts:
        names = set(NAME.findall(text))
        assert names, text
        assert names <= set(EXPORTED), text
        for name, selectors in SELECTOR.findall(text):
            tags = re.findall(r"(\w+)\s*[!=]", selectors)
            assert set(tags) <= set(EXPORTED[name].tags), text
        known = {tag for name in names for tag in EXPORTED[name].tags}
        for group in BY.findall(text):
            assert {tag.strip() for tag in group.split(",")} <= known, text


def test_the_dashboard_shows_all_that_is_counted():
    shown = {name for _, query in queries(rate_interval="1m") for name in NAME.findall(query)}
    buckets = {timing.bucket_name for timing in TIMINGS}
    # The parts of a reaction are shown by their means; pixels are there for those who ask.
    quiet = {f"ray_{timing.bucket_name}_total" for timing in LAGS.values()} & set(EXPORTED)
    missing = set(EXPORTED) - shown - quiet - {"ray_raygym_pixels_total"}
    assert missing == set(), buckets


def test_grafana_is_told_of_the_dashboard_and_of_prometheus():
    provisioning = DASHBOARD.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "raygym.yaml").read_text())[
        "providers"
    ]
    default = json.loads(DASHBOARD.read_text())["templating"]["list"][0]["current"]["value"]
    assert source["uid"] == default
    page = PAGE.read_text()
    assert f'monitoring/grafana:{provider["options"]["path"]}:ro"' in page
    assert source["url"].strip("${}") + "=http://" in page


def test_the_configuration_and_the_rules_pass_promtool():
    assert "SUCCESS" in promtool("check", "config", str(RULES.with_name("prometheus.yml")))
    said = promtool("check", "rules", str(RULES))
    assert f"{len(rules())} rules found" in said


def test_the_tests_of_the_rules_pass():
    assert "SUCCESS" in promtool("test", "rules", str(RULE_TESTS))


def test_each_rule_has_a_test_in_which_it_fires_and_says_what_to_do():
    fired = {
        case["alertname"]
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "action"}


def test_promtool_finds_a_rule_that_no_longer_fires(tmp_path: Path):
    (tmp_path / "alerts.yml").write_text(RULES.read_text().replace("> 0.15", "> 0.25"))
    (tmp_path / "alerts_test.yml").write_text(RULE_TESTS.read_text())
    with pytest.raises(AssertionError, match="RaygymReactionTime"):
        promtool("test", "rules", str(tmp_path / "alerts_test.yml"))
