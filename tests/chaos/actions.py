"""What may happen, how often, and the order in which a seed lets it happen."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.chaos.stage import BROKERS, FEWEST, TOPIC, Stage
from tests.chaos.stream import INSTRUMENTS
from tests.support.proxy import Proxy
from tests.support.tables import stored_positions

Dice = random.Random
_MOST_PARTITIONS = 10
_MEAN_PAUSE_S = 1.5


class Action(NamedTuple):
    """One kind of event."""

    name: str
    weight: int
    """How often it is in a deck."""
    do: Callable[[Stage, Dice], str | None]
    """Does it, and returns what was done in words; None: there was nothing to do it to."""


class Step(NamedTuple):
    """One event of a schedule."""

    action: Action
    pause_s: float
    """Before it."""
    seed: int
    """Of whatever the action draws."""


def schedule(seed: int) -> Iterator[Step]:
    """Draw steps without end, deck after deck: each deck holds every action as often as its weight, shuffled."""
    dice = Dice(f"schedule {seed}")
    deck = [action for action in ACTIONS for _ in range(action.weight)]
    while True:
        for action in dice.sample(deck, len(deck)):
            yield Step(action, dice.expovariate(1 / _MEAN_PAUSE_S), dice.getrandbits(32))


# Replicas


def _start(stage: Stage, dice: Dice) -> str | None:
    if not stage.idle:
        return None
    slot = dice.choice(stage.idle)
    stage.start(slot)
    return f"replica {slot}"


def _stop(stage: Stage, dice: Dice) -> str | None:
    if len(stage.up) <= FEWEST or not stage.sound:
        return None
    slot = dice.choice(stage.sound)
    stage.stop(slot)
    return f"replica {slot}"


def _kill(stage: Stage, dice: Dice) -> str | None:
    if not stage.up:
        return None
    slot, after_s = dice.choice(sorted(stage.up)), dice.uniform(0, 4)
    stage.kill(slot)
    stage.later(f"replica {slot}", after_s, lambda: stage.start(slot))
    return f"replica {slot}, started again after {after_s:.1f} s"


def _freeze(stage: Stage, dice: Dice) -> str | None:
    if not stage.sound:
        return None
    slot, seconds = dice.choice(stage.sound), dice.uniform(0.5, 12)
    stage.freeze(slot, seconds)
    return f"replica {slot}, {seconds:.1f} s"


# Networks


def _harm(stage: Stage, dice: Dice, name: str, proxy: Proxy) -> str:
    """Do one of the things that networks do, for a while."""
    stage.mend(name)
    seconds = dice.uniform(0.5, 6)
    kind = dice.choice(["cut", "swallows", "refuses", "swallows, then refuses", "slow"])
    if kind == "cut":
        proxy.cut()
        return f"{name}: cut"
    if kind.startswith("swallows"):
        proxy.hold()
    elif kind == "refuses":
        proxy.refuse()
    else:
        proxy.delay_s = dice.uniform(0.002, 0.1)

    def heal() -> None:
        if kind.endswith("then refuses"):
            proxy.refuse()
            time.sleep(0.2)
        proxy.heal()

    stage.later(name, seconds, heal)
    return f"{name}: {kind}, {seconds:.1f} s"


def _harm_network_to_database(stage: Stage, dice: Dice) -> str:
    slots = sorted(stage.up) if dice.random() < 0.2 else [dice.choice(sorted(stage.up) or [0])]
    return "; ".join(_harm(stage, dice, f"database of {slot}", stage.proxies[slot]) for slot in slots)


def _harm_network_to_brokers(stage: Stage, dice: Dice) -> str:
    return _harm(stage, dice, "network to the brokers", stage.broker_proxy)


def _lose_commit(stage: Stage, dice: Dice) -> str | None:
    if not stage.up:
        return None
    slot, arrives = dice.choice(sorted(stage.up)), dice.choice([True, False])
    stage.proxies[slot].cut_at(b"COMMIT", arrives=arrives)
    return f"of replica {slot}, {'its answer' if arrives else 'itself'}"


# Servers


def _restart_database(stage: Stage, dice: Dice) -> str:
    how = dice.choice(["fast", "immediate", "killed"])
    if how == "killed":
        stage.server.kill()
    else:
        stage.server.stop(how=signal.SIGINT if how == "fast" else signal.SIGQUIT)
    stage.pause(dice.uniform(0, 4))
    stage.server.start()
    return how


def _restart_brokers(stage: Stage, dice: Dice) -> str:
    stage.mend(BROKERS)
    how = dice.choice(["stopped", "killed"])
    stage.kafka.stop() if how == "stopped" else stage.kafka.kill()
    stage.pause(dice.uniform(0, 4))
    stage.kafka.start()
    return how


def _freeze_brokers(stage: Stage, dice: Dice) -> str:
    stage.mend(BROKERS)
    seconds = dice.uniform(0.5, 8)
    stage.kafka.pause()
    stage.later(BROKERS, seconds, stage.kafka.resume)
    return f"{seconds:.1f} s"


# Operators


def _add_partitions(stage: Stage, dice: Dice) -> str | None:
    if stage.n_partitions >= _MOST_PARTITIONS:
        return None
    stage.mend(BROKERS)
    stage.n_partitions += dice.randint(1, 2)
    stage.kafka.add_partitions(TOPIC, stage.n_partitions)
    return f"{stage.n_partitions} in all"


def _set_position(stage: Stage, dice: Dice) -> str | None:
    read = {partition: offset for partition, offset in stored_positions(stage.dsn).items() if offset}
    if not read:
        return None
    partition = dice.choice(sorted(read))
    offset = dice.choice([0, dice.randint(0, read[partition])])
    stage.set_to.append(offset)
    stage.command("positions", "set", "--topic", TOPIC, "--partition", partition, "--offset", offset)
    return f"partition {partition} to {offset}"


def _replay_dead_letters(stage: Stage, dice: Dice) -> str | None:
    rows = stage.query("""SELECT id FROM visits.dead_letter WHERE status = 'open' AND "offset" >= 0 ORDER BY id""")
    if not rows:
        return None
    chosen = dice.sample(rows, min(len(rows), dice.randint(1, 10)))
    options = [option for (number,) in chosen for option in ("--id", number)]
    done = stage.command("dead-letters", "replay", *options)
    assert len(done) == len(chosen)
    stage.replayed += len(done)
    return str(len(done))


def _change_group(stage: Stage, dice: Dice) -> str:
    up = _end_all(stage, dice)
    former = stage.group
    stage.n_groups += 1
    stage.group = f"chaos-{stage.n_groups}"
    stage.configure()
    if stage.query("SELECT FROM visits.consumer_offset WHERE consumer_group = %s LIMIT 1", former):
        stage.command("positions", "take-over", "--from", former)
    for slot in up:
        stage.start(slot)
    return f"from {former} to {stage.group}"


def _change_padding(stage: Stage, dice: Dice) -> str:
    # What a replica of the former settings has sent must not arrive when all is redefined
    stage.mend_all()
    up = _end_all(stage, dice)
    instrument, padding = dice.choice(sorted(INSTRUMENTS)), dice.randint(0, 4000)
    stage.paddings[instrument] = padding
    stage.configure()
    for slot in up:
        stage.start(slot)
    changed = sum(len(stage.redefine(instrument, night)) for night in stage.nights(instrument))
    return f"of {instrument} to {padding}, {changed} visits redefined"


def _redefine(stage: Stage, dice: Dice) -> str | None:
    instrument = dice.choice(sorted(INSTRUMENTS))
    nights = stage.nights(instrument)
    if not nights:
        return None
    night = dice.choice(nights)
    finished = (instrument, night) not in stage.unfinished
    changed = stage.redefine(instrument, night)
    assert not changed or not finished, f"redefined by the settings that they have: {changed[:5]}"
    return f"{instrument} {night}"


def _end_all(stage: Stage, dice: Dice) -> list[int]:
    """End all replicas, in order or at once, and return which."""
    stage.mend(*[f"replica {slot}" for slot in range(len(stage.proxies))])
    up = sorted(stage.up)
    if dice.random() < 0.5:
        for slot in up:
            stage.kill(slot)
    else:
        stage.stop(*up)
    return up


ACTIONS = (
    Action("start a replica", 4, _start),
    Action("stop a replica", 2, _stop),
    Action("kill a replica", 4, _kill),
    Action("freeze a replica", 4, _freeze),
    Action("harm the network to PostgreSQL", 5, _harm_network_to_database),
    Action("harm the network to the brokers", 4, _harm_network_to_brokers),
    Action("lose a COMMIT", 2, _lose_commit),
    Action("restart PostgreSQL", 2, _restart_database),
    Action("restart the broker", 1, _restart_brokers),
    Action("freeze the broker", 1, _freeze_brokers),
    Action("add partitions", 1, _add_partitions),
    Action("set a position", 2, _set_position),
    Action("replay dead letters", 2, _replay_dead_letters),
    Action("take over by another group", 1, _change_group),
    Action("change a padding", 1, _change_padding),
    Action("redefine a night", 1, _redefine),
)
