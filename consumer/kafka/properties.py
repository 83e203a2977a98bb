"""From settings to librdkafka's properties; the one place that knows both."""

import ssl

from consumer.config import KafkaSecuritySettings, KafkaSettings

Properties = dict[str, str | int | float | bool]

_FETCH_BYTES = 262_144
"""Of one partition in one fetch, unless ``kafka.client`` says otherwise. A fetch counts against the bound of what is
read ahead only after it was unpacked, and raws of one exposure pack well: librdkafka's 1 MB become 40 MB of four
partitions. A larger message comes all the same."""
ACKNOWLEDGED_WITHIN_S = 30.0
"""How long the brokers have to acknowledge an announcement, librdkafka's own repetitions included."""


def connection_properties(settings: KafkaSettings) -> Properties:
    """Return the properties by which any client reaches the brokers: addresses, encryption, identity.

    The result may hold secrets: it is for librdkafka alone.
    """
    return {"bootstrap.servers": settings.bootstrap_servers, **dict(settings.client), **_security(settings.security)}


def consumer_properties(settings: KafkaSettings, *, client_id: str) -> Properties:
    """Return the properties of the group's member; see `consumer.kafka.source` for what they promise."""
    properties: Properties = {
        "fetch.message.max.bytes": _FETCH_BYTES,
        **connection_properties(settings),
        "client.id": client_id,
        "group.id": settings.group,
        "group.protocol": settings.group_protocol,
        "max.poll.interval.ms": round(settings.max_poll_interval_s * 1000),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        # A position outside the log is an error that an operator decides on, never a silent reset.
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        "check.crcs": True,
        "queued.max.messages.kbytes": settings.queue_max_bytes // 1024,
    }
    if settings.group_protocol == "classic":
        properties["partition.assignment.strategy"] = "cooperative-sticky"
        properties["session.timeout.ms"] = round(settings.session_timeout_s * 1000)
        properties["heartbeat.interval.ms"] = max(round(settings.session_timeout_s * 1000 / 5), 100)
    return properties


def announcer_properties(connection: Properties) -> Properties:
    """Return the properties of the announcements' producer; see `consumer.kafka.announcer` for what they promise."""
    return {
        "linger.ms": 0,
        "compression.type": "lz4",
        **connection,
        "enable.idempotence": True,
        "acks": "all",
        "message.timeout.ms": round(ACKNOWLEDGED_WITHIN_S * 1000),
    }


def _security(security: KafkaSecuritySettings) -> Properties:
    properties: Properties = {"security.protocol": security.protocol}
    if security.tls:
        files = {
            "ssl.ca.location": security.ca_file,
            "ssl.certificate.location": security.certificate_file,
            "ssl.key.location": security.key_file,
        }
        properties |= {name: str(path) for name, path in files.items() if path is not None}
        key_password = security.current_key_password()
        if key_password is not None:
            properties["ssl.key.password"] = key_password.get_secret_value()
        properties["ssl.endpoint.identification.algorithm"] = "https"
    if security.sasl:
        properties["sasl.mechanism"] = security.mechanism
        properties |= _oauth(security) if security.mechanism == "OAUTHBEARER" else _password(security)
    return properties


def _password(security: KafkaSecuritySettings) -> Properties:
    password = security.current_password()
    return {
        "sasl.username": security.username or "",
        "sasl.password": password.get_secret_value() if password is not None else "",
    }


def _oauth(security: KafkaSecuritySettings) -> Properties:
    oauth = security.oauth
    secret = oauth.current_client_secret()
    optional = {
        "sasl.oauthbearer.client.id": oauth.client_id,
        "sasl.oauthbearer.client.secret": None if secret is None else secret.get_secret_value(),
        "sasl.oauthbearer.scope": oauth.scope,
        "sasl.oauthbearer.extensions": oauth.extensions,
        "sasl.oauthbearer.token.endpoint.url": oauth.token_endpoint_url,
        # Where nothing is said, librdkafka's libcurl looks where only Red Hat's systems keep their authorities.
        "https.ca.location": str(oauth.ca_file) if oauth.ca_file else ssl.get_default_verify_paths().cafile,
    }
    return {"sasl.oauthbearer.method": "oidc", **{name: value for name, value in optional.items() if value}}
