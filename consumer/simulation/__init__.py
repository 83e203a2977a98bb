"""Believable nights of raw-ingested events, seeded; `consumer.kafka.night_producer` sends them."""

from consumer.simulation.exposures import simulate_exposures
from consumer.simulation.settings import INSTRUMENTS, SimulatedInstrument, SimulationSettings
from consumer.simulation.stream import MessageWriter, SimulatedRaw, Spoilt, simulate_night

__all__ = [
    "INSTRUMENTS",
    "MessageWriter",
    "SimulatedInstrument",
    "SimulatedRaw",
    "SimulationSettings",
    "Spoilt",
    "simulate_exposures",
    "simulate_night",
]
