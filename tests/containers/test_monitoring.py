"""Prometheus' rules and alerts, by promtool's own tests; and that each alert has a test and a runbook."""

import re
from typing import Any

import pytest
import yaml

from tests import needs
from tests.containers.compose import docker, has_docker
from tests.processes import REPOSITORY

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
OPERATIONS = REPOSITORY / "docs" / "operations.md"
IMAGE = "prom/prometheus:v2.53.3"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "tests.yml")])
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    needs.unless(has_docker(), "a Docker engine with compose")
    promtool = ["run", "--rm", "--entrypoint=promtool", f"--volume={PROMETHEUS}:/rules:ro", "--workdir=/rules", IMAGE]
    docker(*promtool, *arguments)


def test_every_alert_has_a_test_in_which_it_fires_and_a_runbook() -> None:
    tests = yaml.safe_load((PROMETHEUS / "tests.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names, "and one in which it does not"
    headings = re.findall(r"^### (\w+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(names)
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"
