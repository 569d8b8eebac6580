"""Examples and the Python in the documents run, and the README's commands are those of CI."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import tonsurance_risk as tr

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "prices"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n+)?```python\n(?P<code>.*?)```", re.DOTALL)


def python_blocks():
    """Yield the code of every fenced Python block; of a document that says so, all blocks as one script."""
    for document in DOCUMENTS:
        text = document.read_text()
        name = document.relative_to(ROOT).as_posix()
        if "<!-- blocks: one script -->" in text:
            yield pytest.param("\n".join(found["code"] for found in BLOCK.finditer(text)), id=name)
            continue
        for number, found in enumerate(BLOCK.finditer(text)):
            reason = found["reason"]
            marks = [pytest.mark.skip(reason=f"{name}: {reason}")] if reason else []
            yield pytest.param(found["code"], id=f"{name}-{number}", marks=marks)


def run_script(arguments, folder):
    """Run Python with warnings as errors and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", [block for block in python_blocks() if block.id != "docs/tutorial.md"])
def test_python_in_the_documents_runs(code, tmp_path):
    """Each block on its own, in an empty folder."""
    assert run_script(["-c", code], tmp_path)


def test_python_in_the_documents_is_fenced():
    """An indented block would not be run."""
    indented = [
        f"{document.name}: {line.strip()}"
        for document in DOCUMENTS
        for line in re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE).splitlines()
        if re.match(r" {4}(import |from \w+ import |>>> )", line)
    ]
    assert [] == indented, "write ```python, and <!-- not run: REASON --> before it where it cannot run"


def test_the_tutorial(tmp_path):
    """Its detection finds what the market made up; the backtest and the report are those of the text."""
    [tutorial] = [block for block in python_blocks() if block.id == "docs/tutorial.md"]
    printed = run_script(["-c", tutorial.values[0]], tmp_path)

    assert "1 of 1 false prints rejected, 0 others" in printed
    assert "11 found, 11 in the market" in printed
    assert "50,000,000 of capital, 35,000,000 covered by 1,247 policies" in printed
    assert "from Banking Crisis (SVB), proven: True" in printed
    assert re.search(r"\d+ exceptions in 480 days; 24 expected", printed)
    assert "HIGH coverage is 70.00% of capital" in printed
    assert (tmp_path / "reports" / "risk_report_2025-12-31.json").is_file()


def test_the_simulated_market_example(tmp_path):
    """Prints events, scenarios and an estimate."""
    printed = run_script([str(ROOT / "examples" / "simulated_market.py")], tmp_path)

    assert "Joint episode" in printed
    assert "Estimate(value=" in printed


def test_the_simulation_example(tmp_path):
    """Prints a table of convergence, contributions, and the effect of a policy."""
    printed = run_script([str(ROOT / "examples" / "simulate_a_book.py")], tmp_path)

    assert "converged: True" in printed
    assert "expected_shortfall 0.99" in printed


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")
def test_the_csv_example(tmp_path):
    """On the real daily panel."""
    printed = run_script([str(ROOT / "examples" / "assess_csv_folder.py"), str(SHARED), "2024-12-31"], tmp_path)

    assert "quoted in USDT" in printed
    assert "high coverage is 70.00% of capital" in printed


