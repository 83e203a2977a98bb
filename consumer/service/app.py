"""The composition root: settings become objects that know each other. The only place that wires."""

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from time import time_ns

from prometheus_client import CollectorRegistry

from consumer import __version__
from consumer.config import Settings
from consumer.config.resolve import resolve_instruments, resolve_obscore
from consumer.domain import Instrument
from consumer.events import Decoder
from consumer.events.visit_defined import announcer
from consumer.kafka.announcer import KafkaAnnouncer
from consumer.kafka.event_decoder import event_decoder
from consumer.kafka.properties import ACKNOWLEDGED_WITHIN_S, connection_properties, consumer_properties
from consumer.kafka.source import KafkaSource, librdkafka_version
from consumer.logs import get_logger
from consumer.metrics import Metrics
from consumer.model import RebalanceListener
from consumer.postgres.batch_tables import BatchStore
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database
from consumer.postgres.migrate import check_schema, migrate, store_visit_systems
from consumer.postgres.offsets import Positions
from consumer.postgres.outbox import Outbox
from consumer.postgres.replicas import HEARTBEAT_SESSION, Heartbeats
from consumer.process import stops_on_signals, tune_interpreter
from consumer.read.audit.last import read_last_audits
from consumer.service.batch_builder import BatchBuilder
from consumer.service.heartbeat import Heartbeat
from consumer.service.loop import ConsumerLoop
from consumer.service.outbox_relay import OutboxRelay
from consumer.service.reporter import Reporter
from consumer.service.runtime import SYSTEM
from consumer.service.trials import WarmTrialChild
from consumer.service.writer import Writer
from consumer.web import HttpServer, read_only_port

_RELAY_SLACK_S = 20.0
"""What a relay may be late before PostgreSQL takes it for frozen."""


class Application:
    """One replica: the loop, its writer, its port.

    Parameters
    ----------
    settings
        Validated.

    Raises
    ------
    ConfigurationError
        When a rule, an algorithm, a camera or the port cannot be had.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._log = get_logger(__name__)
        self.rules = resolve_instruments(settings)
        self.metrics = Metrics(CollectorRegistry(), instruments=self.rules, process=True)
        self.metrics.build_info.labels(__version__, librdkafka_version()).set(1)
        self.reporter = Reporter(self.metrics, SYSTEM, stalled_after_s=settings.http.stalled_after_s)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises
        ------
        FatalError
            When going on would be wrong or useless; the process should end with a non-zero code.
        """
        http = self._settings.http
        with ExitStack() as stack:
            if http.enabled:
                server = HttpServer(http.host, http.port, read_only_port(self.metrics.registry, self.reporter))
                stack.callback(server.stop)
                server.start()
            heartbeat = self._heartbeat()
            loop, relay = self._loop_and_relay(stack.enter_context(event_decoder(self._settings)), heartbeat)

            def stop() -> None:
                loop.stop()
                relay.stop()

            stack.enter_context(stops_on_signals(stop, timeout_s=self._settings.shutdown.timeout_s, log=self._log))
            # By then the relay has had as long as the loop to end; the watchdog still has something left.
            stack.callback(relay.close, self._settings.shutdown.timeout_s / 16)
            stack.callback(heartbeat.close, self._settings.shutdown.timeout_s / 32)
            tune_interpreter(two_threads=True)
            loop.run()
            if relay.failure is not None:
                raise relay.failure

    def _loop_and_relay(self, decoder: Decoder, heartbeat: Heartbeat) -> tuple[ConsumerLoop, OutboxRelay]:
        settings = self._settings
        database = service_database(settings, f"visit-consumer {self._owner}")
        writer = batch_writer(settings, database, self.rules, self.metrics, owner=self._owner)
        builder = batch_builder(settings, decoder, self.rules)

        def prepare() -> None:
            check_schema(database)
            store_visit_systems(database, {name: each.rule.visit_systems for name, each in self.rules.items()})
            relay.start()
            heartbeat.start()

        service = ConsumerLoop(
            self._connect,
            writer,
            builder,
            self.reporter,
            settings,
            runtime=SYSTEM,
            prepare=prepare,
            trial_child=WarmTrialChild(settings),
        )
        relay = self._relay(service.stop)
        return service, relay

    def _heartbeat(self) -> Heartbeat:
        database = Database(
            self._settings.database,
            application_name=f"visit-consumer heartbeat {self._owner}",
            session=HEARTBEAT_SESSION,
        )
        group = self._settings.kafka.group
        table = Heartbeats(database, owner=self._owner, consumer_group=group, version=__version__)

        def look() -> None:
            for each in read_last_audits(database):
                self.metrics.night_audited(each.instrument, each.found, at_s=each.audited_at.timestamp())

        return Heartbeat(table, self.reporter, runtime=SYSTEM, look=look)

    def _relay(self, give_up: Callable[[], None]) -> OutboxRelay:
        settings = self._settings
        topic = settings.announce.topic
        # A frozen process keeps its session, and with it the lock that lets it alone announce. The session of one that
        # lives is idle for as long as the brokers may take to acknowledge and a rest lasts.
        idle_s = ACKNOWLEDGED_WITHIN_S + settings.announce.interval_s + _RELAY_SLACK_S
        database = Database(
            settings.database,
            application_name=f"visit-consumer relay {self._owner}",
            session={"idle_session_timeout": f"{round(idle_s)}s"},
        )
        outbox = Outbox(database, lease_s=idle_s)
        connect = None if topic is None else lambda: KafkaAnnouncer(connection_properties(settings.kafka), topic)
        return OutboxRelay(
            outbox,
            connect,
            self.metrics,
            settings,
            give_up=give_up,
            runtime=SYSTEM,
        )

    def _connect(self, listener: RebalanceListener) -> KafkaSource:
        kafka = self._settings.kafka
        return KafkaSource(
            consumer_properties(kafka, client_id=f"visit-consumer-{self._owner}"),
            connection_properties(kafka),
            kafka.topics,
            listener,
        )


def service_database(settings: Settings, application_name: str) -> Database:
    """Make the session in which batches are written."""
    return Database(settings.database, application_name=application_name, session=LOOKS_UP_BY_KEY)


def batch_writer(
    settings: Settings, database: Database, rules: Mapping[str, Instrument], metrics: Metrics, *, owner: str
) -> Writer:
    """Make what writes batches, as the service does and the child process in which messages are tried."""
    return Writer(
        BatchStore(database, resolve_obscore(settings)),
        Positions(database, consumer_group=settings.kafka.group, owner=owner),
        rules,
        metrics,
        announce=announcer(settings.announce.topic, now_ns=time_ns),
        retry_max_s=settings.database.retry_max_s,
        runtime=SYSTEM,
    )


def batch_builder(settings: Settings, decoder: Decoder, rules: Mapping[str, Instrument]) -> BatchBuilder:
    """Make what gathers messages, for both."""
    return BatchBuilder(decoder, rules, max_clock_skew_ms=round(settings.closing.max_clock_skew_s * 1000))


def migrate_database(settings: Settings) -> list[str]:
    """Bring the schema up to date; return the names of the migrations that were applied."""
    with Database(settings.database, application_name="visit-consumer migrate") as database:
        applied = migrate(database, obscore_schema=settings.obscore.view_schema)
    return [f"{each.version:04d}_{each.name}" for each in applied]
