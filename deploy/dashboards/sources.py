"""The row of the board *service* for emitters, which turn files and notifications into events."""

from deploy.dashboards.panels import PanelBuilder, lines
from deploy.dashboards.queries import RATE, metric, over_time


def source_panels() -> list[PanelBuilder]:
    """Return the panels; all are empty where no emitter runs."""
    return [
        lines(
            "Objects found",
            "Objects a second that emitters were told of or found, by how: 'scan' finds what notifications lost.",
            [over_time(f"sum by (command) (rate({metric('source_objects_total')}[{RATE}]))", "{{command}}")],
            unit="cps",
            stacked=True,
        ),
        lines(
            "Events sent",
            "Events a second that the brokers acknowledged.",
            [
                over_time(
                    f"sum by (instrument) (rate({metric('source_events_total', by_instrument=True)}[{RATE}]))",
                    "{{instrument}}",
                )
            ],
            unit="cps",
            stacked=True,
        ),
        lines(
            "Rejected objects, by reason",
            "In each step of the graph. Which: visit-consumer emit rejected list",
            [over_time(f"sum by (reason) (increase({metric('source_rejected_total')}[{RATE}])) > 0", "{{reason}}")],
            stacked=True,
        ),
        lines(
            "Objects in work",
            "In flight: found, and not acknowledged by the brokers. Waiting: not readable yet, and tried again.",
            [
                over_time(f"sum({metric('source_in_flight_objects')})", "in flight"),
                over_time(f"sum({metric('source_waiting_objects')})", "waiting", ref="B"),
            ],
        ),
        lines(
            "Ignored objects, by reason",
            "In each step of the graph. 'duplicate' is normal: a raw has a sidecar and a FITS file.",
            [over_time(f"sum by (reason) (increase({metric('source_ignored_total')}[{RATE}]))", "{{reason}}")],
            stacked=True,
        ),
        lines(
            "Retries",
            "Further attempts to read an object, and messages that the brokers did not take and that were sent again.",
            [
                over_time(f"sum(increase({metric('source_retries_total')}[{RATE}]))", "reads"),
                over_time(f"sum(increase({metric('source_delivery_errors_total')}[{RATE}]))", "messages", ref="B"),
            ],
        ),
        lines(
            "Ages at the emitters",
            "Since the oldest waiting object was tried first, since an emitter last looked for work (a few seconds), "
            "and since the last event (by day that is long, and nothing is wrong).",
            [
                over_time(
                    f"max(time() - ({metric('source_oldest_waiting_timestamp_seconds')} > 0)) or vector(0)",
                    "oldest waiting object",
                ),
                over_time(
                    f"max by (command, instance) (time() - ({metric('source_last_turn_timestamp_seconds')} > 0))",
                    "last loop of {{command}} {{instance}}",
                    ref="B",
                ),
                over_time(
                    f"min(time() - ({metric('source_last_event_timestamp_seconds')} > 0))", "last event", ref="C"
                ),
            ],
            unit="s",
            width=12,
            logarithmic=True,
        ),
        lines(
            "Reading and translating",
            "Of one header: reading it from its store (95th percentile), and translating it into the fields of the "
            "event (mean).",
            [
                over_time(_quantile("source_read_duration_seconds"), "read"),
                over_time(
                    f"{_rate('source_translation_seconds_total')} / {_rate('source_objects_total')}",
                    "translate",
                    ref="B",
                ),
            ],
            unit="s",
            width=12,
            logarithmic=True,
        ),
    ]


def _rate(counter: str) -> str:
    return f"sum(rate({metric(counter)}[{RATE}]))"


def _quantile(histogram: str) -> str:
    return f"histogram_quantile(0.95, sum by (le) (rate({metric(f'{histogram}_bucket')}[{RATE}])))"
