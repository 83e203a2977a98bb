"""One board: its variables and its panels, laid out from left to right, in rows that have a title."""

import json
from collections.abc import Sequence
from typing import Self

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    Panel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.dashboards.panels import PanelBuilder

TAG = "visit-consumer"
COLUMNS = 24
"""Width of every board in Grafana's units."""


class Board:
    """A board under construction.

    Parameters
    ----------
    uid
        Its lasting name in addresses.
    title, description
        For people.
    span
        Time range that it opens with, up to now, such as ``now-12h``.
    refresh
        How often it asks again.
    datasource
        Kind of data source that it reads, such as ``prometheus``; which one, a variable of the board decides.
    """

    def __init__(self, uid: str, title: str, description: str, *, span: str, refresh: str, datasource: str) -> None:
        self._source = DataSourceRef(type_val=datasource, uid="${datasource}")
        self._ids = 0
        self._bottom = 0
        self._board = (
            builders.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags([TAG])
            .timezone("utc")
            .readonly()
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .time(span, "now")
            .refresh(refresh)
            .link(
                builders.DashboardLink("Boards of the visit consumer")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)
                .keep_time(True)
            )
            .with_variable(builders.DatasourceVariable("datasource").label("data source").type(datasource))
        )

    def variable(self, variable: Builder[VariableModel]) -> Self:
        """Add a variable."""
        self._board.with_variable(variable)
        return self

    def choice(self, name: str, query: str, *, label: str, description: str, many: bool) -> Self:
        """Add a variable whose values come from the data source; ``many`` lets several or all be chosen."""
        variable = (
            builders.QueryVariable(name)
            .label(label)
            .description(description)
            .datasource(self._source)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED if many else VariableRefresh.ON_DASHBOARD_LOAD)
            .sort(VariableSort.ALPHABETICAL_ASC if many else VariableSort.NUMERICAL_DESC)
        )
        if many:
            variable.multi(True).include_all(True).current(VariableOption(text="All", value="$__all"))
        self._board.with_variable(variable)
        return self

    def row(self, title: str, panels: Sequence[PanelBuilder]) -> Self:
        """Add a row of panels."""
        self._ids += 1
        self._board.with_row(builders.Row(title).id(self._ids).grid_pos(GridPos(h=1, w=COLUMNS, x=0, y=self._bottom)))
        skyline = [self._bottom + 1] * COLUMNS
        for builder in panels:
            self._ids += 1
            panel = builder.id(self._ids).datasource(self._source).build()
            panel.grid_pos = place(skyline, panel.grid_pos or GridPos())
            self._board.with_panel(_Built(panel))
        self._bottom = max(skyline)
        return self

    def json(self) -> str:
        """Return what Grafana provisions, the same text at every call."""
        made = json.loads(json.dumps(self._board.build(), cls=JSONEncoder))
        for each in made["templating"]["list"]:
            if each["type"] != "interval":  # the library writes these of intervals into every variable
                for name in ("auto", "auto_count", "auto_min"):
                    each.pop(name, None)
        return json.dumps(made, indent=1, sort_keys=True) + "\n"


def place(skyline: list[int], size: GridPos) -> GridPos:
    """Put a panel where it comes highest, as far left as possible, and raise the skyline there.

    Parameters
    ----------
    skyline
        First free line of each column of the board; changed.
    size
        Width and height of the panel.
    """
    starts = range(len(skyline) - size.w + 1)
    x = min(starts, key=lambda start: max(skyline[start : start + size.w]))
    y = max(skyline[x : x + size.w])
    skyline[x : x + size.w] = [y + size.h] * size.w
    return GridPos(h=size.h, w=size.w, x=x, y=y)


class _Built(Builder[Panel]):
    """A finished panel, where the board asks for a builder."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    def build(self) -> Panel:
        """Return the panel."""
        return self._panel
