"""The composition root: settings become objects that know each other. The only place that wires."""

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from time import time_ns
from types import FrameType

from prometheus_client import CollectorRegistry

from consumer import __version__
from consumer.config import Settings
from consumer.config.resolve import resolve_instruments
from consumer.domain import Instrument
from consumer.events import Decoder
from consumer.events.visit_defined import announcer
from consumer.kafka.announcer import KafkaAnnouncer
from consumer.kafka.properties import ACKNOWLEDGED_WITHIN_S, connection_properties, consumer_properties
from consumer.kafka.schema_registry import event_decoder
from consumer.kafka.source import KafkaSource, librdkafka_version
from consumer.logs import get_logger
from consumer.metrics import Metrics
from consumer.model import RebalanceListener
from consumer.postgres.batch_tables import BatchStore
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database
from consumer.postgres.migrate import check_schema, migrate, store_visit_systems
from consumer.postgres.offsets import Positions
from consumer.postgres.outbox import Outbox
from consumer.service.batch_builder import BatchBuilder
from consumer.service.loop import ConsumerLoop
from consumer.service.outbox_relay import OutboxRelay
from consumer.service.reporter import Reporter
from consumer.service.runtime import SYSTEM
from consumer.service.trials import WarmTrialChild
from consumer.service.writer import Writer
from consumer.web import HttpServer, read_only_port

WATCHDOG_EXIT_CODE = 70
"""EX_SOFTWARE: a shutdown that hung was ended by force. Nothing is lost by it."""
_SWITCH_INTERVAL_S = 0.0003
_COLLECT_AFTER = 10_000
"""Objects more than there were at the last look of the garbage collector."""
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
            loop, relay = self._loop_and_relay(stack.enter_context(event_decoder(self._settings)))
            stack.callback(self._handle_signals(loop, relay))
            # By then the relay has had as long as the loop to end; the watchdog still has something left.
            stack.callback(relay.close, self._settings.shutdown.timeout_s / 16)
            _tune_interpreter()
            loop.run()
            if relay.failure is not None:
                raise relay.failure

    def _loop_and_relay(self, decoder: Decoder) -> tuple[ConsumerLoop, OutboxRelay]:
        settings = self._settings
        database = service_database(settings, f"visit-consumer {self._owner}")
        writer = batch_writer(settings, database, self.rules, self.metrics, owner=self._owner)
        builder = batch_builder(settings, decoder, self.rules)

        def prepare() -> None:
            check_schema(database)
            store_visit_systems(database, {name: each.rule.visit_systems for name, each in self.rules.items()})
            relay.start()

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

    def _handle_signals(self, loop: ConsumerLoop, relay: OutboxRelay) -> Callable[[], None]:
        """Stop the service on SIGTERM and SIGINT; return what restores the former handlers."""

        def stop(number: int, _: FrameType | None) -> None:
            # Flags first: a log line that was interrupted by the signal may make the one here fail.
            loop.stop()
            relay.stop()
            if watchdog.ident is None:  # a second signal is no second start
                watchdog.start()
            self._log.info("asked to stop", signal=signal.Signals(number).name)

        def exit_now() -> None:
            self._log.error("the shutdown hangs, ended by force", timeout_s=self._settings.shutdown.timeout_s)
            os._exit(WATCHDOG_EXIT_CODE)

        watchdog = threading.Timer(self._settings.shutdown.timeout_s, exit_now)
        watchdog.daemon = True
        former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}

        def restore() -> None:
            watchdog.cancel()
            for number, handler in former.items():
                signal.signal(number, handler)

        return restore


def service_database(settings: Settings, application_name: str) -> Database:
    """Make the session in which batches are written."""
    return Database(settings.database, application_name=application_name, session=LOOKS_UP_BY_KEY)


def batch_writer(
    settings: Settings, database: Database, rules: Mapping[str, Instrument], metrics: Metrics, *, owner: str
) -> Writer:
    """Make what writes batches, as the service does and the child process in which messages are tried."""
    return Writer(
        BatchStore(database),
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


def _tune_interpreter() -> None:
    """Set up Python for two threads of which one computes and the other mostly waits for PostgreSQL.

    The writer needs Python's lock for a moment after each statement, and would get it from the decoding loop only after
    5 ms, which add up to more than the statements take. And a batch makes tens of thousands of objects that live for
    one batch and hold no cycles: to look through them every 700 objects finds nothing.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])


def migrate_database(settings: Settings) -> list[str]:
    """Bring the schema up to date; return the names of the migrations that were applied."""
    with Database(settings.database, application_name="visit-consumer migrate") as database:
        return [f"{each.version:04d}_{each.name}" for each in migrate(database)]
