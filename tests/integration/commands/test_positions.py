"""``positions``: shown beside the log, set, gaps accepted; and a running service follows."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.errors import FencedError
from tests.support.brokers import MockBroker
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import exposure
from tests.support.feeding import Feeder
from tests.support.feeding import raws_of as raws_by_feeder
from tests.support.kafka_broker import KafkaCluster
from tests.support.service import Replica, Wire, produce, raws_of, settings_for
from tests.support.tables import snapshot

PARTITION = 1
NOON_MS = 1_793_600_000_000
WAITING = {"LSSTComCam": {"group_exposures": "by-group-metadata", "group_id": "digits"}}
"""Groups of exposures that wait for more."""


def messages(count: int) -> list[Wire]:
    made = raws_of([exposure(1)], range(count))
    return [each._replace(partition=PARTITION) for each in made]


class Setting:
    """A topic of the test's own with ten messages in one partition, and settings that name it.

    The mock cluster waits 3 s for members: a shorter session would end before the group is formed.
    """

    def __init__(self, folder: Path, bootstrap: str, dsn: str) -> None:
        self.bootstrap = bootstrap
        self.dsn = dsn
        self.topic = f"positions-{time.monotonic_ns()}"
        self.settings = settings_for(bootstrap, dsn, kafka={"topics": [self.topic], "session_timeout_s": 4})
        self.config = folder / "operator.yaml"
        self.config.write_text(yaml.safe_dump(self.settings))

    def produce(self, count: int = 10) -> None:
        """Append messages."""
        produce(self.bootstrap, messages(count), self.topic)

    def command(self, name: str, *options: object, exit_code: int = 0) -> Any:  # JSON
        """Run one of the commands."""
        return invoke_json("positions", name, "--config", self.config, *options, exit_code=exit_code)

    def set(self, offset: object, *options: object) -> dict[str, Any]:
        """Set the position of the partition."""
        wanted = ("--topic", self.topic, "--partition", PARTITION, "--offset", offset)
        (move,) = self.command("set", *wanted, *options)
        made: dict[str, Any] = move
        return made

    def row(self) -> tuple[int, int, int]:
        """Read the stored position, its epoch and its clock."""
        with psycopg.connect(self.dsn) as connection:
            query = "SELECT next_offset, epoch, stream_time_ms FROM visits.consumer_offset WHERE partition = %s"
            row = connection.execute(query, (PARTITION,)).fetchone()
        assert row is not None
        return row

    def standing(self) -> dict[str, Any]:
        """Show the position beside its log."""
        (shown,) = [each for each in self.command("show", "--log") if each["partition"] == PARTITION]
        told: dict[str, Any] = shown
        return told


@pytest.fixture
def on_mock(tmp_path: Path, mock_broker: MockBroker, dsn: str) -> Setting:
    """Ten messages on the mock cluster."""
    setting = Setting(tmp_path, mock_broker.bootstrap, dsn)
    mock_broker.create_topic(setting.topic)
    setting.produce()
    return setting


def test_setting_and_showing(on_mock: Setting) -> None:
    assert on_mock.command("show") == []
    planned = on_mock.set(4, "--dry-run")
    assert (planned["before"], planned["after"], planned["done"]) == (None, 4, False)
    assert on_mock.command("show") == []
    assert on_mock.set(4)["done"] is True
    told = on_mock.standing()
    assert (told["next_offset"], told["low"], told["high"], told["lag"], told["state"]) == (4, 0, 10, 6, "good")
    assert told["owner"].startswith("operator ")
    assert on_mock.set("latest")["before"] == 4
    assert on_mock.row()[:2] == (10, 2)
    with psycopg.connect(on_mock.dsn) as connection:
        connection.execute("UPDATE visits.consumer_offset SET stream_time_ms = 77")
    on_mock.set(10)
    assert on_mock.row() == (10, 3, 77)
    on_mock.set("earliest")
    assert on_mock.row() == (0, 4, 0)  # what is read again brings its own times
    assert on_mock.topic in invoke("positions", "show", "--config", on_mock.config).stdout


def test_an_offset_outside_the_log_needs_force_and_is_a_gap_that_can_be_accepted(on_mock: Setting) -> None:
    wanted = ("--topic", on_mock.topic, "--partition", PARTITION)
    refused = invoke("positions", "set", "--config", on_mock.config, *wanted, "--offset", 11, exit_code=78)
    assert "0 to 10" in refused.stderr
    invoke("positions", "set", "--config", on_mock.config, *wanted, "--offset", "x", exit_code=2)
    on_mock.set(11, "--force")
    assert on_mock.standing()["state"] == "beyond_end"
    assert on_mock.command("accept-gap", "--topic", "another") == []
    (planned,) = on_mock.command("accept-gap", "--dry-run")
    assert (planned["before"], planned["after"], planned["done"]) == (11, 10, False)
    assert on_mock.row()[:2] == (11, 1)
    on_mock.command("accept-gap")
    assert on_mock.row()[:2] == (10, 2)
    assert on_mock.command("accept-gap") == []
    assert "no gap" in invoke("positions", "accept-gap", "--config", on_mock.config).stderr


def test_a_log_that_is_no_more_is_told_and_left_alone(on_mock: Setting) -> None:
    on_mock.set(3)
    with psycopg.connect(on_mock.dsn) as connection:
        connection.execute("UPDATE visits.consumer_offset SET topic_id = 'former', next_offset = 99")
    assert on_mock.standing()["state"] == "another_log"
    assert on_mock.command("accept-gap") == []


def test_a_topic_that_was_deleted_keeps_no_gap_from_being_accepted(on_mock: Setting) -> None:
    on_mock.set(11, "--force")
    with psycopg.connect(on_mock.dsn) as connection:
        connection.execute(
            """
            INSERT INTO visits.consumer_offset (consumer_group, cluster_id, topic, partition, next_offset, breaker)
            SELECT consumer_group, cluster_id, 'a-deleted-topic', 0, 7, 'all was bad' FROM visits.consumer_offset
            """
        )
    states = {each["topic"]: each["state"] for each in on_mock.command("show", "--log")}
    assert states == {on_mock.topic: "beyond_end", "a-deleted-topic": "another_log"}
    (move,) = on_mock.command("accept-gap")
    assert (move["topic"], move["after"]) == (on_mock.topic, 10)
    with psycopg.connect(on_mock.dsn) as connection:
        connection.execute("UPDATE visits.consumer_offset SET breaker = 'most were bad'")
    resets = invoke_json("breaker", "reset", "--accept", "--config", on_mock.config)
    assert {each["topic"]: each["accept_until"] for each in resets} == {on_mock.topic: 10, "a-deleted-topic": 0}


def take_over(dsn: str, folder: Path, former: str, *options: str, exit_code: int = 0) -> Any:  # JSON or an error
    config = folder / "renamed.yaml"
    config.write_text(yaml.safe_dump(settings_for("nowhere:1", dsn, kafka={"group": "present"})))
    command = ("positions", "take-over", "--from", former, "--config", config, *options)
    return invoke_json(*command) if exit_code == 0 else invoke(*command, exit_code=exit_code).stderr


def test_another_name_of_the_group_goes_on_for_the_former_one(dsn: str, tmp_path: Path) -> None:
    with closing(Feeder(dsn, WAITING, group="former")) as former:
        former.feed(raws_by_feeder([exposure(1, group="7")]), at_ms=NOON_MS)
        (planned,) = take_over(dsn, tmp_path, "former", "--dry-run")
        assert (planned["before"], planned["after"], planned["done"]) == (None, 1, False)
        former.feed(raws_by_feeder([exposure(2, group="7")]), at_ms=NOON_MS)
        (done,) = take_over(dsn, tmp_path, "former")
        assert (done["before"], done["after"], done["done"]) == (None, 2, True)
        with pytest.raises(FencedError):
            former.feed(raws_by_feeder([exposure(3, group="7")]), at_ms=NOON_MS)
        remove = ("positions", "remove", "--group", "former", "--config", tmp_path / "renamed.yaml")
        (former_row,) = [row for row in invoke_json("positions", "show", "--dsn", dsn) if row["taken_over_by"]]
        assert (former_row["consumer_group"], former_row["taken_over_by"]) == ("former", "present")
        assert [row["done"] for row in invoke_json(*remove, "--dry-run")] == [False]
        assert [row["done"] for row in invoke_json(*remove)] == [True]
        assert [row["consumer_group"] for row in invoke_json("positions", "show", "--dsn", dsn)] == ["present"]
        assert "no stored positions" in invoke(*remove, exit_code=78).stderr
    with closing(Feeder(dsn, WAITING, group="present")) as present:
        assert present.offset == 2
        present.feed(raws_by_feeder([exposure(4, group="8")]), at_ms=NOON_MS + 100_000_000)
    assert [row[1] for row in snapshot(dsn)["visit"]] == [7]


def test_of_two_positions_of_one_log_the_lesser_counts_with_its_clock(dsn: str, tmp_path: Path) -> None:
    with closing(Feeder(dsn, WAITING, group="former")) as former:
        former.feed(raws_by_feeder([exposure(1, group="7")]), at_ms=NOON_MS)
    with closing(Feeder(dsn, WAITING, group="present")) as present:
        present.feed(raws_by_feeder([exposure(n, group="8") for n in (2, 3)]), at_ms=NOON_MS + 1000)
        (done,) = take_over(dsn, tmp_path, "former")
        assert (done["before"], done["after"], done["epoch"]) == (2, 1, 2)
        present.claim()
        assert present.offset == 1
        present.feed(raws_by_feeder([exposure(9, group="9")]), at_ms=NOON_MS + 100_000_000)
    assert sorted(row[1] for row in snapshot(dsn)["visit"]) == [7, 8]


def test_a_name_without_positions_is_not_taken_over(dsn: str, tmp_path: Path) -> None:
    assert "those are: none" in take_over(dsn, tmp_path, "former", exit_code=78)
    with closing(Feeder(dsn, WAITING, group="present")):
        assert "no other" in take_over(dsn, tmp_path, "present", exit_code=78)


def test_positions_by_which_exposures_wait_are_not_removed(dsn: str, tmp_path: Path) -> None:
    with closing(Feeder(dsn, WAITING, group="former")) as former:
        former.feed(raws_by_feeder([exposure(1, group="7")]), at_ms=NOON_MS)
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(settings_for("nowhere:1", dsn, kafka={"group": "present"})))
    for further in ([], ["--dry-run"]):
        text = invoke("positions", "remove", "--group", "former", "--config", config, *further, exit_code=78).stderr
        assert "1 open groups of exposures wait" in text
        assert "take-over --from former" in text
    assert len(invoke_json("positions", "show", "--config", config)) == 1


@pytest.mark.kafka
def test_what_retention_deleted_is_a_gap(tmp_path: Path, kafka: KafkaCluster, dsn: str) -> None:
    setting = Setting(tmp_path, kafka.bootstrap, dsn)
    kafka.create_topic(setting.topic, partitions=2)
    setting.produce()
    setting.set(2)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for each in admin.delete_records([TopicPartition(setting.topic, PARTITION, 6)]).values():
        each.result(10)
    assert setting.standing()["state"] == "gap"
    assert setting.standing()["lag"] == 4
    (move,) = setting.command("accept-gap")
    assert (move["before"], move["after"]) == (2, 6)
    assert move["topic_id"]
    assert setting.standing()["state"] == "good"


def test_a_running_service_that_stands_idle_reads_again_from_where_it_was_set(on_mock: Setting, tmp_path: Path) -> None:
    with Replica(tmp_path, on_mock.settings) as replica:
        replica.wait_until(lambda: bool(on_mock.command("show")), what="a position")
        replica.wait_until(lambda: on_mock.row()[0] == 10, what="the end of the log")
        before, (_, epoch, clock) = snapshot(on_mock.dsn), on_mock.row()
        assert on_mock.set("earliest")["epoch"] == epoch + 1
        replica.wait_until(lambda: on_mock.row() == (10, epoch + 2, clock), what="the end of the log again")
        assert replica.lines("position claimed or moved by another")
        assert replica.wait_for_line("partition claimed", number=5)["start"] == 0
        assert snapshot(on_mock.dsn) == before


def test_a_database_that_lost_its_last_transactions_is_noticed_without_a_message(
    on_mock: Setting, tmp_path: Path
) -> None:
    with Replica(tmp_path, on_mock.settings) as replica:
        replica.wait_until(lambda: bool(on_mock.command("show")), what="a position")
        replica.wait_until(lambda: on_mock.row()[0] == 10, what="the end of the log")
        before, (_, epoch, _) = snapshot(on_mock.dsn), on_mock.row()
        # As after a failover to a standby that was behind.
        with psycopg.connect(on_mock.dsn) as connection:
            connection.execute("UPDATE visits.consumer_offset SET next_offset = 4 WHERE partition = %s", (PARTITION,))
            connection.execute("UPDATE visits.exposure SET detectors = '{[0,4)}'")
        replica.wait_until(lambda: on_mock.row()[0] == 10, what="the end of the log again")
        assert on_mock.row()[1] == epoch
        assert snapshot(on_mock.dsn) == before
