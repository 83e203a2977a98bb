"""The pipeline: one event for a raw, nothing acknowledged too early, nothing blocked by what waits."""

import subprocess
import sys
from dataclasses import replace

import pytest

from consumer.config.source_places import PatternSettings
from consumer.sources.configured import compiled
from consumer.sources.interfaces import EmitCommand
from consumer.sources.live_pipeline import MAX_IN_FLIGHT
from consumer.sources.model import Header, NotReadableYetError, RejectedError, RejectReason, SourceRecord
from consumer.sources.waiting import WaitingObject
from tests.support.documents import ROOT
from tests.support.emitting import (
    BUCKET,
    FOLDER,
    Bench,
    PlainTranslator,
    decode,
    header,
    key_of,
    sensors,
    sensors_key,
)

INCOMPLETE = NotReadableYetError(RejectReason.TRUNCATED, "cut off", uri=key_of())
EXPOSURE = 2026110100001


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_object_becomes_an_event_and_is_acknowledged_once_the_brokers_have_it(bench: Bench) -> None:
    bench.producer.answering = False
    bench.store.objects[key_of()] = header()
    bench.offer(key_of())
    bench.run()
    assert bench.raws() == [(EXPOSURE, 94)]
    assert not bench.done
    assert bench.pipeline.in_flight == 1
    bench.producer.answering = True
    bench.run()
    assert bench.done == {key_of(): 1}
    assert bench.pipeline.in_flight == 0
    (sent,) = bench.producer.sent
    assert sent.key == b"LSSTCam/2026-11-02T00:00:00.001"
    assert decode(sent.value)["uri"] == f"s3://raws/{key_of()}"
    assert bench.count("events_total", instrument="LSSTCam") == 1


@pytest.mark.parametrize("first", ["json", "fits"])
def test_sidecar_and_fits_file_of_one_raw_are_one_event(bench: Bench, first: str) -> None:
    second = {"json": "fits.fz", "fits": "json"}[first]
    for extension in (first, second):
        bench.store.objects[key_of(extension=extension)] = header()
    bench.offer(key_of(extension=first))
    bench.offer(key_of(extension=second))
    bench.run()
    bench.offer(key_of(extension=second))
    bench.run()
    assert bench.raws() == [(EXPOSURE, 94)]
    assert bench.done == {key_of(extension=first): 1, key_of(extension=second): 2}
    assert bench.store.reads == {key_of(extension=first): 1}
    assert bench.count("ignored_total", reason="duplicate") == 2


def test_the_second_object_of_a_raw_suffices_where_the_first_does_not(bench: Bench) -> None:
    bench.store.objects[key_of(extension="fits")] = INCOMPLETE
    bench.store.objects[key_of()] = header()
    bench.offer(key_of(extension="fits"))
    bench.offer(key_of())
    bench.run()
    assert bench.raws() == [(EXPOSURE, 94)]
    assert set(bench.waiting()) == {f"s3://raws/{key_of(extension='fits')}"}
    bench.run(passing_s=2)
    assert bench.waiting() == {}
    assert bench.raws() == [(EXPOSURE, 94)]


def test_content_that_changed_is_read_again(bench: Bench) -> None:
    bench.store.objects[key_of()] = header()
    bench.offer(key_of(), tag="a")
    bench.run()
    bench.offer(key_of(), tag="b")
    bench.run()
    assert bench.store.reads[key_of()] == 2


def test_what_cannot_be_read_waits_with_growing_pauses_and_blocks_nothing(bench: Bench) -> None:
    bench.store.objects[key_of(2)] = header(2)
    bench.offer(key_of(1))
    bench.offer(key_of(2))
    bench.run()
    assert bench.done == {key_of(1): 1, key_of(2): 1}
    assert bench.raws() == [(EXPOSURE + 1, 94)]
    pauses = []
    for _ in range(5):
        (entry,) = bench.waiting().values()
        pauses.append((entry.next_try_ms - bench.now_ms) / 1000)
        bench.run(passing_s=pauses[-1])
    assert pauses == [1, 2, 4, 8, 8]
    assert bench.count("retries_total") == 5
    bench.store.objects[key_of(1)] = header(1)
    bench.run(passing_s=8)
    assert bench.raws()[1:] == [(EXPOSURE, 94)]
    assert bench.waiting() == {}
    assert bench.done[key_of(1)] == 1


