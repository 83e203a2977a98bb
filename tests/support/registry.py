"""Schema registries for the tests: Apicurio as a child process, or a stub where Apicurio cannot be had.

Both keep schemas in memory and forget them when they stop. Measured: Apicurio starts in 4 s.
"""

import http.server
import json
import re
import shutil
import signal
import tempfile
import threading
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from tests.support import jars
from tests.support.children import Child, free_port

POM = Path(__file__).parents[1] / "registry" / "pom.xml"
_START_TIMEOUT_S = 90
_STOP_TIMEOUT_S = 30
_JVM = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class Registry(Protocol):
    """What a test may ask of a registry."""

    name: str
    """``Apicurio`` or ``StubRegistry``."""
    version: str

    @property
    def url(self) -> str:
        """The base of the Confluent-compatible API, for ``schema.registry.url``."""

    def start(self) -> None:
        """Start it, on the same port as before, without any schema."""

    def stop(self) -> None:
        """End it: connections are refused from now on."""


def register(registry: Registry, subject: str, avro_schema: str) -> int:
    """Register a schema under a subject, such as ``raw-ingested-value``, and return its id."""
    with SchemaRegistryClient({"url": registry.url}) as client:
        return int(client.register_schema(subject, Schema(avro_schema, "AVRO")))


class ApicurioRegistry:
    """Apicurio Registry with its Confluent-compatible API, on a free port of 127.0.0.1. A context manager.

    Raises
    ------
    tests.support.jars.JarsUnavailableError
        When it cannot be had from Maven Central.
    ServerError
        When it does not start.
    """

    name = "Apicurio"

    def __init__(self) -> None:
        self._program = next(jars.resolve(POM).glob("apicurio-registry-app-*-runner.jar"))
        self.version = self._program.stem.removeprefix("apicurio-registry-app-").removesuffix("-runner")
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="visit-consumer-registry-"))
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The base of the Confluent-compatible API."""
        return f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start the registry, empty, and wait until it answers."""
        options = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self._port}", "-Dquarkus.log.level=WARN"]
        options.append(f"-Djava.io.tmpdir={self._folder}")
        command = ["java", *_JVM, *options, "-jar", str(self._program)]
        self._child = Child(command, self._folder / "registry.log")
        self._child.wait_until(self._answers, what="the schema registry", timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """End the registry (SIGKILL: it has nothing to save)."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            self._child.wait(_STOP_TIMEOUT_S)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5):  # noqa: S310 - our own http:// address
                return True
        except (urllib.error.URLError, TimeoutError):
            return False

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class StubRegistry:
    """A stand-in of the tests' own, in this process: registers schemas and gives them back by id, and nothing else.

    No compatibility rules, no references, no deletion, no versions beyond counting. What is tested on it is tested
    against our reading of the API only, so the summary of a run names it.
    """

    name = "StubRegistry"
    version = "of the tests' own"

    def __init__(self) -> None:
        self._port = free_port()
        self._server: http.server.ThreadingHTTPServer | None = None
        self.busy: set[int] = set()
        """Ids that are answered with 503."""

    @property
    def url(self) -> str:
        """The base of the API."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, without any schema."""
        handler = type("Handler", (_StubHandler,), {"schemas": [], "lock": threading.Lock(), "busy": self.busy})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


class _StubHandler(http.server.BaseHTTPRequestHandler):
    """The three calls that confluent_kafka's client makes to register and to read."""

    schemas: ClassVar[list[str]]
    lock: ClassVar[threading.Lock]
    busy: ClassVar[set[int]]

    def do_POST(self) -> None:
        """``POST /subjects/{subject}/versions`` registers, ``POST /subjects/{subject}`` asks what is registered."""
        schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
        path = self.path.partition("?")[0]
        with self.lock:
            if schema not in self.schemas and path.endswith("/versions"):
                self.schemas.append(schema)
            found = self.schemas.index(schema) + 1 if schema in self.schemas else None
        if found is None:
            self._answer(HTTPStatus.NOT_FOUND, {"error_code": 40403, "message": "Schema not found"})
        else:
            subject = path.split("/")[2]
            self._answer(HTTPStatus.OK, {"id": found, "subject": subject, "version": 1, "schema": schema})

    def do_GET(self) -> None:
        """``GET /schemas/ids/{id}``."""
        match = re.match(r"/schemas/ids/(\d+)", self.path)
        number = int(match[1]) if match else 0
        if number in self.busy:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error_code": 50003, "message": "busy"})
        elif 1 <= number <= len(self.schemas):
            self._answer(HTTPStatus.OK, {"schema": self.schemas[number - 1]})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error_code": 40403, "message": "Schema not found"})

    def _answer(self, status: HTTPStatus, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: pytest's output is for results."""


def open_registry() -> ApicurioRegistry | StubRegistry:
    """Return Apicurio where it can be had, else the stub; not yet started."""
    try:
        return ApicurioRegistry()
    except jars.JarsUnavailableError:
        return StubRegistry()
