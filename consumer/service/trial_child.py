"""The child process that tries messages: it decodes them and writes their transaction, and may die of it.

Delivery: the writer's, since it is one: all of a batch or nothing, behind the fence. It retries nothing.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

from prometheus_client import CollectorRegistry

from consumer.config import Settings
from consumer.config.resolve import resolve_instruments
from consumer.errors import FatalError, FencedError, TransientError
from consumer.kafka.event_decoder import event_decoder
from consumer.metrics import Metrics
from consumer.process import serve
from consumer.service.app import batch_builder, batch_writer, service_database
from consumer.service.batch import Batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.trials import Trial, TrialResult
from consumer.service.writer import StoppedError, Writer


class TrialRunner:
    """Runs trials one after the other.

    Parameters
    ----------
    new_builder
        Makes a builder that has read nothing.
    writer
        Asked to stop from the beginning: what is transient is retried by the parent.
    """

    def __init__(self, new_builder: Callable[[], BatchBuilder], writer: Writer) -> None:
        self._new_builder = new_builder
        self._writer = writer
        writer.stop()

    def run(self, trial: Trial) -> TrialResult:
        """Decode the messages up to the first bad one, and write them; see `TrialResult`."""
        builder = self._new_builder()
        messages = trial.messages
        try:
            builder.add_partition(trial.lease)
            builder.put(messages, {}, trial.now_ms)
            bad = {letter.message.offset for letter in builder.unaccepted if letter.message is not None}
            if bad:
                good = [each.offset not in bad for each in messages]
                if not good[0]:
                    return TrialResult(bad=(*good, True).index(True))
                builder.add_partition(trial.lease)
                builder.put(messages[: good.index(False)], {}, trial.now_ms)
        except TransientError:
            return TrialResult()
        builder.prefetch()
        batch = builder.take()
        return TrialResult(moved=True) if batch is None else self._write(batch)

    def _write(self, batch: Batch) -> TrialResult:
        try:
            return TrialResult(written=self._writer.write(batch).result())
        except FencedError:
            return TrialResult(moved=True)
        except StoppedError as error:
            return TrialResult(unavailable=str(error.__cause__))
        except FatalError as error:
            return TrialResult(fatal=str(error))


class _Child:
    """Takes the settings first, and trials then."""

    def __init__(self) -> None:
        self._runner: TrialRunner | None = None
        self._open = ExitStack()

    def answer(self, question: object) -> object:
        if self._runner is not None:
            return self._runner.run(cast("Trial", question))
        settings = cast("Settings", question)
        decoder = self._open.enter_context(event_decoder(settings))
        rules = resolve_instruments(settings)
        metrics = Metrics(CollectorRegistry(), instruments=rules)  # the parent counts
        database = service_database(settings, "visit-consumer trial")
        self._runner = TrialRunner(
            lambda: batch_builder(settings, decoder, rules),
            batch_writer(settings, database, rules, metrics, owner="trial"),
        )
        return None


if __name__ == "__main__":
    serve(_Child().answer)
