"""Settings of the broker, its security and the schema registry."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, FilePath, SecretStr, model_validator

from consumer.config.sections import (
    Count,
    HttpUrlText,
    Scalar,
    Seconds,
    SecretFile,
    Section,
    TopicName,
    current_secret,
    one_source,
)
from consumer.errors import BadMessageError
from consumer.events import parse_writer_schema

PROMISED_PROPERTIES: Mapping[str, str] = {
    "bootstrap.servers": "use kafka.bootstrap_servers",
    "metadata.broker.list": "use kafka.bootstrap_servers",
    "group.id": "use kafka.group",
    "group.protocol": "use kafka.group_protocol",
    "client.id": "it names the host and the process of each replica",
    "group.instance.id": "a static member keeps its partitions while it is dead, so takeover would wait for it",
    "session.timeout.ms": "use kafka.session_timeout_s",
    "max.poll.interval.ms": "use kafka.max_poll_interval_s",
    "isolation.level": "aborted transactions must never become visits",
    "enable.auto.commit": "the position is written with the rows, in PostgreSQL",
    "auto.commit.interval.ms": "the position is written with the rows, in PostgreSQL",
    "enable.auto.offset.store": "the position is written with the rows, in PostgreSQL",
    "auto.offset.reset": "a position outside the log is an error, never a silent reset; see kafka.start",
    "partition.assignment.strategy": "the service takes partitions over incrementally",
    "group.remote.assignor": "the service takes partitions over incrementally",
    "enable.partition.eof": "groups close by the wall clock only where the end of the log is known",
    "allow.auto.create.topics": "a mistyped topic must be an error",
    "check.crcs": "damaged messages must be seen",
    "default.topic.config": "its properties stand here by themselves",
    "plugin.library.paths": "it would run foreign code in this process",
    "security.protocol": "use kafka.security.protocol",
    "enable.sasl.oauthbearer.unsecure.jwt": "it would let every client in",
    "enable.ssl.certificate.verification": "it would let any host pose as the broker",
}
"""librdkafka's properties that ``kafka.client`` must not set, and why or what to use instead."""

_TUNABLE_TLS = frozenset({"ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list"})


def _harmless_properties(client: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Refuse librdkafka properties that would break a promise of this service or that carry a secret."""
    for name in client:
        if not re.fullmatch(r"[a-z0-9.]+", name):
            raise ValueError(f"{name!r} is no librdkafka property: they are written like socket.timeout.ms")
        if name in PROMISED_PROPERTIES:
            raise ValueError(f"{name} must not be set here: {PROMISED_PROPERTIES[name]}")
        if name.startswith(("sasl.", "ssl.", "https.")) and name not in _TUNABLE_TLS:
            raise ValueError(f"{name} must not be set here: use kafka.security")
    return client


def _usable_schema(path: Path) -> Path:
    """Refuse a file that holds no Avro schema that events could be read with."""
    try:
        parse_writer_schema(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); make it readable to this process") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    except BadMessageError as error:
        raise ValueError(f"{path}: {error.detail}") from error
    return path


class OAuthSettings(Section):
    """Client credentials for SASL OAUTHBEARER (OpenID Connect)."""

    token_endpoint_url: HttpUrlText | None = None
    """Address that issues tokens; https, unless allow_insecure."""
    ca_file: FilePath | None = None
    """Certificate authority of the token endpoint, PEM; null: the system's. The brokers' ca_file is not used here."""
    client_id: str | None = None
    """Client id."""
    client_secret: SecretStr | None = None
    """Secret of the client; from the environment only."""
    client_secret_file: SecretFile | None = None
    """File that holds the secret."""
    scope: str | None = None
    """Scope to request, if the server needs one."""
    extensions: str | None = None
    """SASL extensions, `key=value` separated by commas."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        one_source("kafka.security.oauth", self.client_secret, self.client_secret_file, name="client_secret")
        return self

    def current_client_secret(self) -> SecretStr | None:
        """Return the secret as it is now; see `current_secret`."""
        return current_secret(self.client_secret, self.client_secret_file)


class KafkaSecuritySettings(Section):
    """Encryption and authentication of the connection to the brokers."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = "PLAINTEXT"
    """Protocol of the connection. There is no fallback to another one."""
    allow_insecure: bool = False
    """Accept SASL_PLAINTEXT and an OAuth token endpoint without TLS: credentials are then sent unencrypted."""
    ca_file: FilePath | None = None
    """Certificate authority of the brokers, PEM; null: the system's. Host names are always verified."""
    certificate_file: FilePath | None = None
    """This client's certificate, PEM, for mutual TLS."""
    key_file: FilePath | None = None
    """Private key of the certificate, PEM."""
    key_password: SecretStr | None = None
    """Password of the private key; from the environment only."""
    key_password_file: SecretFile | None = None
    """File that holds the password of the private key."""
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "OAUTHBEARER", "PLAIN"] = "SCRAM-SHA-512"
    """SASL mechanism, for the SASL protocols."""
    username: str | None = None
    """User for SCRAM and PLAIN."""
    password: SecretStr | None = None
    """Password for SCRAM and PLAIN; from the environment only."""
    password_file: SecretFile | None = None
    """File that holds the password."""
    oauth: OAuthSettings = OAuthSettings()
    """For mechanism OAUTHBEARER."""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def sasl(self) -> bool:
        """Whether the client authenticates by SASL."""
        return self.protocol in {"SASL_SSL", "SASL_PLAINTEXT"}

    def current_password(self) -> SecretStr | None:
        """Return the password as it is now; see `consumer.config.sections.current_secret`."""
        return current_secret(self.password, self.password_file)

    def current_key_password(self) -> SecretStr | None:
        """Return the private key's password as it is now."""
        return current_secret(self.key_password, self.key_password_file)

    @model_validator(mode="after")
    def _consistent_tls(self) -> Self:
        one_source("kafka.security", self.password, self.password_file)
        one_source("kafka.security", self.key_password, self.key_password_file, name="key_password")
        if self.protocol == "SASL_PLAINTEXT" and not self.allow_insecure:
            raise ValueError("SASL_PLAINTEXT sends credentials unencrypted: use SASL_SSL, or set allow_insecure: true")
        if not self.tls and (self.ca_file or self.certificate_file or self.key_file):
            raise ValueError(f"certificates are given, but protocol is {self.protocol}: use SSL or SASL_SSL")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together: give both or neither")
        return self

    @model_validator(mode="after")
    def _consistent_sasl(self) -> Self:
        if not self.sasl:
            if self.username is not None or self.password is not None or self.password_file is not None:
                raise ValueError(f"credentials are given, but protocol is {self.protocol}: use SASL_SSL")
            return self
        if self.mechanism == "OAUTHBEARER":
            if not self.oauth.token_endpoint_url or not self.oauth.client_id or not self.oauth.current_client_secret():
                raise ValueError(
                    "OAUTHBEARER needs oauth.token_endpoint_url, oauth.client_id and oauth.client_secret_file"
                )
            if not self.oauth.token_endpoint_url.startswith("https://") and not self.allow_insecure:
                raise ValueError("oauth.token_endpoint_url must start with https://, or set allow_insecure: true")
        elif not self.username or not self.current_password():
            raise ValueError(
                f"{self.mechanism} needs username, and password_file or the variable "
                "VISIT_CONSUMER_KAFKA__SECURITY__PASSWORD"
            )
        return self


