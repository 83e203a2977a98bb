"""Which rejections stand: the latest of each object, without those that became an event."""

from collections.abc import Iterator

from consumer.kafka.whole_topic import StoredMessage
from consumer.sources.interfaces import EmitCommand
from consumer.sources.model import RejectedError, RejectReason
from consumer.sources.rejections import open_rejections
from tests.support.emitting import Bench, key_of


def messages(bench: Bench) -> Iterator[StoredMessage]:
    return (StoredMessage(each.key, each.value, 0) for each in bench.sent("raw-rejected"))


def test_the_latest_rejection_of_each_object_stands() -> None:
    bench = Bench()
    for reason in (RejectReason.BAD_HEADER, RejectReason.INVALID_VALUE):
        for number in (1, 2):
            bench.store.objects[key_of(number)] = RejectedError(reason, "bad", uri="x")
            bench.offer(key_of(number), tag=reason)
        bench.run(passing_s=1)
    for _ in range(2):
        error = RejectedError(RejectReason.BAD_NOTIFICATION, "bad", uri="notification")
        bench.pipeline.offer_rejection(error, EmitCommand.LISTEN, "{}", lambda: None)
    bench.run(passing_s=1)
    standing = open_rejections(messages(bench))
    assert [(each.reason, each.uri) for each in standing] == [
        ("invalid_value", f"s3://raws/{key_of(1)}"),
        ("invalid_value", f"s3://raws/{key_of(2)}"),
        ("bad_notification", None),
        ("bad_notification", None),
    ]
    assert standing[0].rejected_at.timestamp() * 1000 == bench.now_ms - 1000


def test_what_became_an_event_and_what_another_release_wrote_is_not_listed() -> None:
    bench = Bench()
    bench.store.objects[key_of()] = RejectedError(RejectReason.BAD_HEADER, "bad", uri="x")
    bench.offer(key_of())
    bench.run()
    (rejection,) = messages(bench)
    other = StoredMessage(b"other", b"\xc3\x01 of another schema", 0)
    assert len(open_rejections([rejection, other])) == 1
    assert open_rejections([rejection, rejection._replace(value=None)]) == []