def test_what_cannot_be_read_for_too_long_is_rejected(bench: Bench) -> None:
    bench.offer(key_of())
    for _ in range(100):
        bench.run(passing_s=1)
    (rejection,) = bench.rejections()
    assert (rejection["reason"], rejection["uri"]) == ("missing", f"s3://raws/{key_of()}")
    assert rejection["attempts"] > 5
    assert rejection["command"] == "listen"
    assert rejection["notification"] == "{}"
    assert bench.waiting() == {}
    assert bench.count("rejected_total", reason="missing") == 1
    assert bench.pipeline.idle


def test_a_file_that_goes_on_growing_is_not_given_up(bench: Bench) -> None:
    bench.store.objects[key_of()] = INCOMPLETE
    for turn in range(100):
        bench.offer(key_of(), place=FOLDER, tag=str(turn))
        bench.run(passing_s=1)
    assert bench.rejections() == []
    bench.store.objects[key_of()] = header()
    bench.run(passing_s=8)
    assert bench.raws() == [(EXPOSURE, 94)]
    assert bench.pipeline.idle


def test_a_rejected_object_is_acknowledged_once_the_brokers_have_the_rejection(bench: Bench) -> None:
    bench.producer.answering = False
    bench.store.objects[key_of()] = {"SEQNUM": 1}
    bench.offer(key_of())
    bench.run()
    assert not bench.done
    bench.producer.answering = True
    bench.run()
    assert bench.done == {key_of(): 1}
    assert bench.rejections()[0]["detail"] == "the header has no INSTRUME"


def test_a_library_that_fails_on_one_object_harms_no_other(bench: Bench) -> None:
    bench.store.objects = {key_of(1): ZeroDivisionError("division by zero"), key_of(2): header(2)}
    bench.offer(key_of(1))
    bench.offer(key_of(2))
    bench.run()
    assert [each["reason"] for each in bench.rejections()] == ["failed"]
    assert bench.raws() == [(EXPOSURE + 1, 94)]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("LATISS/20261101/AT_O_20261101_000001/AT_O_20261101_000001_R00_S00.json", "outside"),
        ("LSSTCam/../secret/x.json", "outside"),
        ("LSSTCam//x.json", "outside"),
        ("LSSTCam/20261101/preview.png", "no_pattern"),
        (key_of(extension="fits").replace("R22_S11", "R22_S11_guider"), "no_pattern"),
    ],
)
def test_what_is_no_raw_or_lies_elsewhere_is_ignored_unread(bench: Bench, key: str, reason: str) -> None:
    bench.offer(key)
    bench.run()
    assert bench.done == {key: 1}
    assert not bench.store.reads
    assert bench.producer.sent == []
    assert bench.count("ignored_total", reason=reason) == 1


def restarted(later: Bench, **changes: str) -> Bench:
    """Let an object wait in a former process, and take it up in a later one, whose entry of it has other values."""
    former = Bench()
    former.offer(key_of())
    former.run()
    (entry,) = former.waiting().values()
    later.now_ms = former.now_ms
    later.store.objects[key_of()] = header()
    later.pipeline.restore([replace(WaitingObject.decode(entry.encode()), **changes)])  # type: ignore[arg-type] # texts
    later.run(passing_s=2)
    return later


def test_after_a_restart_what_waited_goes_on() -> None:
    later = restarted(Bench())
    assert later.raws() == [(EXPOSURE, 94)]
    assert later.sent("raw-waiting")[-1].value is None


def test_after_a_restart_what_waits_for_another_emitter_stays_in_the_topic() -> None:
    bench = Bench()
    bench.offer(key_of())
    bench.run()
    elsewhere = Bench(FOLDER)
    elsewhere.pipeline.restore(bench.waiting().values())
    elsewhere.run(passing_s=100)
    assert elsewhere.producer.sent == []


def test_expected_sensors_become_an_event_of_the_exposure(bench: Bench) -> None:
    bench.store.objects = {
        key_of(): header(),
        sensors_key(): sensors(R22_S11="SCIENCE", R22_S12="SCIENCE", R00_SG0="GUIDER"),
    }
    bench.offer(key_of())
    bench.offer(sensors_key())
    bench.run()
    (event,) = bench.exposures()
    assert event["exposure"] == EXPOSURE
    assert event["detectors"] is None
    assert event["expected_detectors"] == [94, 95]
    assert bench.done == {key_of(): 1, sensors_key(): 1}


