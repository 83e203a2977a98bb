"""The row of the board *service* for sinks, which write visits into Butler registries."""

from deploy.dashboards.panels import PanelBuilder, lines
from deploy.dashboards.queries import RATE, metric, over_time


def butler_panels() -> list[PanelBuilder]:
    """Return the panels; all are empty where no sink runs."""
    return [
        lines(
            "Visits into the registry",
            "Revisions of visits a second, by what became of them. 'same': the registry had them already.",
            [over_time(f"sum by (result) (rate({metric('butler_visits_total')}[{RATE}]))", "{{result}}")],
            unit="cps",
            stacked=True,
            width=8,
        ),
        lines(
            "Processes and batches",
            "Sinks that write; others of the same name stand by. And the time of a batch, 95th percentile.",
            [
                over_time(f"sum({metric('butler_active')})", "writing"),
                over_time(
                    "histogram_quantile(0.95, sum by (le) "
                    f"(rate({metric('butler_batch_duration_seconds_bucket')}[{RATE}])))",
                    "seconds of a batch",
                    ref="B",
                ),
            ],
            width=8,
        ),
        lines(
            "Visits that the registry lacks",
            "Pending: all of them. Waiting: for exposures, or for their instrument.",
            [
                over_time(f"max({metric('butler_pending_visits')})", "pending"),
                over_time(f"max({metric('butler_waiting_visits')})", "waiting", ref="B"),
            ],
            width=8,
        ),
        lines(
            "Ages at the sink",
            "Since the visit that the registry lacks for longest was written, and since the sink's last turn.",
            [
                over_time(
                    f"max(time() - ({metric('butler_oldest_pending_timestamp_seconds')} > 0)) or vector(0)",
                    "oldest pending visit",
                ),
                over_time(
                    f"max by (instance) (time() - ({metric('butler_last_turn_timestamp_seconds')} > 0))",
                    "last turn of {{instance}}",
                    ref="B",
                ),
            ],
            unit="s",
            width=12,
            logarithmic=True,
        ),
        lines(
            "Visits that differ, and errors",
            "Kept: regions of another client. Which: visit-consumer butler-sink --list. Errors: a database was away.",
            [
                over_time(f"max by (state) ({metric('butler_noted_visits')})", "{{state}}"),
                over_time(f"sum(increase({metric('butler_errors_total')}[{RATE}]))", "errors", ref="B"),
            ],
            width=12,
        ),
    ]