@pytest.mark.parametrize("name", ["assess_csv_folder.py", "correlation_without_one_week.py"])
def test_examples_that_need_a_folder_say_so(name, tmp_path):
    """Without arguments: usage, and no traceback."""
    command = [sys.executable, str(ROOT / "examples" / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert 2 == done.returncode
    assert done.stderr.startswith(f"usage: {name} ")
    assert "folder" in done.stderr


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")
def test_the_example_of_one_week(tmp_path):
    """0.95 with it and 0.25 without, as in the sourced table of closes; the refuge turns its sign."""
    printed = run_script([str(ROOT / "examples" / "correlation_without_one_week.py"), str(SHARED)], tmp_path)

    year, rest = printed.split("2023 without 10 to 14 March")
    assert re.search(r"DAI +USDC +0\.95\d+ +0\.0\d+ +0\.9\d+ +365", year)
    assert re.search(r"DAI +USDC +0\.25\d+ +-?0\.0\d+ +0\.4\d+ +360", rest)
    assert re.search(r"USDC +USDT +-0\.49", year)
    assert re.search(r"USDC +USDT +0\.47|USDC +USDT +0\.468", rest)
    assert "DAI USDC: 0.95, 0.19 without 03-11, 03-12, 03-13" in printed
    assert "an alert at 0.8 rests on these days" in printed


def test_the_example_of_an_own_source(tmp_path):
    """Asks nobody; prints its prices, who answered, and the hours off the peg."""
    printed = run_script([str(ROOT / "examples" / "write_your_own_source.py")], tmp_path)

    assert "2024-03-01 01:00:00+00:00    0.9998" in printed
    assert "['own'] 4 samples stored" in printed
    assert "answered by own" in printed
    assert "DAI fell to 0.9891 at 02:00 for 0 days 01:00:00" in printed


def test_the_example_of_figures(tmp_path):
    """Two pictures, and the deepest depeg of the simulated market first."""
    printed = run_script([str(ROOT / "examples" / "detect_and_plot.py"), str(tmp_path)], tmp_path)

    assert re.search(r"direction.*\n +USDC +below 2024-03-11 02:00:00\+00:00 1 days 16:00:00 +0\.08", printed)
    for name in ("depegs.png", "usdc.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_example_of_a_price(tmp_path):
    """The premium is between the expected payout and the coverage; a lower trigger costs less."""
    printed = run_script([str(ROOT / "examples" / "price_a_policy.py")], tmp_path)
    rows = re.findall(r"^(\w+) ([\d.]+) to [\d.]+ +([\d,]+) +([\d,]+) +([\d,]+) +[\d.]+%$", printed, re.MULTILINE)

    assert ["USDC", "USDC", "PYUSD", "LUSD"] == [row[0] for row in rows]
    for _, _, *amounts in rows:
        expected, capital, premium = (float(amount.replace(",", "")) for amount in amounts)
        assert expected < premium < capital <= 500_000.0
        assert premium == pytest.approx(expected + 0.1 * (capital - expected), abs=1.0)
    assert float(rows[1][4].replace(",", "")) < float(rows[0][4].replace(",", ""))


def test_the_example_on_dask(tmp_path):
    """Two worker processes give the bits of none."""
    printed = run_script([str(ROOT / "examples" / "simulate_on_dask.py"), "300000"], tmp_path)

    assert "VaR 99.9 of 300,000 simulations" in printed
    assert "the same bits without a cluster: True" in printed


def test_the_notebook(tmp_path):
    """All cells as one script; more judgement, more value at risk."""
    notebook = ROOT / "examples" / "analyst_notebook.py"
    printed = run_script([str(notebook)], tmp_path)
    shares = re.findall(r"^ +(\d\.\d\d) +([\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)

    assert notebook.read_text().count("# %%") >= 5
    assert "(DAI, FRAX, USDC)" in printed
    assert 7 == len(re.findall(r"^\d 202", printed, re.MULTILINE))
    assert ["0.00", "0.25", "0.50", "0.75", "1.00"] == [share for share, *_ in shares]
    values = [float(value) for _, value, _, _ in shares]
    assert sorted(values) == values
    assert all(float(low) <= float(value) <= float(high) for _, value, low, high in shares)


@pytest.fixture
def service(tmp_path):
    """The example served by a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "examples" / "service.py"), str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as client:
                deadline = time.monotonic() + 60.0
                while True:
                    try:
                        client.get("/assets")
                        break
                    except httpx.ConnectError:
                        assert process.poll() is None, process.stderr.read()
                        assert time.monotonic() < deadline, "the service did not start"
                        time.sleep(0.1)
                yield client
        finally:
            process.terminate()


def test_the_example_of_a_service(service):
    """Five endpoints over a real socket; the figures are those of the library, refusals are its words."""
    policy = {"policy_id": "P1", "asset": "USDC", "coverage": 100.0, "trigger_price": 0.95, "floor_price": 0.75}
    book = {"capital": 1000.0, "policies": [policy]}
    vault = tr.Vault(1000.0, [tr.Policy(**policy)])

    assert [asset.symbol for asset in tr.STABLECOINS] == [one["symbol"] for one in service.get("/assets").json()]

    times = [f"2024-01-01T{hour:02d}:00:00Z" for hour in range(5)]
    [event] = service.post(
        "/depegs", json={"asset": "usdc", "times": times, "prices": [1.0, 0.97, 0.95, 0.96, 1.0]}
    ).json()
    assert ("USDC", 0.95, 3) == (event["asset"], event["min_price"], event["n_observations"])

    losses = service.post("/stress", json={"book": book}).json()["losses"]
    assert tr.stress_test(vault, tr.builtin_scenarios()).losses.to_dict() == pytest.approx(losses)

    answer = service.post("/value-at-risk", json={"book": book, "n": 5000, "seed": 3, "level": 0.95}).json()
    volatility = {asset.symbol: 0.002 for asset in tr.STABLECOINS} | {"BTC": 0.1}
    sample = tr.simulate_losses(vault, tr.builtin_scenarios(), volatility=volatility, n=5000, seed=3)
    assert sample.value_at_risk(0.95).value == answer["value_at_risk"]["value"]
    assert sum(answer["contributions"].values()) == pytest.approx(answer["expected_shortfall"]["value"])

    more = service.post("/marginal-risk", json={"book": book, "n": 5000, "policy": policy | {"policy_id": "P2"}})
    measures = more.json()["measures"]["expected_loss"]
    assert measures["after"] == pytest.approx(2.0 * measures["before"])

    for body, words in (
        ({"level": 95, "n": 1000}, "did you mean 0.95?"),
        ({"book": {"capital": 1.0, "policies": [policy | {"asset": "USDX"}]}}, "USDX"),
        ({"n": 10**9}, "less_than_equal"),
    ):
        refused = service.post("/value-at-risk", json=body)
        assert (422, True) == (refused.status_code, words in refused.text), refused.text


def test_every_example_is_tested():
    """By name, in this file."""
    tested = Path(__file__).read_text()

    assert all(path.name in tested for path in (ROOT / "examples").glob("*.py"))


def test_the_commands_of_the_site_are_those_of_the_readme():
    """CI runs those of the README."""
    commands = [line for line in (ROOT / "docs" / "index.md").read_text().splitlines() if line.startswith("    ")]

    assert 2 == len(commands)
    assert set(commands) <= set((ROOT / "README.md").read_text().splitlines())


def test_the_citation_is_of_this_version():
    """Or of the release that is being made."""
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]

    assert cited == tr.__version__.partition(".dev")[0]
    assert f"## [{cited}]" in (ROOT / "CHANGELOG.md").read_text()


def test_links_between_documents_lead_somewhere():
    """Relative links of the documents."""
    for document in DOCUMENTS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