def test_expected_sensors_wait_for_the_first_header_and_follow_it_at_once(bench: Bench) -> None:
    bench.store.objects[sensors_key()] = sensors(R22_S11="SCIENCE")
    bench.offer(sensors_key())
    bench.run()
    (entry,) = bench.waiting().values()
    assert entry.reason == "no_header"
    bench.store.objects[key_of()] = header()
    bench.offer(key_of())
    bench.run()
    assert len(bench.exposures()) == 1
    assert bench.waiting() == {}


def test_expected_sensors_find_a_header_that_came_to_a_former_process(bench: Bench) -> None:
    bench.store.objects = {sensors_key(): sensors(R22_S11="SCIENCE"), key_of(): header()}
    bench.offer(sensors_key())
    bench.run()
    assert bench.exposures() == []
    bench.run(passing_s=1)
    assert [each["expected_detectors"] for each in bench.exposures()] == [[94]]
    assert bench.raws() == []


def test_expected_sensors_of_an_unknown_detector_are_rejected(bench: Bench) -> None:
    bench.store.objects = {key_of(): header(), sensors_key(): sensors(R99_S99="SCIENCE")}
    bench.offer(key_of())
    bench.offer(sensors_key())
    bench.run()
    assert "R99_S99" in bench.rejections()[0]["detail"]


def test_raws_that_come_together_are_one_event_of_their_exposure() -> None:
    bench = Bench(FOLDER, by_exposure=True)
    for detector in ("R22_S12", "R22_S11", "R01_S00"):
        bench.store.objects[key_of(detector=detector)] = header(detector=detector)
        bench.offer(key_of(detector=detector), place=FOLDER)
    bench.producer.answering = False
    bench.run()
    assert [each["detectors"] for each in bench.exposures()] == [[0, 94, 95]]
    assert not bench.done
    bench.producer.answering = True
    bench.run()
    assert len(bench.done) == 3


def test_an_object_that_was_rejected_and_becomes_an_event_is_rejected_no_longer(bench: Bench) -> None:
    bench.store.objects[key_of()] = RejectedError(RejectReason.FAILED, "broken", uri=key_of())
    bench.offer(key_of(), command=EmitCommand.RETRY)
    bench.run()
    assert [each.value is None for each in bench.sent("raw-rejected")] == [False]
    bench.store.objects[key_of()] = header()
    bench.offer(key_of(), command=EmitCommand.RETRY)
    bench.run()
    assert [(each.key, each.value is None) for each in bench.sent("raw-rejected")][1:] == [
        (f"s3://raws/{key_of()}".encode(), True)
    ]


def test_content_that_is_good_after_a_rejection_is_rejected_no_longer(bench: Bench) -> None:
    bench.store.objects[key_of()] = RejectedError(RejectReason.BAD_HEADER, "broken", uri=key_of())
    bench.offer(key_of(), tag="a")
    bench.run()
    bench.store.objects[key_of()] = header()
    bench.offer(key_of(), tag="b")
    bench.run()
    bench.offer(key_of(), tag="c")
    bench.run()
    assert [each.value is None for each in bench.sent("raw-rejected")] == [False, True]


def test_a_text_that_is_no_unicode_is_written_out(bench: Bench) -> None:
    for number, error in enumerate((RejectedError, NotReadableYetError), 1):
        bench.store.objects[key_of(number)] = error(RejectReason.BAD_HEADER, "half \ud800", uri=key_of(number))
        bench.offer(key_of(number))
    bench.run()
    assert [each["detail"] for each in bench.rejections()] == ["half \\ud800"]
    assert [each.detail for each in bench.waiting().values()] == ["half \\ud800"]


def test_what_waited_is_let_go_where_no_pattern_matches_it_any_more() -> None:
    later = restarted(Bench(replace(BUCKET, patterns=compiled(PatternSettings(sidecar=None)))))
    assert later.pipeline.idle
    assert later.sent("raw-waiting")[-1].value is None


def test_an_entry_of_a_command_that_this_release_lacks_is_tried_too() -> None:
    later = restarted(Bench(), command="of another release")
    assert later.raws() == [(EXPOSURE, 94)]


