"""The board *night*: what was observed, what is missing, what waits. Read from PostgreSQL through the reader role."""

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import TextBoxVariable

from deploy.dashboards.board import Board
from deploy.dashboards.panels import GOOD_AT_ZERO, PLAIN, PanelBuilder, Steps, bars, listing, number, sky
from deploy.dashboards.queries import POSTGRES, SqlQuery, sql_blocks

SQL = sql_blocks(Path(__file__).with_name("night.sql"))
_WARN_ABOVE_ZERO: Steps = ((None, "green"), (1, "orange"))


def night_board() -> Board:
    """Return the board; every panel reads PostgreSQL and ignores the board's time range: the night is a variable."""
    return (
        Board(
            "visit-consumer-night",
            "Visit consumer: night",
            "One night's visits, as the tables have them.",
            span="now-24h",
            refresh="1m",
            datasource=POSTGRES,
        )
        .variable(
            TextBoxVariable("schema").label("schema").description("Schema of the tables.").default_value("visits")
        )
        .choice("night", SQL["nights"], label="night", description="day_obs, YYYYMMDD.", many=False)
        .choice(
            "instrument", SQL["instruments"], label="instrument", description="Those that observed then.", many=True
        )
        .row("The night", _counts())
        .row("Visits", _visits())
        .row("Completeness", _completeness())
        .row("Waiting and dead letters", _dead_letters())
    )


def _count(title: str, why: str, block: str, steps: Steps = PLAIN, *, width: int = 3) -> PanelBuilder:
    return number(title, why, SqlQuery(SQL[block]), steps=steps, width=width)


def _counts() -> list[PanelBuilder]:
    return [
        _count("Visits", "Visits of the night.", "visits", width=4),
        _count("Exposures", "Exposures announced, on sky or not.", "exposures", width=4),
        _count("Raws", "Raws announced: detectors that arrived, over all exposures.", "raws", width=4),
        _count(
            "Missing raws",
            "Raws that are expected and have not arrived, those on their way included; 0 where no event says what is "
            "expected.",
            "missing_raws",
            _WARN_ABOVE_ZERO,
        ),
        _count(
            "Incomplete visits",
            "Visits of groups that closed without all their exposures.",
            "incomplete_count",
            _WARN_ABOVE_ZERO,
        ),
        _count("Open groups", "Groups that wait for exposures, of every night.", "open_group_count"),
        _count("Open dead letters", "Of every night and instrument.", "open_dead_letter_count", GOOD_AT_ZERO),
    ]


def _visits() -> list[PanelBuilder]:
    return [
        sky(
            "Pointings",
            "One point a visit: declination over right ascension of its first exposure, degrees, ICRS.",
            SqlQuery(SQL["sky"]),
            unit="degree",
            by="filter",
            width=16,
            height=16,
        ),
        bars("Visits by filter", "Visits of the night.", SqlQuery(SQL["visits_by_filter"]), x="filter"),
        bars(
            "Visits by reason of closing",
            "'complete' is the healthy case; 'idle' and 'age': an announced exposure never came.",
            SqlQuery(SQL["close_reasons"]),
            x="close_reason",
        ),
        bars(
            "Visits by half hour",
            "By the opening of the shutter, UTC.",
            SqlQuery(SQL["visits_by_half_hour"]),
            x="utc",
            width=12,
        ),
        listing(
            "From the first raw to the visit",
            "Wall clock from the first raw of a visit to its first definition.",
            SqlQuery(SQL["waits"]),
            units={"median": "s", "95 %": "s", "longest": "s"},
        ),
    ]


def _completeness() -> list[PanelBuilder]:
    return [
        listing(
            "Detectors",
            "On-sky exposures, and how many of their raws arrived, against the most that any exposure has.",
            SqlQuery(SQL["completeness"]),
            units={"raws arrived": "percentunit"},
        ),
        listing(
            "Visits of incomplete groups",
            "Visits of groups that closed without all their exposures.",
            SqlQuery(SQL["incomplete_visits"]),
        ),
        listing(
            "Exposures with missing raws",
            "Which detectors are missing of those that are expected, where events say so (expected_detectors).",
            SqlQuery(SQL["exposures_with_missing_raws"]),
            width=24,
        ),
        listing(
            "Exposures without all raws",
            "Exposures that have fewer detectors than others of the night.",
            SqlQuery(SQL["partial_exposures"]),
        ),
        listing(
            "Visits defined more than once",
            "Late or corrected exposures, or a redefinition by hand.",
            SqlQuery(SQL["revised"]),
        ),
    ]


def _dead_letters() -> list[PanelBuilder]:
    return [
        listing(
            "Groups still open",
            "Groups that wait, of every night; times are stream time.",
            SqlQuery(SQL["open_groups"]),
            width=16,
        ),
        bars("Open dead letters by reason", "Of every night.", SqlQuery(SQL["dead_letters_by_reason"]), x="reason"),
        listing(
            "Latest dead letters",
            "Open ones, at most 200. Look, repeat or discard: visit-consumer dead-letters show, replay, discard.",
            SqlQuery(SQL["dead_letters"]),
            width=16,
        ),
        listing(
            "Exposures in no visit",
            "By type: calibrations and closed-dome exposures are meant to be here. "
            "Why one exposure is: visit-consumer explain",
            SqlQuery(SQL["skipped"]),
            width=8,
        ),
        listing(
            "Findings of the audit",
            "Of the night's last audit: visit-consumer audit. Empty where there was none.",
            SqlQuery(SQL["audit_findings"]),
            width=24,
        ),
    ]
