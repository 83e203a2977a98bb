"""The tests' schema registries: Apicurio and the stub answer confluent_kafka's client alike."""

import json
import urllib.request
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from tests.support.registry import Registry, StubRegistry, register

_ONE = json.dumps({"type": "record", "name": "one", "fields": [{"name": "a", "type": "int"}]})
_OTHER = json.dumps({"type": "record", "name": "other", "fields": [{"name": "b", "type": "string"}]})


@pytest.fixture(params=["registry", "stub"])
def any_registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    if request.param == "registry":
        yield request.getfixturevalue("registry")
    else:
        with StubRegistry() as stub:
            yield stub


def test_a_schema_is_given_back_by_its_id(any_registry: Registry) -> None:
    one, other = register(any_registry, "one-value", _ONE), register(any_registry, "other-value", _OTHER)
    with SchemaRegistryClient({"url": any_registry.url}) as client:
        assert json.loads(client.get_schema(one).schema_str or "") == json.loads(_ONE)
        assert json.loads(client.get_schema(other).schema_str or "") == json.loads(_OTHER)


def test_registering_twice_gives_the_same_id(any_registry: Registry) -> None:
    assert register(any_registry, "one-value", _ONE) == register(any_registry, "one-value", _ONE)


def test_an_unknown_id_is_not_found(any_registry: Registry) -> None:
    with SchemaRegistryClient({"url": any_registry.url}) as client, pytest.raises(SchemaRegistryError) as caught:
        client.get_schema(987654)
    assert caught.value.http_status_code == 404


def test_a_stopped_stub_refuses_and_a_started_one_is_empty() -> None:
    with StubRegistry() as stub:
        first = register(stub, "one-value", _ONE)
        stub.stop()
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(stub.url)  # noqa: S310 - our own http:// address
        stub.start()
        assert register(stub, "other-value", _OTHER) == first
