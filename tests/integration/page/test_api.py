"""Every answer of the API, over the small night."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from openapi_spec_validator import validate

from consumer import __version__
from tests.integration.page.small_night import BAD, HOSTILE, OLDER, SINGLE, SNAPS, TARGETS, WAITING, YESTERDAY
from tests.support.exposures import DAY_OBS
from tests.support.pages import API, Page


def test_about(page: Page) -> None:
    found = page.ask(f"{API}/about", X_Forwarded_User="a <b> c").json
    assert found["version"] == __version__
    assert found["user"] == "a <b> c"
    assert found["site"]["name"] == "Cerro Pachón"
    assert (found["site"]["latitude_deg"], found["site"]["min_altitude_deg"]) == (-30.24, 0.0)
    assert page.api("/about")["user"] is None


def test_nights(page: Page) -> None:
    both = page.api("/nights")
    assert [each["day_obs"] for each in both["nights"]] == [DAY_OBS, YESTERDAY]
    assert both["nights"][1] == {"day_obs": YESTERDAY, "exposures": 1, "visits": 1}
    assert both["next"] is None
    first = page.api("/nights?limit=1")
    assert ([each["day_obs"] for each in first["nights"]], first["next"]) == ([DAY_OBS], DAY_OBS)
    second = page.api(f"/nights?limit=1&before={first['next']}")
    assert [each["day_obs"] for each in second["nights"]] == [YESTERDAY]


def test_a_night_in_numbers(page: Page) -> None:
    night = page.api("/nights/latest")
    assert night["day_obs"] == DAY_OBS
    assert night["exposures"] == len(SNAPS) + 2 + len(TARGETS)
    assert night["visits"] == sum(each["visits"] for each in night["counts"])
    by_filter = {each["physical_filter"]: each for each in night["counts"]}
    assert by_filter["i_06"] == {
        "instrument": "LSSTComCam",
        "physical_filter": "i_06",
        "exposures": 1,
        "visits": 1,
        "complete": by_filter["i_06"]["complete"],
    }
    assert night["latency"]["visits"] == night["visits"]
    assert night["latency"]["p50_s"] <= night["latency"]["p99_s"]
    assert len(night["last_visits"]) == night["visits"]
    assert page.api(f"/nights/{YESTERDAY}")["visits"] == 1
    empty = page.api("/nights/19990101")
    assert (empty["visits"], empty["counts"], empty["latency"]) == (0, [], None)


def test_visits_page_by_page(page: Page) -> None:
    whole = page.api(f"/nights/{DAY_OBS}/visits")["visits"]
    found: list[Any] = []
    more = ""
    for _ in whole:
        some = page.api(f"/nights/{DAY_OBS}/visits?limit=2{more}")
        assert len(some["visits"]) <= 2
        found += some["visits"]
        if some["next"] is None:
            break
        more = f"&after={some['next']}"
    assert found == whole
    assert [each["visit"] for each in whole] == sorted(each["visit"] for each in whole)
    single = next(each for each in whole if each["visit"] == SINGLE.id)
    assert single["ra_deg"] == pytest.approx(53.1, abs=0.05)
    assert single["dec_deg"] == pytest.approx(-27.8, abs=0.05)
    assert single["exposure_time_s"] == 30.0
    # 37 s behind TAI.
    assert single["begin"].startswith("2026-11-0")
    assert single["begin"].endswith("Z")
    assert page.api(f"/nights/{DAY_OBS}/visits?instrument=LATISS") == {"visits": [], "next": None}


def test_footprints(page: Page) -> None:
    found = page.api(f"/nights/{DAY_OBS}/footprints")
    assert found["day_obs"] == DAY_OBS
    ids = [each["visit"] for each in page.api(f"/nights/{DAY_OBS}/visits")["visits"]]
    assert [each["visit"] for each in found["footprints"]] == ids
    one = next(each for each in found["footprints"] if each["visit"] == SINGLE.id)
    ra, dec = one["polygon"][::2], one["polygon"][1::2]
    assert len(ra) == len(dec) >= 4
    assert min(ra) < 53.1 < max(ra)
    assert min(dec) < -27.8 < max(dec)
    # Counter-clockwise as seen from the origin, where right ascension grows to the left.
    area = sum(ra[i - 1] * dec[i] - ra[i] * dec[i - 1] for i in range(len(ra)))
    assert area < 0
    some = page.api(f"/nights/{DAY_OBS}/footprints?limit=1")
    assert page.api(f"/nights/{DAY_OBS}/footprints?after={some['next']}")["footprints"] == found["footprints"][1:]


def test_a_visit(page: Page) -> None:
    found = page.api(f"/visits/LSSTComCam/{SINGLE.id}")
    assert (found["target_name"], found["revision"], found["visit_systems"]) == ("ECDFS", 1, [0, 2])
    assert found["exposures"] == [
        {
            "exposure": SINGLE.id,
            "obs_id": SINGLE.obs_id,
            "seq_num": SINGLE.seq_num,
            "raws_arrived": 8,
            "raws_expected": None,
        }
    ]
    assert [each["detector"] for each in found["detectors"]] == list(range(9))
    assert [each["raw"] for each in found["detectors"]] == ["arrived"] * 8 + ["unknown"]
    assert all(len(each["polygon"]) == 8 for each in found["detectors"])
    assert page.ask(f"{API}/visits/LSSTComCam/1").status == 404
    assert page.ask(f"{API}/visits/LATISS/{SINGLE.id}").status == 404


def test_an_exposure(page: Page) -> None:
    (found,) = page.api(f"/exposures/{SINGLE.id}")["explanations"]
    assert (found["ending"], found["obs_id"]) == ("visit", SINGLE.obs_id)
    assert found["history"][0]["what"] == "the first event of the exposure was stored"
    (waiting,) = page.api(f"/exposures/{WAITING.id}?instrument=LSSTComCam")["explanations"]
    assert waiting["waiting"]["members"] == [WAITING.id]
    (never,) = page.api("/exposures/1")["explanations"]
    assert never["ending"] == "never_seen"


def test_groups(page: Page) -> None:
    found = page.api("/groups")
    assert found["total"] == 1
    (group,) = found["groups"]
    assert (group["instrument"], group["exposures"], group["waits_for"]) == ("LSSTComCam", 1, "seq_num 21-22")
    assert group["closes"] > group["stream_time"]


def test_status_and_trouble(page: Page) -> None:
    status = page.api("/status")
    assert (status["open_groups"], status["open_dead_letters"]) == (1, BAD)
    assert status["problems"]
    assert [each["state"] for each in status["partitions"]] == ["unread"]
    trouble = page.api("/trouble")
    assert trouble["problems"] == status["problems"]
    (letters,) = trouble["dead_letters"]
    assert (letters["number"], len(letters["first"])) == (BAD, 3)
    assert [each["partition"] for each in trouble["partitions"]] == [0]
    (audit,) = trouble["audits"]
    assert (audit["errors"], audit["findings"][0]["detail"]) == (1, "a gap")


def test_dead_letters_page_by_page(page: Page) -> None:
    whole = page.api("/dead-letters")
    assert (len(whole["dead_letters"]), whole["next"]) == (BAD, None)
    assert [each["offset"] for each in whole["dead_letters"]] == sorted(x["offset"] for x in whole["dead_letters"])
    first = page.api("/dead-letters?limit=2")
    rest = page.api(f"/dead-letters?after={first['next']}")
    assert first["dead_letters"] + rest["dead_letters"] == whole["dead_letters"]
    reason = whole["dead_letters"][0]["reason"]
    assert page.api(f"/dead-letters?reason={reason}") == whole
    assert page.api("/dead-letters?reason=none")["dead_letters"] == []


def test_cone(page: Page) -> None:
    inside = page.api("/cone?ra_deg=53.1&dec_deg=-27.8")
    assert [each["visit"] for each in inside["visits"]] == [SINGLE.id]
    assert inside["truncated"] is False
    assert page.api("/cone?ra_deg=55&dec_deg=-27.8")["visits"] == []
    assert [each["visit"] for each in page.api("/cone?ra_deg=55&dec_deg=-27.8&radius_deg=2")["visits"]] == [SINGLE.id]
    many = page.api("/cone?ra_deg=150.1&dec_deg=2.2")["visits"]
    assert many[0]["day_obs"] == DAY_OBS
    assert many[-1]["visit"] == OLDER.id
    some = page.api("/cone?ra_deg=150.1&dec_deg=2.2&limit=2")
    assert (some["visits"], some["truncated"]) == (many[:2], True)


def found_by(page: Page, text: str) -> list[tuple[str, int]]:
    return [(each["kind"], each["id"]) for each in page.api(f"/search?q={quote(text)}")["results"]]


def test_search(page: Page) -> None:
    assert found_by(page, str(SINGLE.id)) == [("visit", SINGLE.id), ("exposure", SINGLE.id)]
    assert ("exposure", SINGLE.id) in found_by(page, SINGLE.obs_id)
    assert found_by(page, "ecdf") == [("visit", SINGLE.id)]
    assert found_by(page, " 53.1 -27.8 ") == found_by(page, "53.1,-27.8") == [("visit", SINGLE.id)]
    assert page.api("/search?q=53.1%20-27.8")["position"] == {"ra_deg": 53.1, "dec_deg": -27.8}
    assert page.api("/search?q=nothing")["results"] == []
    some = page.api("/search?q=cosmos&limit=1")
    assert (len(some["results"]), some["truncated"]) == (1, True)
    name = page.api(f"/visits/LSSTComCam/{SNAPS[0].id}")["name"]
    assert ("visit", SNAPS[0].id) in found_by(page, name)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_names_are_text(page: Page, number: int) -> None:
    one, name = TARGETS[number], HOSTILE[number]
    assert page.api(f"/visits/LSSTComCam/{one.id}")["target_name"] == name
    assert found_by(page, name[:20]) == [("visit", one.id)]
    answer = page.ask(f"{API}/visits/LSSTComCam/{one.id}")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/nights?limit=0",
        "/nights?limit=101",
        "/nights?limit=x",
        "/nights/tomorrow",
        "/nights/-1",
        "/nights/999999999999999999999",
        f"/nights/{DAY_OBS}/visits?limit=501",
        f"/nights/{DAY_OBS}/visits?after=x",
        f"/nights/{DAY_OBS}/visits?after=a/99999999999999999999",
        f"/nights/{DAY_OBS}/visits?instrument=a%00b",
        f"/nights/{DAY_OBS}/footprints?limit=5001",
        "/visits/LSSTComCam/-1",
        "/visits/LSSTComCam/9223372036854775808",
        "/visits/a%00b/1",
        "/exposures/x",
        "/groups?limit=501",
        "/dead-letters?after=-1",
        "/cone?ra_deg=nan&dec_deg=0",
        "/cone?ra_deg=0&dec_deg=91",
        "/cone?ra_deg=0&dec_deg=0&radius_deg=6",
        "/cone?ra_deg=0",
        "/search?q=",
        f"/search?q={'x' * 201}",
        "/search?q=%00",
    ],
)
def test_odd_parameters_are_refused(page: Page, path: str) -> None:
    answer = page.ask(API + path)
    assert answer.status == 422, answer.body
    assert answer.json["detail"]


@pytest.mark.parametrize("text", ["%", "_", "\\", "'; DROP TABLE visit; --", "%ff", "\ud7ff", "999999999999999999"])
def test_odd_searches_find_nothing(page: Page, text: str) -> None:
    assert found_by(page, text) == []


def test_what_is_known_already_is_not_sent_again(page: Page) -> None:
    path = f"{API}/nights/{DAY_OBS}/footprints"
    first = page.ask(path)
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    again = page.ask(path, If_None_Match=f'"other", {etag}')
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == etag
    packed = page.ask(path, Accept_Encoding="gzip")
    assert (packed.headers["Content-Encoding"], packed.json) == ("gzip", first.json)
    head = page.ask(path, method="HEAD")
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", etag)


def test_every_answer_has_the_headers_and_nothing_is_written(page: Page) -> None:
    for path in ("/", "/nowhere.html", f"{API}/nights", f"{API}/nowhere", "/healthz", f"{API}/openapi.json"):
        answer = page.ask(path)
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"], path
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert page.ask(f"{API}/nights", method="POST").status == 405
    assert page.ask(f"{API}/nowhere").status == 404
    assert page.ask("/../../pyproject.toml").status == 404
    assert page.ask("/healthz").json == {"ok": True, "reasons": []}


def test_the_document_describes_every_path(page: Page) -> None:
    document = page.ask(f"{API}/openapi.json").json
    validate(document)
    assert {path.removeprefix(API) for path in document["paths"]} == {
        "/about",
        "/nights",
        "/nights/{day_obs}",
        "/nights/{day_obs}/visits",
        "/nights/{day_obs}/footprints",
        "/visits/{instrument}/{visit}",
        "/exposures/{exposure}",
        "/cone",
        "/search",
        "/groups",
        "/status",
        "/trouble",
        "/dead-letters",
        "/events",
    }
    assert "user" in json.dumps(document["components"]["schemas"]["AboutAnswer"])


@pytest.mark.parametrize("day", [0, 99_991_231])
def test_a_night_at_the_ends_of_the_calendar_is_empty(page: Page, day: int) -> None:
    answer = page.ask(f"{API}/nights/{day}")
    assert (answer.status, answer.json["counts"]) == (200, [])


def test_questions_that_wait_for_a_lock_hold_up_no_other(page: Page, dsn: str) -> None:
    """Many clients ask one thing of a locked table: they share one session, and are answered 503 in time."""
    with psycopg.connect(dsn) as connection, ThreadPoolExecutor(60) as clients:
        connection.execute("LOCK TABLE visits.visit")
        waiting = [clients.submit(page.ask, f"{API}/nights/20261101/visits?limit=7") for _ in range(60)]
        time.sleep(0.5)
        began_s = time.monotonic()
        assert page.ask(f"{API}/about").status == 200
        assert page.ask(f"{API}/dead-letters").status == 200
        assert time.monotonic() - began_s < 2
        assert {each.result().status for each in waiting} == {503}
    assert page.ask(f"{API}/nights/20261101/visits?limit=7").status == 200