class KafkaSettings(Section):
    """Where events come from."""

    bootstrap_servers: Annotated[str, Field(min_length=1)]
    """Brokers for the first connection, `host:port` separated by commas."""
    topics: Annotated[tuple[TopicName, ...], Field(min_length=1)] = ("raw-ingested",)
    """Topics that carry events of raws and of exposures, one kind or both on each."""
    group: Annotated[str, Field(min_length=1, max_length=249)] = "visit-consumer"
    """Consumer group; positions are stored under its name. After a change run `visit-consumer positions take-over`."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """`classic` (cooperative-sticky) or `consumer` (KIP-848, Kafka 4.0 and later; the broker sets the session)."""
    session_timeout_s: Annotated[float, Field(ge=1, le=1800)] = 10.0
    """After this time without a heartbeat the group assigns a replica's partitions to others; `classic` only."""
    max_poll_interval_s: Annotated[float, Field(ge=10, le=86400)] = 300.0
    """After this time without a poll the replica leaves the group."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where to start reading a topic that was never read: at the start of its log, or at its end. Partitions that are
    added later, and a recreated topic, are always read from their start."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 1_048_576
    """A longer message becomes a dead letter without being decoded."""
    queue_max_bytes: Annotated[int, Field(ge=1_048_576, le=2_000_000_000)] = 16_777_216
    """Memory for messages that are fetched in advance, over all partitions."""
    writer_schema_files: tuple[Annotated[FilePath, AfterValidator(_usable_schema)], ...] = ()
    """Files with further Avro schemas of producers, older or newer than `schemas/raw_ingested.avsc` or
    `schemas/exposure_ingested.avsc`, for events in single-object encoding; one schema in each file."""
    security: KafkaSecuritySettings = KafkaSecuritySettings()
    """Encryption and identity."""
    client: Annotated[Mapping[str, Scalar], AfterValidator(_harmless_properties)] = {}
    """More properties of librdkafka, such as `socket.timeout.ms`. Properties that would break a promise are refused."""

    @model_validator(mode="after")
    def _each_topic_once(self) -> Self:
        if len(set(self.topics)) != len(self.topics):
            raise ValueError("kafka.topics names a topic twice; keep one")
        return self

    @model_validator(mode="after")
    def _session_within_poll(self) -> Self:
        if self.session_timeout_s > self.max_poll_interval_s:
            raise ValueError("kafka.session_timeout_s must not be above kafka.max_poll_interval_s")
        return self


class RegistrySettings(Section):
    """Schema registry (Confluent's API); needed only for messages in Confluent framing."""

    url: HttpUrlText | None = None
    """Address of the registry; null: no registry; messages then use Avro single-object encoding."""
    ca_file: FilePath | None = None
    """Certificate authority of the registry, PEM; null: the system's."""
    username: str | None = None
    """User for HTTP basic authentication."""
    password: SecretStr | None = None
    """Password; from the environment only."""
    password_file: SecretFile | None = None
    """File that holds the password."""
    allow_insecure: bool = False
    """Send the password over http:// too."""
    timeout_s: Seconds = 5.0
    """Timeout of one request. During an outage the partition waits; no message becomes a dead letter."""
    max_cached_schemas: Count = 1000
    """Number of writer schemas kept in memory."""

    def current_password(self) -> SecretStr | None:
        """Return the password as it is now; see `consumer.config.sections.current_secret`."""
        return current_secret(self.password, self.password_file)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        one_source("registry", self.password, self.password_file)
        has_password = self.password is not None or self.password_file is not None
        if (self.username is not None) != has_password:
            raise ValueError("username and password (or password_file) belong together: give both or neither")
        if has_password and not (self.url or "").startswith("https://") and not self.allow_insecure:
            raise ValueError("the password would cross the network unencrypted: use https://, or allow_insecure: true")
        return self
