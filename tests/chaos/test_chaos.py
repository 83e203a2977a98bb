"""The driver itself: seeds decide what happens, a short run leaves the tables of a pure replay, and damage is seen."""

import random
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import pytest

from consumer.errors import BadMessageError
from consumer.events import Decoder
from consumer.model import Exposure, RawIngested
from tests.chaos.actions import ACTIONS, schedule
from tests.chaos.oracle import judge
from tests.chaos.run import run
from tests.chaos.stage import set_stage
from tests.chaos.stream import Stream
from tests.support.brokers import skips_without_kafka
from tests.support.summary import note

SEED, STEPS = 6908, 12
"""Its first twelve steps are of eleven kinds, and come soon one after the other."""


def test_the_schedule_is_a_function_of_the_seed_alone() -> None:
    deck = sum(action.weight for action in ACTIONS)
    random.seed(1)
    steps = list(islice(schedule(SEED), 3 * deck))
    random.seed(2)
    assert list(islice(schedule(SEED), 3 * deck)) == steps
    assert list(islice(schedule(SEED + 1), 3 * deck)) != steps
    for begin in range(0, 3 * deck, deck):
        names = Counter(step.action.name for step in steps[begin : begin + deck])
        assert names == {action.name: action.weight for action in ACTIONS}


def test_the_stream_is_a_function_of_the_seed_whose_records_never_disagree() -> None:
    def messages(seed: int) -> tuple[list[bytes | None], int]:
        stream = Stream(seed)
        seconds = [list(stream.next_second()) for _ in range(60)]
        return [each.value for each in chain(*seconds, stream.rest())], stream.bad

    values, bad = messages(SEED)
    assert messages(SEED) == (values, bad)
    assert messages(SEED + 1) != (values, bad)
    decoder, refused = Decoder(), 0
    records: dict[tuple[str, int, int], Exposure] = {}
    raws: Counter[tuple[str, int, int, int]] = Counter()
    for value in values:
        try:
            raw = decoder.decode(value)
        except BadMessageError:
            refused += 1
            continue
        assert isinstance(raw, RawIngested)
        one = raw.exposure
        assert records.setdefault((one.instrument, one.id, one.record_version), one) == one
        raws[one.instrument, one.id, one.record_version, raw.detector] += 1
    assert refused == bad > 0
    assert max(raws.values()) > 1, "nothing was doubled"
    assert {version for _, _, version in records} == {0, 1, 2}


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_short_run_leaves_the_tables_of_a_replay_and_the_oracle_sees_damage(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with skips_without_kafka(request.config), set_stage(SEED, tmp_path) as stage:
        note(request.config, "brokers", f"Apache Kafka {stage.kafka.version}")
        report = run(stage, islice(schedule(SEED), STEPS), seconds=600)
        assert not report.outcome.complaints, "\n".join(report.lines)
        assert report.actions.total() >= STEPS - 2
        assert report.outcome.messages > 500
        assert report.outcome.visits > 20
        assert report.outcome.announcements >= report.outcome.visits
        damage = [
            "DELETE FROM visits.visit_detector_region WHERE detector = 0 AND instrument = 'LATISS' RETURNING 1",
            """UPDATE visits.exposure SET target_name = 'another' WHERE instrument = 'LSSTCam' RETURNING 1""",
            """DELETE FROM visits.dead_letter WHERE "offset" = (SELECT min("offset") FROM visits.dead_letter)
            RETURNING 1""",
            "UPDATE visits.visit SET revision = revision + 1 WHERE id = (SELECT min(id) FROM visits.visit) RETURNING 1",
        ]
        lacking = [len(stage.query(sql)) for sql in damage]
        outcome = judge(stage, report.bad)
        assert (outcome.lost, outcome.doubled) == (sum(lacking[:3]), lacking[1])
        complaints = "\n".join(outcome.complaints)
        for expected in ("exposure has", "bad messages", "left no trace", "stored otherwise than announced"):
            assert expected in complaints
