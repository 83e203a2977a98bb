"""The board *service*: does it work? Read from the top: a healthy service shows nothing red in the first row."""

from deploy.dashboards.board import Board
from deploy.dashboards.butler import butler_panels
from deploy.dashboards.panels import GOOD_AT_ZERO, PanelBuilder, distribution, lines, listing, number
from deploy.dashboards.queries import RATE, buckets, metric, now, over_time
from deploy.dashboards.sources import source_panels

_IN_TIME = metric("visit_latency_seconds_bucket", 'reason="complete"', 'le="30.0"', by_instrument=True)
_COMPLETE = metric("visit_latency_seconds_count", 'reason="complete"', by_instrument=True)
_NEW_VISITS = metric("visits_written_total", 'result="new"', by_instrument=True)
_NEW_RAWS = metric("events_total", 'outcome="new"', by_instrument=True)
_PARTITION = "{{topic}}[{{partition}}]"


def service_board() -> Board:
    """Return the board; every panel reads Prometheus."""
    return (
        Board(
            "visit-consumer-service",
            "Visit consumer: service",
            "Does the service work? Alerts and what to do: deploy/RUNBOOK.md",
            span="now-12h",
            refresh="30s",
            datasource="prometheus",
        )
        .choice(
            "job",
            "label_values(visit_consumer_build_info, job)",
            label="job",
            description="Installations, by the job under which Prometheus scrapes them.",
            many=True,
        )
        .choice(
            "instrument",
            'label_values(visit_consumer_events_total{job=~"$job"}, instrument)',
            label="instrument",
            description="Configured instruments, and 'unknown' for all others.",
            many=True,
        )
        .row("Is it working?", _overview())
        .row("Events", _events())
        .row("Groups and visits", _groups())
        .row("Latency", _latency())
        .row("Database and announcements", _database())
        .row("Kafka", _kafka())
        .row("Emitters: from files to events", source_panels())
        .row("Butler: visits into a registry", butler_panels())
        .row("Pods", _pods())
    )


def _overview() -> list[PanelBuilder]:
    in_range = "$__range"
    return [
        number(
            "Ready replicas",
            "Replicas whose /readyz says yes.",
            now(f"sum({metric('ready')})"),
            steps=((None, "red"), (1, "green")),
            empty="no target",
        ),
        number(
            "Visits in time",
            "The objective: 99 % of the visits of complete groups are in the tables 30 s after the last raw that they "
            "needed. Over the range of the board.",
            now(f"sum(increase({_IN_TIME}[{in_range}])) / (sum(increase({_COMPLETE}[{in_range}])) > 0)"),
            unit="percentunit",
            steps=((None, "red"), (0.99, "green")),
            empty="no visit",
        ),
        number(
            "Age of the oldest waiting message",
            "How long ago the oldest message was stamped that is read but not committed. 0 while nothing waits.",
            over_time(f"max(time() - ({metric('oldest_unprocessed_timestamp_seconds')} > 0)) or vector(0)", "age"),
            unit="s",
            steps=((None, "green"), (30, "orange"), (60, "red")),
        ),
        number(
            "Messages behind",
            "Messages in the log after our stored positions.",
            over_time(f"sum({metric('lag_messages')})", "lag"),
            steps=((None, "green"), (100_000, "orange")),
        ),
        number(
            "Since the last visit",
            "Wall clock since a visit was last written; by day that is long, and nothing is wrong.",
            now(f"time() - max({metric('last_visit_timestamp_seconds', by_instrument=True)} > 0)"),
            unit="s",
            empty="none yet",
        ),
        number(
            "Since the last progress",
            "Since a batch was committed or the end of the log was seen; a healthy replica is below a few seconds.",
            now(f"time() - max({metric('last_progress_timestamp_seconds')} > 0)"),
            unit="s",
            steps=((None, "green"), (60, "orange"), (120, "red")),
            empty="none yet",
        ),
        number(
            "New visits",
            "Visits written for the first time, in the range of the board.",
            now(f"sum(increase({_NEW_VISITS}[{in_range}]))"),
        ),
        number(
            "Raws",
            "New raws, in the range of the board.",
            now(f"sum(increase({_NEW_RAWS}[{in_range}]))"),
        ),
        number(
            "Dead letters",
            "Dead letters written in the range of the board. Which: visit-consumer dead-letters list",
            now(f"sum(increase({metric('dead_letters_total')}[{in_range}]))"),
            steps=GOOD_AT_ZERO,
        ),
        number(
            "Groups waiting", "Groups that wait for exposures.", over_time(f"sum({metric('open_groups')})", "groups")
        ),
        number(
            "Breaker",
            "1 while too many messages are bad and reading is paused, until an operator resumes it.",
            now(f"max({metric('breaker_open')})"),
            steps=GOOD_AT_ZERO,
        ),
        number(
            "Firing alerts",
            "Alerts of this service that fire now.",
            now('count(ALERTS{alertname=~"VisitConsumer.*",alertstate="firing"}) or vector(0)'),
            steps=GOOD_AT_ZERO,
        ),
    ]


