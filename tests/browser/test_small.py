"""What `make test` asks of the page in a browser: visits appear by themselves, names are text, everybody can use it."""

import re
from typing import Final

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import LiveService
from tests.support.browsers import opened, serious_faults
from tests.support.exposures import exposure, run_of
from tests.support.service import Wire, raws_of

HOSTILE: Final = (
    "<script>document.title='taken'</script><img src=x onerror=alert(1)>",
    "\u202eevitisnes\u202c",
    "long " * 40,
)
TARGETS: Final = [exposure(40 + number, target_name=name) for number, name in enumerate(HOSTILE)]
WAITING: Final = run_of(60, 62)[0]


@pytest.fixture(scope="module")
def fed(service: LiveService) -> LiveService:
    """Give the service with visits of hostile names, an open group and a bad message."""
    service.send([*raws_of(TARGETS, range(9)), *raws_of([WAITING], range(9)), Wire(b"<b>no event</b>")])
    service.consumer.wait_until(lambda: service.count("visit") > len(TARGETS), what="the visits")
    service.consumer.wait_until(lambda: service.count("dead_letter") == 1, what="the dead letter")
    return service


def test_a_visit_appears_on_the_map_without_a_reload(browser: Browser, fed: LiveService) -> None:
    new = exposure(50, tracking_ra=200.0, tracking_dec=-40.0)
    with opened(browser, f"{fed.url}/#/sky") as page:
        expect(page.get_by_role("status")).to_have_text("Live")
        expect(page.locator(f'[data-visit="{TARGETS[0].id}"]')).to_be_attached()
        loaded = page.evaluate("performance.timeOrigin")
        before = fed.count("visit")
        fed.send(raws_of([new], range(9)))
        fed.consumer.wait_until(lambda: fed.count("visit") == before + 1, what="the commit")
        expect(page.locator(f'[data-visit="{new.id}"]')).to_be_visible(timeout=2000)
        assert page.evaluate("performance.timeOrigin") == loaded


def test_names_are_shown_as_text(browser: Browser, fed: LiveService) -> None:
    with opened(browser, f"{fed.url}/#/tonight") as page:
        for name in HOSTILE:
            cell = page.locator("td bdi").get_by_text(name.strip(), exact=True).first
            expect(cell).to_have_text(name.strip())
        expect(page).to_have_title(re.compile("^Tonight"))
        assert page.locator("#page script, #page img").count() == 0
        page.goto(f"{fed.url}/#/visit/LSSTComCam/{TARGETS[0].id}")
        expect(page.locator("dd bdi").get_by_text(HOSTILE[0], exact=True)).to_be_visible()
        page.goto(f"{fed.url}/#/search/{'%3Cb%3E'}/x")
        expect(page.locator(".lead bdi")).to_have_text("<b>")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, fed: LiveService, scheme: str) -> None:
    views = {
        "tonight": "table",
        "sky": ".footprint",
        f"sky/latest/LSSTComCam/{TARGETS[0].id}": ".detector",
        "waiting": "table",
        "trouble": ".reason table",
        f"visit/LSSTComCam/{TARGETS[0].id}": ".detector",
        f"exposure/{TARGETS[0].id}": ".timeline",
        "search/COSMOS": ".lead",
    }
    with opened(browser, fed.url, color_scheme=scheme, reduced_motion="reduce") as page:
        for view, shown in views.items():
            page.goto(f"{fed.url}/#/{view}")
            expect(page.locator(shown).first).to_be_attached()
            assert serious_faults(page) == [], view
