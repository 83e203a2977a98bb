"""Makes librdkafka's clients, and says which setting is wrong when it refuses to make one."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, Producer

from consumer.config import KafkaSettings
from consumer.errors import ConfigurationError
from consumer.kafka.properties import Properties, announcer_properties, connection_properties, consumer_properties
from consumer.logs import MASK

Client = TypeVar("Client")

_LOGGER = logging.getLogger("librdkafka")
_UNHEARD = logging.getLogger("librdkafka.check")
_UNHEARD.disabled = True
_SECRET = re.compile(r"password|secret")
_SETTINGS: Mapping[str, str] = {
    "https.ca.location": "kafka.security.oauth.ca_file",
    "ssl.ca.location": "kafka.security.ca_file",
    "ssl.certificate.location": "kafka.security.certificate_file",
    "ssl.key.location": "kafka.security.key_file, or key_password",
    "sasl.": "kafka.security",
}
"""Which setting a property comes from. The others come from ``kafka.client``, or are never refused."""
_SPEAKS = ("bootstrap.servers", "sasl.oauthbearer.", "https.ca.location")
"""By these a client would look for brokers, or for a token, as soon as it is made."""


def new_client(
    kind: Callable[..., Client], properties: Mapping[str, object], *, logger: logging.Logger = _LOGGER
) -> Client:
    """Make a client of librdkafka.

    Parameters
    ----------
    kind
        Its class.
    properties
        Of librdkafka, callbacks included.
    logger
        Takes what librdkafka logs.

    Raises
    ------
    ConfigurationError
        When librdkafka refuses a property or a file; it names the setting, and holds no secret.
    """
    try:
        return kind(dict(properties), logger=logger)
    except KafkaException as error:
        reason = error.args[0].str().strip()
    setting = next((ours for name, ours in _SETTINGS.items() if name in reason), "kafka.client")
    for name, value in properties.items():
        # librdkafka repeats some of the values that it refuses.
        if _SECRET.search(name) and value:
            reason = reason.replace(str(value), MASK)
    raise ConfigurationError(f"{setting}: librdkafka refuses it: {reason}")


def check_clients(settings: KafkaSettings, *, announces: bool) -> None:
    """Make the clients that the service will need, without connecting them, and drop them.

    Parameters
    ----------
    settings
        Of Kafka.
    announces
        Whether the service will announce visits.

    Raises
    ------
    ConfigurationError
        When librdkafka refuses a property or a file.
    """
    new_client(Consumer, _silent(consumer_properties(settings, client_id="check")), logger=_UNHEARD).close()
    if announces:
        new_client(Producer, _silent(announcer_properties(connection_properties(settings))), logger=_UNHEARD)


def _silent(properties: Properties) -> Properties:
    return {name: value for name, value in properties.items() if not name.startswith(_SPEAKS)}