def _events() -> list[PanelBuilder]:
    return [
        lines(
            "Messages by outcome",
            "Committed messages a second. 'bad' and 'contradicting' become dead letters, 'repeated' change nothing.",
            [
                over_time(
                    f"sum by (outcome) (rate({metric('events_total', by_instrument=True)}[{RATE}]))", "{{outcome}}"
                )
            ],
            unit="cps",
            stacked=True,
        ),
        lines(
            "Messages by instrument",
            "Committed messages a second.",
            [
                over_time(
                    f"sum by (instrument) (rate({metric('events_total', by_instrument=True)}[{RATE}]))",
                    "{{instrument}}",
                )
            ],
            unit="cps",
        ),
        lines(
            "Dead letters by reason",
            "In each step of the graph. The reasons are explained in deploy/RUNBOOK.md.",
            [
                over_time(
                    f"sum by (reason) (increase({metric('dead_letters_total')}[{RATE}])) > 0",
                    "{{reason}}",
                )
            ],
            stacked=True,
        ),
        lines(
            "Skipped exposures",
            "Exposures that define no visit, and why: closed dome, no pointing, first of a run missing.",
            [
                over_time(
                    f"sum by (reason) (increase({metric('exposures_skipped_total', by_instrument=True)}[{RATE}]))",
                    "{{reason}}",
                )
            ],
            stacked=True,
            width=6,
        ),
        lines(
            "Messages in a batch",
            "Median and 95th percentile of committed batches: small while up to date, large while catching up.",
            [
                over_time(_quantile(0.5, "batch_messages", "le"), "median"),
                over_time(_quantile(0.95, "batch_messages", "le"), "95 %", ref="B"),
            ],
            logarithmic=True,
            width=6,
        ),
        lines(
            "Answers that a batch waits for",
            "Round trips to PostgreSQL in the transaction of a batch, 95th percentile; each takes the network's time.",
            [over_time(_quantile(0.95, "batch_round_trips", "le"), "95 %")],
            width=6,
        ),
        lines(
            "Stamps in the future",
            "Messages whose time stamp was cut because it lay too far ahead: a producer's clock is wrong.",
            [over_time(f"sum(increase({metric('clock_skew_clamped_total')}[{RATE}]))", "messages")],
            width=6,
        ),
    ]


