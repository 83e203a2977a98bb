"""Believable nights of raw-ingested events, seeded; `consumer.kafka.night_producer` sends them."""

from consumer.simulation.exposures import simulate_exposures
from consumer.simulation.settings import INSTRUMENTS, SimulatedInstrument, SimulationSettings
from consumer.simulation.stream import Corruption, SimulatedRaw, message_value, simulate_night

__all__ = [
    "INSTRUMENTS",
    "Corruption",
    "SimulatedInstrument",
    "SimulatedRaw",
    "SimulationSettings",
    "message_value",
    "simulate_exposures",
    "simulate_night",
]
