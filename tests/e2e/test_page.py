"""The page of a report in a real browser: Chromium, where the machine has it."""

from __future__ import annotations

import shutil
from io import BytesIO

import pytest
from PIL import Image

import tonsurance_risk as tr
from pages import hostile_report, report_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter(
    one => !one.closest('.scroll, svg, .skip') && one.getBoundingClientRect().right > innerWidth + 0.5
).map(one => one.outerHTML.slice(0, 200))"""
TEXTS = "() => [...document.querySelectorAll('svg text')].filter(one => one.getClientRects().length)"
CUT_OFF = """() => [...document.querySelectorAll('.scroll')].filter(
    one => one.scrollWidth > one.clientWidth
).map(one => [one.getAttribute('aria-label'), one.scrollWidth, one.clientWidth])"""
UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true })"


@pytest.fixture(scope="module")
def browser():
    """Start it once."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield running
        running.close()


@pytest.fixture(scope="module", params=["plain", "hostile"])
def address(request, tmp_path_factory):
    """A page on the disk: of a small book, and of one whose names are hostile."""
    report = report_of() if request.param == "plain" else hostile_report()
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(tr.render_html(report), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Open the page at a width and in a scheme; collect what it says and asks for."""
    contexts = []

    def open_page(width, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: page.heard.append(dialog.message))
        page.on("request", lambda request: page.heard.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [320, 375, 1400])
def test_it_fits_and_is_quiet(opened, address, width):
    """No sideways scrolling, folded or unfolded; nothing asked for but the page, nothing on the console, no script ran."""
    page = opened(width)

    for _ in ("folded", "unfolded"):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert [] == page.evaluate(TOO_WIDE)
        page.evaluate(UNFOLD)
    assert [address] == page.heard
    assert page.evaluate("window.hacked === undefined")
    assert 0 == page.locator("script").count()
    assert page.title().startswith("Risk report 2024-")


def test_no_table_is_cut_off_on_a_phone(opened):
    """Nothing has to be scrolled sideways; cells that stand below each other say what they are."""
    page = opened(375)
    page.evaluate(UNFOLD)

    assert [] == page.evaluate(CUT_OFF)
    assert '"severity"' == page.evaluate(
        "getComputedStyle(document.querySelector('[data-label=severity]'), '::before').content"
    )


def test_what_is_wider_than_a_phone_is_seen_to_go_on(opened):
    """A shadow at the edge behind which a table goes on, and none where it ends."""
    page = opened(375)
    page.evaluate(UNFOLD)
    page.evaluate(
        """document.querySelector('.scroll').replaceChildren(
            Object.assign(document.createElement('div'), {style: 'width: 60rem; height: 9rem'})
        )"""
    )
    box = page.locator(".scroll").first

    def edges():
        """Return the luminance of the outermost pixels, left and right."""
        with Image.open(BytesIO(box.screenshot())).convert("L") as seen:
            return [seen.getpixel((column, seen.height // 3)) for column in (0, seen.width - 1)]

    left, right = edges()
    assert 255 == left
    assert right < 180
    box.evaluate("one => { one.scrollLeft = one.scrollWidth }")
    left, right = edges()
    assert left < 180
    assert 255 == right


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1400])
def test_axe_finds_nothing_serious(opened, width, scheme):
    """Contrast, names, structure, by the rules of axe, with everything unfolded."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(width, scheme)
    page.evaluate(UNFOLD)

    found = Axe().run(page).response["violations"]

    assert [] == [
        (one["id"], one["impact"], one["nodes"][0]["html"][:300])
        for one in found
        if one["impact"] in ("serious", "critical", "moderate")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_charts_takes_the_colour_of_the_page(opened, scheme):
    """Light on dark, dark on light; every letter is inside its drawing, and at least 8 pixels high on a phone."""
    page = opened(375, scheme)

    colours = page.evaluate(f"({TEXTS})().map(one => getComputedStyle(one).fill)")
    ink = page.evaluate("getComputedStyle(document.body).color")
    sizes = page.evaluate(
        f"({TEXTS})().map(one => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a)"
    )
    outside = page.evaluate(
        f"""({TEXTS})().filter(one => {{
            const letter = one.getBoundingClientRect(), drawing = one.ownerSVGElement.getBoundingClientRect();
            return letter.left < drawing.left - 1 || letter.right > drawing.right + 1
                || letter.top < drawing.top - 1 || letter.bottom > drawing.bottom + 1;
        }}).map(one => one.textContent)"""
    )

    assert colours
    assert {ink} == set(colours)
    assert 8.0 <= min(abs(size) for size in sizes if size)
    assert [] == outside


def test_the_skip_link_and_tables_are_reached_by_keyboard(opened):
    """The first stop is the link that skips; it shows itself, and leads to the headline."""
    page = opened(1400)
    page.keyboard.press("Tab")

    assert "Skip to the headline" == page.evaluate("document.activeElement.textContent")
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#headline'")


def test_paper_is_light_and_whole(opened):
    """Printed from a dark screen, on the width of A4 between its margins."""
    page = opened(680, "dark")
    page.emulate_media(media="print", color_scheme="dark")

    assert "rgb(255, 255, 255)" == page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert [] == page.evaluate(TOO_WIDE.replace(".scroll, svg", "svg"))


def test_paper_has_what_a_screen_folds(opened):
    """Tables that nobody unfolded are on paper, and nowhere else."""
    page = opened(680)
    shown = "[...document.querySelectorAll('details table')].map(one => one.checkVisibility() && one.offsetHeight > 40)"

    on_screen = page.evaluate(shown)
    page.emulate_media(media="print")

    assert len(on_screen) > 4
    assert {False} == set(on_screen)
    assert {True} == set(page.evaluate(shown))