def _groups() -> list[PanelBuilder]:
    closed = metric("groups_closed_total", by_instrument=True)
    written = metric("visits_written_total", by_instrument=True)
    return [
        lines(
            "Groups closed, by reason",
            "'complete' is the healthy case. 'idle' and 'age' mean that an announced exposure never came.",
            [over_time(f"sum by (reason) (increase({closed}[{RATE}]))", "{{reason}}")],
            stacked=True,
        ),
        lines(
            "Visits by result",
            "'conflict': two groups claim one id or name, see the runbook. 'unchanged' is a repeat.",
            [over_time(f"sum by (result) (increase({written}[{RATE}]))", "{{result}}")],
            stacked=True,
        ),
        lines(
            "Late exposures",
            "Exposures that came after their group had closed; the visit is defined again (or kept, by setting).",
            [
                over_time(
                    f"sum by (instrument) (increase({metric('late_exposures_total', by_instrument=True)}[{RATE}]))",
                    "{{instrument}}",
                )
            ],
            stacked=True,
        ),
        lines(
            "Open groups",
            "Groups that wait on a partition's clock.",
            [over_time(f"sum by (topic, partition) ({metric('open_groups')})", _PARTITION)],
        ),
        lines(
            "Age of the oldest open group",
            "On stream time, the clock by which groups close: it stands still in a pause, and so does this age.",
            [
                over_time(
                    f"max by (topic, partition) ({metric('stream_timestamp_seconds')} - "
                    f"({metric('oldest_open_group_timestamp_seconds')} > 0))",
                    _PARTITION,
                )
            ],
            unit="s",
        ),
        lines(
            "Detectors without a region",
            "Detectors that had a raw but got no region, in the latest visits: the camera's geometry lacks them.",
            [
                over_time(
                    f"max by (instrument) ({metric('detector_regions_missing', by_instrument=True)})",
                    "{{instrument}}",
                )
            ],
        ),
        lines(
            "Findings of the last audit",
            "Of the newest audited night of each instrument; which they are: board night, or visit-consumer audit.",
            [
                over_time(
                    f"max by (instrument, severity) ({metric('audit_findings', by_instrument=True)}) > 0",
                    "{{instrument}} {{severity}}",
                )
            ],
            width=12,
        ),
        lines(
            "Age of the last audit",
            "Of the newest audited night; nothing where no audit was stored.",
            [
                over_time(
                    f"min by (instrument) (time() - ({metric('audit_timestamp_seconds', by_instrument=True)} > 0))",
                    "{{instrument}}",
                )
            ],
            unit="s",
            width=12,
        ),
    ]


def _latency() -> list[PanelBuilder]:
    seconds = metric("visit_latency_seconds_bucket", 'reason="complete"', by_instrument=True)
    stages = metric("stage_duration_seconds_sum")
    return [
        distribution(
            "Latency of visits of complete groups",
            "From the time stamp of the last message that a visit needed to the commit of its rows.",
            buckets(f"sum by (le) (increase({seconds}[{RATE}]))"),
            unit="s",
        ),
        lines(
            "Latency, quantiles",
            "Of visits of complete groups. The objective allows 1 % above 30 s.",
            [
                over_time(f"histogram_quantile({q}, sum by (le) (rate({seconds}[{RATE}])))", legend, ref=ref)
                for q, legend, ref in ((0.5, "median", "A"), (0.95, "95 %", "B"), (0.99, "99 %", "C"))
            ],
            unit="s",
            width=12,
            logarithmic=True,
        ),
        lines(
            "Late visits, as a multiple of what the objective allows",
            "1: the error budget is just used up. FastBurn fires above 14.4 over 1 h and 5 min, SlowBurn above 3 over "
            "6 h and 30 min.",
            [
                over_time(
                    f"(1 - sum(rate({_IN_TIME}[{window}])) / (sum(rate({_COMPLETE}[{window}])) > 0)) / 0.01",
                    window,
                    ref=ref,
                )
                for window, ref in (("5m", "A"), ("1h", "B"), ("6h", "C"))
            ],
        ),
        lines(
            "Where the time goes",
            "Seconds of work in a second, by stage, over all replicas: one replica can use 1.",
            [over_time(f"sum by (stage) (rate({stages}[{RATE}]))", "{{stage}}")],
            unit="s",
            stacked=True,
        ),
        lines(
            "Stages of a batch, 95th percentile",
            "Time that one batch spends in each stage.",
            [over_time(_quantile(0.95, "stage_duration_seconds", "stage, le"), "{{stage}}")],
            unit="s",
            logarithmic=True,
        ),
    ]


