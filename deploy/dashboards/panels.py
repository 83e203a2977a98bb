"""The few kinds of panels that the boards are made of, each with what all of its kind share."""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import barchart, common, heatmap, stat, table, timeseries, xychart
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.xychart import SeriesMapping, XYShowMode

Query = Builder[Dataquery]
Steps = Sequence[tuple[float | None, str]]
"""Colours of a value: from which value on, None for the lowest."""

GOOD_AT_ZERO: Steps = ((None, "green"), (1, "red"))
PLAIN: Steps = ((None, "text"),)


class PanelBuilder(Protocol):
    """What every panel builder of the SDK can do; they share no base class that says so."""

    def id(self, id_val: int) -> Self:
        """Set the number that tells panels of a board apart."""

    def title(self, title: str) -> Self:
        """Set the title."""

    def description(self, description: str) -> Self:
        """Set what a reader sees on the information mark."""

    def datasource(self, datasource: DataSourceRef) -> Self:
        """Set where the queries go."""

    def with_target(self, target: Query) -> Self:
        """Add a query."""

    def unit(self, unit: str) -> Self:
        """Set the unit of values, by Grafana's name."""

    def height(self, h: int) -> Self:
        """Set the height in the board's units."""

    def span(self, w: int) -> Self:
        """Set the width in 24ths of the board."""

    def no_value(self, no_value: str) -> Self:
        """Set what stands where there is no data."""

    def thresholds(self, thresholds: Builder[dashboard.ThresholdsConfig]) -> Self:
        """Set the colours of values."""

    def build(self) -> dashboard.Panel:
        """Return the panel."""


P = TypeVar("P", bound=PanelBuilder)


def _common(
    panel: P, title: str, why: str, queries: Sequence[Query], *, unit: str, width: int, height: int, steps: Steps
) -> P:
    """Set what every panel has; ``why`` says how to read it."""
    panel.title(title).description(why).unit(unit).span(width).height(height).thresholds(
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )
    for query in queries:
        panel.with_target(query)
    return panel


def number(
    title: str, why: str, query: Query, *, unit: str = "short", steps: Steps = PLAIN, width: int = 4, empty: str = "-"
) -> PanelBuilder:
    """Make one big number, with its history behind it; ``empty`` is shown where there is no data."""
    panel = _common(stat.Panel(), title, why, [query], unit=unit, width=width, height=4, steps=steps)
    return (
        panel.no_value(empty)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def lines(
    title: str,
    why: str,
    queries: Sequence[Query],
    *,
    unit: str = "short",
    width: int = 8,
    stacked: bool = False,
    logarithmic: bool = False,
) -> PanelBuilder:
    """Make a graph over time."""
    panel = _common(timeseries.Panel(), title, why, queries, unit=unit, width=width, height=8, steps=PLAIN)
    panel.min(0).fill_opacity(60 if stacked else 8).show_points(VisibilityMode.NEVER).legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    ).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10))
    return panel


def distribution(title: str, why: str, query: Query, *, unit: str, width: int = 12) -> PanelBuilder:
    """Make a heatmap of a histogram's buckets over time."""
    panel = _common(heatmap.Panel(), title, why, [query], unit=unit, width=width, height=8, steps=PLAIN)
    return (
        panel.calculate(False)
        .rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO))
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Viridis").steps(64))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_values(heatmap.CellValues().unit("short"))
        .mode(TooltipDisplayMode.SINGLE)
        .show_legend()
    )


def listing(
    title: str,
    why: str,
    query: Query,
    *,
    units: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
    width: int = 12,
    height: int = 8,
    empty: str = "none",
) -> PanelBuilder:
    """Make a table; ``units`` by column, ``hidden`` columns left out."""
    panel = _common(table.Panel(), title, why, [query], unit="none", width=width, height=height, steps=PLAIN)
    panel.no_value(empty)
    for column, unit in (units or {}).items():
        panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])
    if hidden:
        panel.with_transformation(
            DataTransformerConfig(id_val="organize", options={"excludeByName": dict.fromkeys(hidden, True)})
        )
    return panel


def bars(
    title: str, why: str, query: Query, *, x: str, unit: str = "short", width: int = 8, stacked: bool = False
) -> PanelBuilder:
    """Make bars along the text column ``x``; every number column of the query is a series."""
    panel = _common(barchart.Panel(), title, why, [query], unit=unit, width=width, height=8, steps=PLAIN)
    panel.x_field(x).min(0).fill_opacity(80).no_value("none").show_value(VisibilityMode.AUTO).legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(stacked)
    ).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(StackingMode.NORMAL)
    return panel


def sky(title: str, why: str, query: Query, *, unit: str, by: str, width: int = 12, height: int = 12) -> PanelBuilder:
    """Make a sky plot of the column "Dec" over the column "RA", a colour for each value of the column ``by``."""
    panel = _common(xychart.Panel(), title, why, [query], unit=unit, width=width, height=height, steps=PLAIN)
    return (
        panel.no_value("none")
        .with_transformation(
            DataTransformerConfig(
                id_val="partitionByValues",
                options={"fields": [by], "keepFields": False, "naming": {"asLabels": False}},
            )
        )
        .show(XYShowMode.POINTS)
        .mapping(SeriesMapping.AUTO)
        .override_by_name("RA", _axis("right ascension", 0, 360))
        .override_by_name("Dec", _axis("declination", -90, 90))
        .point_size(xychart.XychartFieldConfigPointSize().fixed(6))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.RIGHT)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.SINGLE))
    )


def _axis(label: str, low: float, high: float) -> list[DynamicConfigValue]:
    """Show all of the sky, whatever was observed: nights compare at a glance."""
    return [
        DynamicConfigValue(id_val="custom.axisLabel", value=label),
        DynamicConfigValue(id_val="min", value=low),
        DynamicConfigValue(id_val="max", value=high),
    ]
