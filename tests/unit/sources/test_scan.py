"""A scan offers what the tables lack, and nothing else that names itself."""

import threading
from collections.abc import Collection, Iterator

from consumer.read.raws import StoredDetectors
from consumer.sources.object_stores import StoredObject
from consumer.sources.places import Place
from consumer.sources.scan import Scanner, ScanReport
from tests.support.emitting import BUCKET, Bench, header, key_of, plain_detector_ids, sensors_key

DAY = 20261101


class Tables:
    """Detectors by obs_id, and what was asked."""

    def __init__(self, **stored: int) -> None:
        self.stored = {obs_id: [StoredDetectors("LSSTCam", mask)] for obs_id, mask in stored.items()}
        self.asked: list[tuple[set[str], set[int] | None]] = []

    def find(self, obs_ids: Collection[str], days: Collection[int] | None) -> dict[str, list[StoredDetectors]]:
        self.asked.append((set(obs_ids), None if days is None else set(days)))
        return {name: found for name, found in self.stored.items() if name in obs_ids}


def scan(bench: Bench, tables: Tables, *keys: str, days: list[int] | None = None) -> ScanReport:
    def list_objects(_: Place, __: Collection[int] | None) -> Iterator[StoredObject]:
        return (StoredObject(each, "a") for each in keys)

    report = Scanner(list_objects, tables.find, plain_detector_ids, bench.pipeline).scan(
        [BUCKET], days, threading.Event()
    )
    bench.run()
    return report


def test_what_the_tables_lack_is_emitted() -> None:
    bench = Bench()
    tables = Tables(CC_O_20261101_000001=1 << 94)
    keys = [key_of(1), key_of(1, "R22_S12"), key_of(2), key_of(1, extension="fits"), "LSSTCam/20261101/notes.txt"]
    bench.store.objects = {key_of(1, "R22_S12"): header(1, "R22_S12"), key_of(2): header(2)}
    report = scan(bench, tables, *keys)
    assert report == ScanReport(listed=4, stored=2, offered=2)
    assert bench.raws() == [(2026110100001, 95), (2026110100002, 94)]
    assert tables.asked == [({"CC_O_20261101_000001", "CC_O_20261101_000002"}, {DAY})]


def test_what_does_not_name_its_exposure_is_read() -> None:
    bench = Bench()
    bench.store.objects = {"LSSTCam/other.fits": header(3)}
    assert scan(bench, Tables(), "LSSTCam/other.fits").offered == 1
    assert bench.raws() == [(2026110100003, 94)]


def test_a_detector_that_no_camera_has_is_read_and_so_rejected() -> None:
    bench = Bench()
    bench.store.objects = {key_of(1, "R99_S99"): {"SEQNUM": 1}}
    assert scan(bench, Tables(CC_O_20261101_000001=-1), key_of(1, "R99_S99")).offered == 1
    assert len(bench.rejections()) == 1


def test_other_days_are_not_offered() -> None:
    bench = Bench()
    assert scan(bench, Tables(), key_of(1), sensors_key(1), days=[20261102]).listed == 1  # the side file names no day


def test_a_repeated_scan_does_not_read_again_what_the_brokers_have() -> None:
    bench = Bench()
    bench.store.objects = {key_of(1): header(1)}
    for _ in range(2):
        scan(bench, Tables(), key_of(1))
    assert bench.store.reads[key_of(1)] == 1


def test_a_scan_ends_when_the_process_does() -> None:
    bench = Bench()
    stopping = threading.Event()
    stopping.set()
    scanner = Scanner(
        lambda *_: iter([StoredObject(key_of(1), "a")]), Tables().find, plain_detector_ids, bench.pipeline
    )
    assert scanner.scan([BUCKET], None, stopping).offered == 0
