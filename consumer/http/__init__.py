"""The read-only port: ``/metrics``, ``/healthz``, ``/readyz`` and a status page."""

from consumer.http.health import Health, HealthSource, PartitionStatus, Status
from consumer.http.server import HttpServer

__all__ = ["Health", "HealthSource", "HttpServer", "PartitionStatus", "Status"]