def test_a_slow_folder_ends_the_turn_before_all_of_it_is_read() -> None:
    bench = Bench(FOLDER)
    for number in range(1, 21):
        bench.store.objects[key_of(number)] = header(number)
        bench.offer(key_of(number), place=FOLDER)
    bench.read_takes_ms = 300
    bench.pipeline.step(0)
    assert 1 <= len(bench.done) <= 4
    bench.run()
    assert len(bench.done) == 20


def test_credentials_in_a_notification_reach_no_topic(bench: Bench) -> None:
    notification = '{"password": "hunter22", "url": "https://user:hunter22@store/x"}'
    bench.pipeline.offer_rejection(
        RejectedError(RejectReason.BAD_NOTIFICATION, "at https://user:hunter22@store/x", uri="notification"),
        EmitCommand.LISTEN,
        notification,
        lambda: None,
    )
    bench.run()
    (rejection,) = bench.rejections()
    assert "store" in rejection["notification"]
    assert "hunter22" not in str(rejection)


def test_the_bucket_is_read_in_other_threads_and_a_slow_read_holds_up_no_other(bench: Bench) -> None:
    for number in (1, 2):
        bench.store.objects[key_of(number)] = header(number)
        bench.offer(key_of(number))
    bench.pipeline.step(0)
    slow, fast = bench.reads_elsewhere
    bench.reads_elsewhere.clear()
    fast()
    bench.run()
    assert bench.done == {key_of(2): 1}
    slow()
    bench.run()
    assert bench.done == {key_of(2): 1, key_of(1): 1}


def test_the_oldest_that_waits_is_shown(bench: Bench) -> None:
    bench.offer(key_of(1))
    bench.run()
    began_s = bench.now_ms / 1000
    bench.offer(key_of(2))
    bench.run()
    for _ in range(3):
        bench.run(passing_s=1)
    assert bench.count("oldest_waiting_timestamp_seconds") == began_s
    assert bench.count("waiting_objects") == 2


class BrokenTranslator:
    """Fails on one header as a library may, and translates the others."""

    def translate(self, header: Header, uri: str) -> SourceRecord:
        if header["SEQNUM"] == 1:
            raise ZeroDivisionError("division by zero")
        return PlainTranslator().translate(header, uri)


def test_a_translator_that_fails_on_one_header_harms_no_other() -> None:
    bench = Bench(translator=BrokenTranslator())
    for number in (1, 2):
        bench.store.objects[key_of(number)] = header(number)
        bench.offer(key_of(number))
    bench.run()
    assert [(each["reason"], each["detail"]) for each in bench.rejections()] == [
        ("failed", "ZeroDivisionError: division by zero")
    ]
    assert bench.raws() == [(EXPOSURE + 1, 94)]
    assert bench.done == {key_of(1): 1, key_of(2): 1}


class WordyTranslator:
    """Makes records that fill a message."""

    def translate(self, header: Header, uri: str) -> SourceRecord:
        return PlainTranslator().translate(header, uri)._replace(wcs="x" * 1_000_000)


def test_an_event_that_brokers_would_refuse_is_rejected() -> None:
    bench = Bench(translator=WordyTranslator())
    bench.store.objects[key_of()] = header()
    bench.offer(key_of())
    bench.run()
    assert [each["reason"] for each in bench.rejections()] == ["too_large"]
    assert bench.raws() == []


def test_listers_are_told_when_there_is_no_room(bench: Bench) -> None:
    bench.producer.answering = False
    for number in range(MAX_IN_FLIGHT):
        assert bench.pipeline.has_room
        bench.offer("preview.png" if number else key_of(), place=FOLDER)
    assert not bench.pipeline.has_room
    for _ in range(20):
        bench.run()
    assert bench.pipeline.has_room


def test_an_entry_of_another_release_is_none() -> None:
    with pytest.raises(ValueError, match="no entry of waiting objects"):
        WaitingObject.decode(b'{"uri": "x"}')


def test_a_signal_while_the_pipeline_waits_does_not_make_it_wait_for_ever() -> None:
    """`queue.SimpleQueue.get` waits without end where a handler outlasts its timeout: a shutdown hung on it."""
    program = """
import signal, time
from tests.support.emitting import Bench
pipeline = Bench().pipeline
signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.2))
signal.setitimer(signal.ITIMER_REAL, 0.02)
pipeline.step(0.05)
print("ended")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout == "ended\n"