def _database() -> list[PanelBuilder]:
    return [
        lines(
            "Errors of PostgreSQL",
            "By SQLSTATE class. 08, 40, 53, 55, 57 and 'connection' are retried for ever; 22 and 23 are bisected to "
            "dead letters; 28 and 42 end the process.",
            [over_time(f"sum by (class) (increase({metric('db_errors_total')}[{RATE}])) > 0", "{{class}}")],
            stacked=True,
            width=6,
        ),
        lines(
            "Batches",
            "Committed, cut in two because a row was refused, and dropped because another replica holds the partition.",
            [
                over_time(f"sum(increase({metric('batches_total')}[{RATE}]))", "committed"),
                over_time(f"sum(increase({metric('bisections_total')}[{RATE}]))", "bisected", ref="B"),
                over_time(f"sum(increase({metric('fenced_total')}[{RATE}]))", "fenced", ref="C"),
            ],
            width=6,
        ),
        lines(
            "Announcements waiting",
            "Announcements of visits that are written but not sent, and since when the oldest waits.",
            [
                over_time(f"max({metric('outbox_backlog')})", "waiting"),
                over_time(
                    f"max(time() - ({metric('oldest_outbox_timestamp_seconds')} > 0)) or vector(0)",
                    "age of the oldest [s]",
                    ref="B",
                ),
            ],
            width=6,
        ),
        lines(
            "Announcements sent",
            "Acknowledged by the broker, and failed ones, which are repeated.",
            [
                over_time(f"sum(rate({metric('announcements_sent_total')}[{RATE}]))", "sent"),
                over_time(f"sum(rate({metric('announcement_errors_total')}[{RATE}]))", "failed", ref="B"),
            ],
            unit="cps",
            width=6,
        ),
    ]


def _kafka() -> list[PanelBuilder]:
    def partition(title: str, why: str, expression: str, unit: str = "short") -> PanelBuilder:
        return lines(title, why, [over_time(expression, _PARTITION)], unit=unit)

    return [
        partition(
            "Messages behind, by partition",
            "Offsets between the stored position and the end of the log.",
            f"sum by (topic, partition) ({metric('lag_messages')})",
        ),
        partition(
            "Messages a second, by partition",
            "How fast the stored positions move.",
            f"sum by (topic, partition) (deriv({metric('position_offset')}[{RATE}]))",
            "cps",
        ),
        partition(
            "Partitions that are read",
            "0: paused or stalled. A gap: no replica holds it.",
            f"max by (topic, partition) ({metric('partition_up')})",
        ),
        partition(
            "Stream time behind the wall clock",
            "Age of the newest message read: the camera's rhythm by night, growing by day.",
            f"min by (topic, partition) (time() - ({metric('stream_timestamp_seconds')} > 0))",
            "s",
        ),
        lines(
            "Partitions and rebalances",
            "Partitions of each replica, and changes of them.",
            [
                over_time(metric("partitions_assigned"), "partitions of {{instance}}"),
                over_time(f"sum by (event) (increase({metric('rebalances_total')}[{RATE}]))", "{{event}}", ref="B"),
            ],
        ),
        lines(
            "Errors of Kafka and the schema registry",
            "What the Kafka client reported, and failed requests to the registry.",
            [
                over_time(f"sum(increase({metric('kafka_errors_total')}[{RATE}]))", "Kafka"),
                over_time(f"sum(increase({metric('registry_errors_total')}[{RATE}]))", "registry", ref="B"),
            ],
        ),
    ]


def _pods() -> list[PanelBuilder]:
    selector = '{job=~"$job"}'
    return [
        lines(
            "Processor",
            "Seconds of processor time in a second.",
            [over_time(f"rate(process_cpu_seconds_total{selector}[{RATE}])", "{{instance}}")],
            unit="s",
            width=6,
        ),
        lines(
            "Memory",
            "Resident memory.",
            [over_time(f"process_resident_memory_bytes{selector}", "{{instance}}")],
            unit="bytes",
            width=6,
        ),
        lines(
            "Open files",
            "As a part of what the process may open.",
            [over_time(f"process_open_fds{selector} / process_max_fds{selector}", "{{instance}}")],
            unit="percentunit",
            width=6,
        ),
        listing(
            "What runs",
            "Versions, and since when.",
            now(
                f"{metric('build_info')} * on (job, instance) group_left () "
                f"(1000 * process_start_time_seconds{selector})",
                as_table=True,
            ),
            units={"Value": "dateTimeAsIso"},
            hidden=("Time", "__name__", "endpoint", "container", "namespace"),
            width=6,
        ),
    ]


def _quantile(quantile: float, histogram: str, by: str) -> str:
    return f"histogram_quantile({quantile}, sum by ({by}) (rate({metric(f'{histogram}_bucket')}[{RATE}])))"
