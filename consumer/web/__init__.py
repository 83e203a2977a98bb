"""The read-only port: ``/metrics``, ``/healthz``, ``/readyz`` and a status page."""

from consumer.web.health import Health, HealthSource, PartitionStatus, ServiceStatus
from consumer.web.server import HttpServer

__all__ = ["Health", "HealthSource", "HttpServer", "PartitionStatus", "ServiceStatus"]
