"""The page of a report: what is on it, and that it is what it says it is. A real browser looks at it in e2e."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise

import attrs
import html5lib
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from pages import HOSTILE, hostile_report, prices, report_of
from tonsurance_risk.reporting.html import save_html

SVG = "{http://www.w3.org/2000/svg}"
HTML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(scope="module")
def report():
    """One report for all that only look at it."""
    return report_of()


@pytest.fixture(scope="module")
def page(report):
    """Its page."""
    return tr.render_html(report)


@pytest.fixture(scope="module")
def explained(report):
    """A report a day after one of another book, capital, scenario and seed."""
    scenarios = tr.builtin_scenarios()
    other = [attrs.evolve(scenarios[0], weight=2.0), *scenarios[1:]]
    policies = [attrs.evolve(report.vault.policies[0], coverage=1_000.0), *report.vault.policies[1:]]
    vault = attrs.evolve(report.vault, capital=report.vault.capital - 1e4, policies=policies)
    earlier = report_of(vault=vault, scenarios=other, seed=5)
    before = tr.EarlierRun(
        as_of=report.as_of - pd.Timedelta(days=1), run_inputs_sha256="0" * 64, sample=earlier.sample, published={}
    )
    return report_of(before=before)


@pytest.fixture(scope="module")
def explained_page(explained):
    """Its page."""
    return tr.render_html(explained)


def parsed(page):
    """Parse a page; what a validating parser does not accept is an error."""
    return html5lib.HTMLParser(strict=True).parse(page)


def text_of(element):
    """Return the text of an element as it is read, with plain spaces and without isolates."""
    return " ".join(re.sub("[\u2068\u2069]", "", " ".join(element.itertext())).split())


def section(tree, anchor):
    """Return the text of a section."""
    return next(text_of(one) for one in tree.iter(f"{HTML}section") if one.get("aria-labelledby") == anchor)


def test_it_is_valid_and_in_order(page):
    """HTML without a parse error; headings one level at a time; sections in the order in which they are read."""
    tree = parsed(page)

    heads = [int(one.tag[-1]) for one in tree.iter() if re.fullmatch(f"{HTML}h[1-6]", str(one.tag))]
    assert 1 == heads.count(1)
    assert 1 == heads[0]
    assert all(later - earlier <= 1 for earlier, later in pairwise(heads))
    assert "en" == tree.get("lang")
    assert [
        "headline", "alerts", "recommendations", "changes", "losses-section", "stress-section",
        "contributions-section", "correlations-section", "depegs", "quality", "method",
    ] == [one.get("aria-labelledby") for one in tree.iter(f"{HTML}section")]  # fmt: skip
    assert all(one.get("scope") in ("row", "col") for one in tree.iter(f"{HTML}th"))


def test_it_needs_nothing_else(page):
    """No address of anything outside, no script; an SVG names only what is inside it."""
    tree = parsed(page)

    links = [
        value
        for one in tree.iter()
        if isinstance(one.tag, str)
        for key, value in one.attrib.items()
        if str(key).rpartition("}")[2] in ("src", "href", "srcset", "action", "poster", "data")
    ]
    assert links
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in links)
    assert not re.search(r"url\((?!#)|@import|<script|<link|javascript:| on\w+=", page)
    ids = [one.get("id") for one in tree.iter() if isinstance(one.tag, str) and one.get("id")]
    assert len(ids) == len(set(ids))
    named = {value[1:] for value in links if value.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert named <= set(ids)


def test_every_chart_is_said_in_words(page):
    """An image with a label that is there, and that has numbers in it."""
    tree = parsed(page)
    words = {one.get("id"): text_of(one) for one in tree.iter(f"{HTML}figcaption")}
    drawings = list(tree.iter(f"{SVG}svg"))

    assert 7 == len(drawings)
    for drawing in drawings:
        assert "img" == drawing.get("role")
        assert re.search(r"\d", words[drawing.get("aria-labelledby")])
    assert "95 % interval" in words["correlations-words"]
    assert "2 of 3 pairs are hatched" in words["correlations-words"]
    assert "1 depeg events of 1 coins" in words["timeline-words"]


def test_cells_that_stand_alone_on_a_phone_say_what_they_are(explained_page):
    """Every cell of a table whose rows become blocks has the head of its column as its label."""
    stacked = [one for one in parsed(explained_page).iter(f"{HTML}table") if one.get("class") == "stacks"]

    assert 6 <= len(stacked)
    for table in stacked:
        heads = [text_of(one) for one in table.find(f"{HTML}thead").iter(f"{HTML}th")]
        for row in table.find(f"{HTML}tbody"):
            assert heads[1:] == [cell.get("data-label") for cell in row.iter(f"{HTML}td")], text_of(table[0])


def test_every_estimate_has_its_interval_and_unit(report, page):
    """In the headline, as the document has them."""
    risk = report.to_dict()["var_analysis"]
    headline = section(parsed(page), "headline")

    for name in ("var_95", "var_99", "cvar_95", "cvar_99", "expected_loss"):
        low, high = risk[name]["low"], risk[name]["high"]
        assert f"{risk[name]['value']:,.0f} USD 95 % interval {low:,.0f} USD to {high:,.0f} USD" in headline
    ruin = risk["probability_of_ruin"]
    assert f"{ruin['value']:.3%} 95 % interval {ruin['low']:.3%} to {ruin['high']:.3%}" in headline.replace(
        " %", "%"
    ).replace("95%", "95 %")


def test_what_cannot_be_computed_says_why(page):
    """The reasons of the document, and one for an explanation that is not there."""
    changes = section(parsed(page), "changes")

    assert 3 == changes.count("cannot be computed: ")
    assert "no snapshot in the 30 days before 2024-05-09T00:00:00Z" in changes
    assert "Cannot be explained" in changes


def test_the_explanation_of_the_change(explained, explained_page):
    """Parts of each measure with intervals, and what differs: the book, its capital, a scenario and the seed."""
    measure = explained.to_dict()["var_explanation"]["measures"]["cvar_99"]

    changes = section(parsed(explained_page), "changes")

    assert "Since the report of 2024-05-08" in changes
    for part, estimate in measure["parts"].items():
        assert part.replace("_", " ") in changes
        sign = "+" if estimate["value"] > 0.0 else ""
        ends = f"{estimate['low']:,.0f} USD to {estimate['high']:,.0f} USD"
        assert f"{sign}{estimate['value']:,.0f} USD {ends}" in changes
    assert f"after {explained.sample.value_at_risk(0.95).value:,.0f} USD" in changes
    assert "capital +10,000 USD; coverage +" in changes
    assert "1 policy changed" in changes
    assert f"share of {tr.builtin_scenarios()[0].name} " in changes
    assert "(weight changed)" in changes
    assert "seed 5, now 0" in changes


def test_estimates_of_charts_with_their_intervals(report):
    """Where the document has them."""
    document = report.to_dict()
    ends = {"low": 100.0, "high": 900.0, "standard_error": 1.0, "note": ""}
    document["chart_data"]["expected_shortfall_99_contributions"] = {"USDC": {"value": 500.0} | ends}
    document["chart_data"]["exceedance_curve"] = [{"probability": 0.01, "value": 600.0} | ends]

    tree = parsed(tr.render_html(report, document=document))

    assert "USDC 500,000 USD 500 USD 100 USD to 900 USD" in section(tree, "contributions-section")
    assert "1.00 % 600 USD 100 USD to 900 USD" in section(tree, "losses-section")


def test_alerts_say_all_of_it(report, page):
    """Severity as text, rule, value and threshold with a unit, since when."""
    alerts = section(parsed(page), "alerts")
    (alert,) = [one for one in report.to_dict()["risk_alerts"] if one["rule"] == "ltv"]

    assert (
        f"critical leverage {alert['message']} rule ltv value 80.00 % threshold 80.00 % since 2024-05-09" in alerts
    )


def test_the_method_tells_how_to_get_it_again(report, page):
    """Number, seed, sampling, version, hashes and the command."""
    document, method = report.to_dict(), section(parsed(page), "method")

    for expected in (
        "2,000, stratified sampling, seed 0",
        tr.__version__,
        *(document["inputs"][name] for name in ("prices_sha256", "vault_sha256", "run_inputs_sha256")),
        "tonsurance-risk report replay risk_report_2024-05-09.json",
    ):
        assert expected in method


def test_the_same_report_gives_the_same_page(report, page):
    """Whatever the style of the user; only the time at which it was made may differ."""
    later = attrs.evolve(report, generated_at=pd.Timestamp("2025-01-01T12:00:00.123456Z"))
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "red", "svg.fonttype": "path", "savefig.dpi": 300}):
        assert page == tr.render_html(report_of())
        other = tr.render_html(later)
    time = re.compile(r'<time datetime="20(24-06-01T00:00|25-01-01T12:00):00Z">[^<]*</time>')

    assert page != other
    assert time.sub("", page) == time.sub("", other)
    assert before == dict(mpl.rcParams)


def test_a_drawing_takes_the_colours_of_the_page(page):
    """No black of its own, which a dark page would swallow; only the colours of the map stay."""
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)

    assert all("currentColor" in drawing for drawing in drawings)
    for drawing in drawings:
        own = set(re.findall(r"#[0-9a-f]{6}", re.sub(r'href="data:[^"]*"', "", drawing)))
        assert own <= {"#ffffff", "#0d0d0d", "#999999"}, own


@pytest.fixture(scope="module")
def hostile_page():
    """Its page."""
    return tr.render_html(hostile_report())


@pytest.mark.fault("F139")
def test_hostile_names_are_text(hostile_page):
    """Valid HTML without an element or attribute of theirs; invisible letters are written out, whole names are there."""
    tree = parsed(hostile_page)

    assert [] == list(tree.iter(f"{HTML}script"))
    assert not [one for one in tree.iter() if isinstance(one.tag, str) and "onload" in one.attrib]
    shown = "".join(tree.itertext())
    for name in ("script", "attribute", "template", "formula", "arabic", "long", "entity", "cjk"):
        assert HOSTILE[name] in shown, name
    assert r"\u202egnp.CDSU\u2066" in shown
    assert r"a\x00b\x1b[2K" in shown
    assert not re.search("[\u202a-\u202e\x00\x1b]", shown)
    assert len(hostile_page.encode()) < 2_000_000


@pytest.mark.parametrize(
    "vault",
    [
        tr.Vault(1e6, []),
        tr.Vault(1e6, [], btc_value=1e5),
        tr.Vault(1e6, [tr.Policy("a", "USDC", 5e5, 0.95, 0.7)]),
    ],
    ids=["nothing", "bitcoin", "one policy"],
)
def test_small_books(vault):
    """Books without policies, without Bitcoin, without losses."""
    frame = prices()
    frame.iloc[100:103, 0] = 1.0
    page = tr.render_html(report_of(frame, vault, n=100))

    assert "No depeg events" in text_of(parsed(page))


def test_many_names_are_cut_short_and_said_so():
    """Two dozen coins and two hundred scenarios: the page says how many it leaves out, and stays small."""
    names = [f"COIN{number}" for number in range(24)]
    frame = prices(names)
    frame.iloc[:, -1] = 1.0 + 1e-3 * np.sin(np.arange(len(frame)))
    for number in range(24):
        frame.iloc[50:53, number] = 0.97 - number / 100
    vault = tr.Vault(
        1e7, [tr.Policy(name, name, 1e4, 0.95, 0.7) for name in names], assets=[tr.Asset(name) for name in names]
    )
    scenarios = [tr.Scenario(f"S{k}", 1 / 200, prices={"COIN1": 1.0 - k / 300}) for k in range(200)]

    page = tr.render_html(report_of(frame, vault, scenarios=scenarios, n=500))

    text = text_of(parsed(page))
    for remark in (
        "drawn are the 16 scenarios of 200 with the largest loss",
        "drawn are the 16 assets of 25 with the largest contribution",
        "drawn are the 20 assets of 24 with the largest coverage",
        "drawn are the 20 coins of 24 with the largest severity",
        "150 more are in the JSON report.",
    ):
        assert remark in text
    assert 6 + 8 == page.count("<svg")
    assert len(page.encode()) < 2_000_000


def test_a_document_that_knows_more(report):
    """What the runner adds is on the page."""
    document = report.to_dict()
    document["data_quality"]["failed_to_fetch"] = {"DAI": "no <answer>"}

    quality = section(parsed(tr.render_html(report, document=document)), "quality")

    assert "Could not be fetched: DAI : no <answer>" in quality


def test_saved_beside_the_json(report, page, tmp_path):
    """Complete, under the date."""
    path = save_html(report, tmp_path, document=report.to_dict())

    assert [tmp_path / "risk_report_2024-05-09.html"] == [path] == list(tmp_path.iterdir())
    assert path.read_text(encoding="utf-8") == page


def test_a_page_that_fails_leaves_no_older_one(report, tmp_path):
    """It would be of another report."""
    path = tmp_path / "risk_report_2024-05-09.html"
    path.write_text("of another report")

    with pytest.raises(Exception, match="is undefined|has no attribute"):
        save_html(
            report, tmp_path, document={"report_date": "2024-05-09", "chart_data": report.to_dict()["chart_data"]}
        )
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_without_the_extra_there_is_a_hint(missing, tmp_path):
    """Before anything is done."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from tonsurance_risk.cli import run\n"
        "sys.exit(run(['daily', '--html']))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert 3 == done.returncode
    assert f"SettingsError: HTML needs {missing}: install the extra with pip install" in done.stderr
    assert not list(tmp_path.glob("reports/*"))


def test_pyplot_is_not_used():
    """A server that renders pages keeps no figures, and a notebook its backend."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pages import report_of\n"
        "import tonsurance_risk as tr\n"
        "tr.render_html(report_of(n=200))\n"
        "print([name for name in sys.modules if name == 'matplotlib.pyplot'])"
    )

    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)

    assert "[]\n" == done.stdout, done.stderr


def test_json_numbers_and_page_agree(report, page):
    """Every loss of the stress test is on the page as the JSON has it."""
    stress = section(parsed(page), "stress-section")

    for result in json.loads(report.to_json())["stress_test_results"]:
        assert f"{result['scenario']} {result['loss']:,.0f} USD" in stress
