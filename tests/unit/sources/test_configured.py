"""From settings to places: the document's example, the default patterns, and what no settings may say."""

from pathlib import Path
from typing import Any

import pytest

from consumer.config import load_settings
from consumer.config.source import SourceSettings
from consumer.errors import ConfigurationError
from consumer.sources.configured import compiled, configured_places, retry_policy
from consumer.sources.places import ObjectRole
from tests.support.documents import ROOT, example
from tests.support.emitting import FOLDER

RUBIN = "LSSTCam/20251121/MC_O_20251121_000156/MC_O_20251121_000156_"


def settings(source: dict[str, Any]) -> SourceSettings:
    below = {"kafka": {"bootstrap_servers": "b:1"}, "database": {"conninfo": ""}, "source": source}
    return load_settings(None, {}, below=below).source


def test_the_example_of_the_documents_names_a_bucket_and_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "visits.yaml"
    file.write_text(example(ROOT / "docs" / "how-to" / "emit-raws-as-they-land.md", "settings"))
    places = configured_places(load_settings(file, {}).source)
    assert [each.url for each in places.places] == ["s3://raws", "/data/raws"]
    assert places.bucket("raws") is not None
    assert places.bucket("other") is None


@pytest.mark.parametrize(
    ("key", "role", "obs_id", "detector"),
    [
        (f"{RUBIN}R44_SW0.fits", ObjectRole.RAW, "MC_O_20251121_000156", "R44_SW0"),
        (f"{RUBIN}R44_SW0.fits.fz", ObjectRole.RAW, "MC_O_20251121_000156", "R44_SW0"),
        (f"{RUBIN}R44_SW0.json", ObjectRole.SIDECAR, "MC_O_20251121_000156", "R44_SW0"),
        (f"{RUBIN}expectedSensors.json", ObjectRole.EXPECTED_SENSORS, None, None),
        ("dec050441.fit.gz", ObjectRole.RAW, None, None),
        ("a/header.yaml", ObjectRole.SIDECAR, None, None),
    ],
)
def test_the_default_patterns_know_the_keys_of_observatories(
    key: str, role: ObjectRole, obs_id: str | None, detector: str | None
) -> None:
    identity = FOLDER.patterns.identify(key)
    assert identity is not None
    assert (identity.role, identity.obs_id, identity.detector) == (role, obs_id, detector)
    assert identity.day_obs == (20251121 if obs_id else None)


@pytest.mark.parametrize(
    "name", ["R00_SG0_guider.fits", "R00_SG0_guider.json", "shutterMotionProfileOpen.json", "x.txt"]
)
def test_what_lies_beside_raws_is_none(name: str) -> None:
    assert FOLDER.patterns.identify(f"{RUBIN}{name}") is None


def test_sidecar_and_file_have_one_name() -> None:
    names = {
        identity.name
        for extension in ("json", "fits", "fits.fz", "fits.gz")
        if (identity := FOLDER.patterns.identify(f"{RUBIN}R22_S11.{extension}")) is not None
    }
    assert names == {f"{RUBIN}R22_S11"}


def test_patterns_of_ones_own_are_used() -> None:
    source = settings({"buckets": {"raws": {"patterns": {"raw": r"night/(?P<raw>\d+)-.*\.fits", "sidecar": None}}}})
    patterns = compiled(source.buckets["raws"].patterns)
    identity = patterns.identify("night/17-a.fits")
    assert identity is not None
    assert identity.name == "17"
    assert patterns.identify("night/17-a.yaml") is None


def test_only_the_folders_that_are_asked_for_are_places(tmp_path: Path) -> None:
    source = settings({"buckets": {"raws": {}}, "folders": [{"path": str(tmp_path), "prefixes": ["a/"]}]})
    (place,) = configured_places(source, [tmp_path]).places
    assert (place.url, place.prefixes) == (str(tmp_path.resolve()), ("a/",))


def test_a_command_that_ends_waits_for_less() -> None:
    assert retry_policy(settings({}).retry, give_up_s=30).give_up_s == 30
    assert retry_policy(settings({"retry": {"give_up_s": 5}}).retry, give_up_s=30).give_up_s == 5


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ({"buckets": {"raws": {"prefixes": ["../x"]}}}, "is no prefix of keys"),
        ({"buckets": {"raws": {"prefixes": ["/x"]}}}, "is no prefix of keys"),
        ({"buckets": {"raws": {"prefixes": []}}}, "prefixes"),
        ({"buckets": {"raws/x": {}}}, "is no name of a bucket"),
        ({"buckets": {"raws": {"patterns": {"raw": "("}}}}, "is no regular expression"),
        ({"folders": [{"path": "raws"}]}, "is not absolute"),
        ({"folders": [{"path": "/raws"}, {"path": "/raws"}]}, "names a path twice"),
        ({"endpoint_url": "https://user:secret@s3.example.org"}, "must not carry a user name or password"),
        ({"endpoint_url": "file:///etc"}, "http:// or https://"),
        ({"listen": {"port": -1}}, "source.listen.port"),
    ],
)
def test_settings_that_make_no_sense_are_refused(source: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        settings(source)
    assert "secret" not in str(caught.value)


def test_a_token_in_the_file_is_refused_and_one_from_a_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "visits.yaml"
    file.write_text("kafka: {bootstrap_servers: b}\ndatabase: {conninfo: ''}\nsource: {listen: {token: x}}\n")
    with pytest.raises(ConfigurationError, match="a secret stands in"):
        load_settings(file, {})
    token = tmp_path / "token"
    token.write_text("first\n")
    listen = settings({"listen": {"token_file": str(token)}}).listen
    current = listen.current_token()
    assert current is not None
    assert current.get_secret_value() == "first"
