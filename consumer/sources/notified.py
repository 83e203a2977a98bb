"""From a notification, however it came, to offers for the pipeline; its acknowledgement is that of all its records."""

from collections.abc import Callable
from threading import Lock
from typing import Final

from consumer.metrics.source import SourceMetrics
from consumer.sources.ignored import IgnoredReason
from consumer.sources.interfaces import EmitCommand, FoundObject
from consumer.sources.live_pipeline import LivePipeline
from consumer.sources.model import RejectedError
from consumer.sources.places import Places
from consumer.sources.s3_notifications import parse_notification

_MAX_TEXT: Final = 65_536


class NotificationIntake:
    """Takes notifications from any thread.

    Parameters
    ----------
    pipeline
        Takes the objects.
    places
        The buckets that are read.
    metrics
        Count what is of no interest.
    command
        How the notifications come.
    """

    def __init__(self, pipeline: LivePipeline, places: Places, metrics: SourceMetrics, command: EmitCommand) -> None:
        self._pipeline = pipeline
        self._places = places
        self._metrics = metrics
        self._command = command

    def take(self, body: bytes, done: Callable[[], None]) -> None:
        """Take one message or request; ``done`` is called, by any thread, once it may be acknowledged."""
        try:
            parsed = parse_notification(body)
        except RejectedError as error:
            self._pipeline.offer_rejection(error, self._command, _text(body), done)
            return
        for reason in parsed.ignored:
            self._metrics.ignored.labels(reason).inc()
        part_done = _Countdown(len(parsed.created) + len(parsed.rejected) + 1, done)
        for each in parsed.rejected:
            self._pipeline.offer_rejection(each, self._command, _text(body), part_done)
        for notice in parsed.created:
            place = self._places.bucket(notice.bucket)
            if place is None:
                self._metrics.ignored.labels(IgnoredReason.OUTSIDE).inc()
                part_done()
                continue
            self._pipeline.offer(
                FoundObject(
                    place=place,
                    key=notice.key,
                    tag=notice.tag,
                    command=self._command,
                    notification=notice.text,
                    done=part_done,
                )
            )
        part_done()


class _Countdown:
    """Calls a function at the last of so many calls."""

    def __init__(self, calls: int, done: Callable[[], None]) -> None:
        self._left = calls
        self._done = done
        self._lock = Lock()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._done()


def _text(body: bytes) -> str:
    return body[:_MAX_TEXT].decode("utf-8", "backslashreplace")
