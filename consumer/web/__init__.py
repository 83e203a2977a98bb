"""The shared parts of HTTP: an ASGI server in a thread of its own, and the service's read-only port.

``/metrics``, ``/healthz``, ``/readyz`` and a status page; `read_only_app` guards any application like that.
"""

from consumer.web.health import Health, HealthSource, PartitionStatus, ServiceStatus
from consumer.web.port import read_only_port
from consumer.web.server import HttpServer

__all__ = ["Health", "HealthSource", "HttpServer", "PartitionStatus", "ServiceStatus", "read_only_port"]
