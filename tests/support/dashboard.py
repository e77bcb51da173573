"""The queries of the Grafana dashboard, as Prometheus takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MONITORING = Path(__file__).parents[2] / "monitoring"
DASHBOARD = MONITORING / "grafana" / "raygym.json"


def panels() -> list[dict[str, Any]]:
    """Returns the panels that show something; rows are left out."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(*, rate_interval: str) -> list[tuple[str, str]]:
    """Returns the title of a panel and a query of it, for each query.

    Args:
        rate_interval: What Grafana puts in place of ``$__rate_interval``.
    """
    return [
        (
            panel["title"],
            target["expr"]
            .replace("$__rate_interval", rate_interval)
            .replace("$run", ".*")
            .replace("$env", ".*"),
        )
        for panel in panels()
        for target in panel["targets"]
    ]
