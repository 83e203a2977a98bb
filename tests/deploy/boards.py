"""The committed boards as tests read them: panels, and queries with the board's variables filled in."""

import json
from pathlib import Path
from typing import Any

BOARDS = Path(__file__).parents[2] / "deploy" / "helm" / "visit-consumer" / "dashboards"


def board(name: str) -> dict[str, Any]:
    """Read a committed board."""
    found: dict[str, Any] = json.loads((BOARDS / f"{name}.json").read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    """Return a board's panels, without the titles of rows."""
    return [each for each in board(name)["panels"] if each["type"] != "row"]


def expressions() -> dict[tuple[str, str], str]:
    """Return every PromQL expression of the board *service*, by panel and query, with all variables at "All"."""
    found = {}
    for panel in panels("service"):
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in (
                ("$job", ".*"),
                ("$instrument", ".*"),
                ("$__rate_interval", "1m"),
                ("$__range", "1h"),
            ):
                text = text.replace(variable, value)
            found[panel["title"], target["refId"]] = text
    return found


def sql_queries(*, schema: str, night: int, instruments: list[str]) -> dict[str, str]:
    """Return every SQL query of the board *night*, variables' own queries included, as Grafana would fill it in."""
    source = board("night")
    queries = {f"variable {v['name']}": v["query"] for v in source["templating"]["list"] if v["type"] == "query"}
    queries |= {panel["title"]: target["rawSql"] for panel in panels("night") for target in panel["targets"]}
    filled = {}
    for name, text in queries.items():
        for variable, value in (
            ("${schema:raw}", schema),
            ("${night:raw}", str(night)),
            ("${instrument:csv}", ",".join(instruments)),
        ):
            text = text.replace(variable, value)  # noqa: PLW2901  # filled in step by step
        filled[name] = text
    return filled
