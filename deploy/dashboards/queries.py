"""Queries of panels: PromQL with the board's filters, and SQL out of a file of named blocks."""

import re
from pathlib import Path

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

POSTGRES = "grafana-postgresql-datasource"
RATE = "$__rate_interval"
"""Grafana's own: long enough for a rate at the resolution of the graph."""
_BLOCK = re.compile(r"^-- name: (\w+)\n((?:-- .*\n)*)", re.MULTILINE)


def metric(name: str, *matchers: str, by_instrument: bool = False) -> str:
    """Select a metric of the service (its name without the prefix) by the board's variables and ``matchers``."""
    labels = ['job=~"$job"', *(['instrument=~"$instrument"'] if by_instrument else []), *matchers]
    return f"visit_consumer_{name}{{{','.join(labels)}}}"


def over_time(expression: str, legend: str, *, ref: str = "A") -> Builder[Dataquery]:
    """Ask for a graph."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().ref_id(ref)


def now(expression: str, *, as_table: bool = False) -> Builder[Dataquery]:
    """Ask for the latest value."""
    query = prometheus.Dataquery().expr(expression).instant().ref_id("A")
    return query.format(PromQueryFormat.TABLE) if as_table else query


def buckets(expression: str) -> Builder[Dataquery]:
    """Ask for the buckets of a histogram, for a heatmap."""
    query = prometheus.Dataquery().expr(expression).legend_format("{{le}}").range().ref_id("A")
    return query.format(PromQueryFormat.HEATMAP)


class _Sql(Dataquery):
    """A query of the PostgreSQL data source, for which the SDK has no type."""

    def __init__(self, text: str) -> None:
        self.text = text

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana stores it."""
        return {
            "datasource": DataSourceRef(type_val=POSTGRES, uid="${datasource}"),
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self.text,
            "refId": "A",
        }


class SqlQuery(Builder[Dataquery]):
    """Ask PostgreSQL for a table.

    Parameters
    ----------
    text
        SQL, with variables of the board.
    """

    def __init__(self, text: str) -> None:
        self._query = _Sql(text)

    def build(self) -> Dataquery:
        """Return the query."""
        return self._query


def sql_blocks(file: Path) -> dict[str, str]:
    """Read the named blocks of an SQL file, without their names and comments.

    A block begins with a line ``-- name: x`` and further lines of comment, and ends with a semicolon.
    """
    text = file.read_text()
    heads = list(_BLOCK.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        head.group(1): text[head.end() : end].strip().removesuffix(";").strip()
        for head, end in zip(heads, ends, strict=True)
    }
