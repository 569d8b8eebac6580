"""Vaults from files: what is read, what is refused and where the message points."""

from __future__ import annotations

import copy
import json
import math

import attrs
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.assets import STABLECOINS
from tonsurance_risk.errors import RiskError, SettingsError, UnknownAssetError
from tonsurance_risk.inputs import read_vault, sample_vault
from tonsurance_risk.model import AccruingPeg, Asset, FixedPeg, Policy, Vault

P1 = {"policy_id": "P1", "asset": "USDC", "coverage": 100_000, "trigger_price": 0.97, "floor_price": 0.5}
P2 = {"policy_id": "P2", "asset": "DAI", "coverage": 50_000.5, "trigger_price": 0.95, "floor_price": 0}
FORM = {"capital": 1_000_000, "btc_value": 20_000, "policies": [P1, P2]}
VAULT = Vault(1e6, [Policy("P1", "USDC", 1e5, 0.97, 0.5), Policy("P2", "DAI", 50_000.5, 0.95, 0.0)], btc_value=2e4)
CSV = "policy_id,asset,coverage,trigger_price,floor_price\nP1,USDC,100000,0.97,0.5\nP2,DAI,50000.5,0.95,0\n"


@pytest.fixture
def written(tmp_path):
    def write(document, name="vault.json"):
        path = tmp_path / name
        if isinstance(document, bytes):
            path.write_bytes(document)
        else:
            path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return path

    return write


def changed(change):
    form = copy.deepcopy(FORM)
    change(form)
    return form


# --- reading -----------------------------------------------------------------------------------------------


def test_json(written):
    vault = read_vault(written(FORM))
    assert vault == VAULT
    assert all(type(policy.coverage) is float for policy in vault.policies)
    assert type(vault.capital) is float
    assert read_vault(str(written(FORM, "other.JSON"))) == VAULT


def test_json_without_btc(written):
    path = written(changed(lambda form: form.pop("btc_value")))
    assert read_vault(path).btc_value == 0.0
    assert read_vault(path, btc_value=20_000) == VAULT


def test_csv(written):
    assert read_vault(written(CSV, "vault.csv"), capital=1e6, btc_value=2e4) == VAULT
    assert read_vault(written(CSV, "vault.csv"), capital=1_000_000).btc_value == 0.0
    windows = ("\ufeff" + CSV.replace("\n", "\r\n")).encode()
    assert read_vault(written(windows, "vault.csv"), capital=1e6, btc_value=2e4) == VAULT


def test_csv_columns_in_any_order_and_ids_stay_text(written):
    path = written("floor_price,policy_id,asset,coverage,trigger_price\n0.5,0001,USDC,1e3,0.97\n", "v.csv")
    assert read_vault(path, capital=1e6).policies == (Policy("0001", "USDC", 1e3, 0.97, 0.5),)


def test_no_policies_is_a_vault(written):
    assert read_vault(written({"capital": 1, "btc_value": 0, "policies": []})) == Vault(1.0, [])
    assert read_vault(written(CSV.splitlines()[0] + "\n", "v.csv"), capital=1) == Vault(1.0, [])


def test_a_symbol_alone_is_not_several_coins(written):
    with pytest.raises(SettingsError, match="assets must be several Asset records or symbols"):
        read_vault(written(changed(lambda form: None)), assets="USDX")


def test_coins_of_your_own(written):
    form = changed(lambda form: form["policies"][0].update(asset="myUSD"))
    path = written(form)
    assert read_vault(path, assets=["myUSD"]).assets == (Asset("myUSD"),)
    form["assets"] = [
        {"symbol": "myUSD"},
        {"symbol": "aUSD", "name": "A", "coingecko_id": "a-usd", "peg": {"price": 2}},
        {"symbol": "bUSD", "peg": {"rise": 0.1}},
        {"symbol": "cUSD", "coingecko_id": None, "peg": None},
    ]
    assert read_vault(written(form), assets=["dUSD"]).assets == (
        Asset("myUSD"),
        Asset("aUSD", "A", "a-usd", FixedPeg(2.0)),
        Asset("bUSD", peg=AccruingPeg(rise=0.1)),
        Asset("cUSD", peg=None),
        Asset("dUSD"),
    )
    with pytest.raises(SettingsError, match="'myUSD' twice"):
        read_vault(written(form), assets=["myUSD"])
    own = read_vault(written(CSV.replace("DAI", "myUSD"), "v.csv"), capital=1e6, assets=["myUSD"])
    assert own.policies[1].asset == "myUSD"


NAMES = st.text(min_size=1, max_size=8).filter(str.strip)
MONEY = st.floats(1e-3, 1e12)
PEGS = (
    st.none()
    | st.builds(FixedPeg, st.floats(1e-3, 1e3))
    | st.builds(AccruingPeg, rise=st.floats(0, 5), fall=st.floats(0, 1), start=st.none() | st.floats(0.1, 10))
)


@st.composite
def vaults(draw):
    own = draw(
        st.lists(st.builds(Asset, NAMES, NAMES, st.none() | NAMES, PEGS), max_size=3, unique_by=lambda a: a.symbol)
    )
    unpegged = {asset.symbol for asset in own if asset.peg is None}
    symbols = {asset.symbol for asset in (*STABLECOINS, *own)} - unpegged
    ids = draw(st.lists(NAMES, max_size=4, unique=True))
    floor = st.floats(0, 0.9)
    policies = [
        Policy(name, draw(st.sampled_from(sorted(symbols))), draw(MONEY), draw(st.floats(0.91, 1)), draw(floor))
        for name in ids
    ]
    return Vault(draw(MONEY), policies, btc_value=draw(st.floats(0, 1e12)), assets=own)


@given(vaults())
def test_what_to_dict_writes_is_read_as_the_same_vault(tmp_path_factory, vault):
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    for ascii_only in (True, False):
        path.write_text(json.dumps(vault.to_dict(), ensure_ascii=ascii_only), encoding="utf-8")
        assert read_vault(path) == vault


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(capital="1000000"), "capital must be an int or a float, found '1000000'"),
        (lambda f: f.update(capital=True), "capital must be an int or a float, found True"),
        (lambda f: f.update(capital=None), "capital must be an int or a float, found None"),
        (lambda f: f.update(capital=0), "capital must be a number > 0"),
        (lambda f: f.update(capital=math.nan), "capital must be a finite number, found nan"),
        (lambda f: f.update(capital=10**400), "capital must be a finite number, found inf"),
        (lambda f: f.update(btc_value=-1), "btc_value must be a number >= 0"),
        (lambda f: f.update(btc_value=math.inf), "btc_value must be a finite number, found inf"),
        (lambda f: f.update(btc_value=None), "btc_value must be an int or a float, found None"),
        (lambda f: f.pop("capital"), r"missing capital \(needed: capital, policies\)"),
        (lambda f: f.pop("policies"), "missing policies"),
        (
            lambda f: f.update(capitol=1),
            r"unknown key 'capitol'; did you mean 'capital'\? \(accepted: capital",
        ),
        (lambda f: f.update(zzz=1), r"unknown key 'zzz' \(accepted"),
        (lambda f: f.update(policies={}), "policies must be a list, found an object"),
        (lambda f: f.update(policies="P1"), "policies must be a list, found 'P1'"),
        (
            lambda f: f["policies"].append(7),
            r"policies\[2\] .*must be an object with policy_id, asset.*found 7",
        ),
        (lambda f: f["policies"].append([]), r"policies\[2\] .*must be an object .*found a list"),
        (lambda f: f["policies"].append(P1), "policy ids must be unique, found 'P1' twice"),
        (lambda f: f["policies"][1].pop("coverage"), r"policies\[1\] \('P2'\): missing coverage"),
        (lambda f: f["policies"][1].pop("policy_id"), r"policies\[1\] \(None\): missing policy_id"),
        (lambda f: f["policies"][1].update(tigger_price=1), "'P2'.* did you mean 'trigger_price'"),
        (
            lambda f: f["policies"][1].update(coverage="5"),
            r"\('P2'\): coverage must be an int or a float, found '5'",
        ),
        (lambda f: f["policies"][1].update(coverage=False), "'P2'.: coverage must be an int or a float"),
        (lambda f: f["policies"][1].update(coverage=math.nan), "'P2'.: coverage must be a finite number"),
        (lambda f: f["policies"][1].update(coverage=-5), "'P2'.: coverage must be a number > 0"),
        (
            lambda f: f["policies"][1].update(floor_price=0.99),
            "'P2'.: .*trigger_price must be above floor_price",
        ),
        (
            lambda f: f["policies"][1].update(policy_id=5),
            r"\(5\): policy_id must be a non-empty string, found 5",
        ),
        (lambda f: f["policies"][1].update(asset=""), "'P2'.: asset must be a non-empty string"),
        (lambda f: f["policies"][1].update(asset="BTC"), "policy 'P2': BTC has no peg"),
        (lambda f: f.update(assets={}), "assets must be a list"),
        (lambda f: f.update(assets=["X"]), r"assets\[0\] must be an object with symbol, .*found 'X'"),
        (lambda f: f.update(assets=[{"name": "X"}]), r"assets\[0\]: missing symbol"),
        (lambda f: f.update(assets=[{"symbol": "X", "pag": 1}]), r"assets\[0\]: unknown key 'pag'.*'peg'"),
        (lambda f: f.update(assets=[{"symbol": ""}]), r"assets\[0\]: symbol must be a non-empty string"),
        (lambda f: f.update(assets=[{"symbol": "X", "coingecko_id": 5}]), r"assets\[0\]: coingecko_id"),
        (lambda f: f.update(assets=[{"symbol": "X", "peg": 1}]), r"assets\[0\]: peg must be an object"),
        (
            lambda f: f.update(assets=[{"symbol": "X", "peg": {}}]),
            r"assets\[0\]: peg must be null, an object",
        ),
        (
            lambda f: f.update(assets=[{"symbol": "X", "peg": {"price": 0}}]),
            r"assets\[0\]: peg: price must be",
        ),
        (
            lambda f: f.update(assets=[{"symbol": "X", "peg": {"rise": "a"}}]),
            r"assets\[0\]: peg: rise must be",
        ),
        (lambda f: f.update(assets=[{"symbol": "X", "peg": {"price": 1, "rise": 1}}]), "peg must be null"),
        (lambda f: f.update(assets=[{"symbol": "X"}, {"symbol": "X"}]), "'X' twice"),
    ],
)
def test_json_that_is_no_vault(written, change, message):
    path = written(changed(change))
    with pytest.raises(SettingsError, match=message) as caught:
        read_vault(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "must be an object with capital, policies, btc_value, assets, aggregate_limit, found a list"),
        ("null", "must be an object .* found None"),
        ('{"capital": 1, "capital": 2, "policies": []}', "the key 'capital' comes more than once"),
        (
            '{"capital": 1, "policies": [{"policy_id": "P7", "coverage": 1, "coverage": 2}]}',
            r"policies\[0\] \('P7'\): the key 'coverage' comes more than once",
        ),
        ('{"capital": NaN, "policies": []}', "capital must be a finite number, found nan"),
        ('{"capital": 1e999, "policies": []}', "capital must be a finite number, found inf"),
        ('{"capital": ' + "9" * 5000 + ', "policies": []}', "not JSON|finite"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff\xfe{", "cannot be read as text in UTF-8"),
    ],
)
def test_files_that_are_no_json_form(written, body, message):
    with pytest.raises(SettingsError, match=message):
        read_vault(written(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "is empty; needed are the columns policy_id, asset"),
        (CSV.replace("floor_price", "flor_price"), "unknown key 'flor_price'; did you mean 'floor_price'"),
        (CSV.replace(",floor_price", ""), "missing floor_price"),
        (CSV.replace("floor_price", "coverage"), "the key 'coverage' comes more than once"),
        (CSV + "P3,DAI,1\n", r"line 4: policies\[2\]: 3 field\(s\), the header has 5"),
        (CSV + "P3,DAI,much,0.9,0.1\n", r"line 4: policies\[2\] \('P3'\): coverage must be .* found 'much'"),
        (CSV + "P3,DAI,,0.9,0.1\n", "'P3'.: coverage must be an int or a float, found ''"),
        (CSV + "P3,DAI,nan,0.9,0.1\n", "'P3'.: coverage must be a finite number, found nan"),
        (CSV + "P3,DAI,1,0.1,0.9\n", "'P3'.: .*trigger_price must be above floor_price"),
        (CSV + ",DAI,1,0.9,0.1\n", "''.: policy_id must be a non-empty string"),
        (CSV + "P1,DAI,1,0.9,0.1\n", "'P1' twice"),
        (CSV + '"P3,DAI\n', "line 4: unexpected end"),
        (CSV.encode("utf-16"), "cannot be read as text in UTF-8"),
    ],
)
def test_csv_that_is_no_table_of_policies(written, body, message):
    path = written(body, "vault.csv")
    with pytest.raises(SettingsError, match=message) as caught:
        read_vault(path, capital=1e6)
    assert str(path) in str(caught.value)


def test_an_unknown_asset_is_named_with_near_matches(written):
    path = written(changed(lambda form: form["policies"][1].update(asset="USDD")))
    with pytest.raises(UnknownAssetError, match=r"asset of policy 'P2': 'USDD'; did you mean .*USDC"):
        read_vault(path)


def test_each_amount_is_said_once(written):
    with pytest.raises(SettingsError, match=r"states its own capital; leave out capital=5"):
        read_vault(written(FORM), capital=5)
    with pytest.raises(SettingsError, match=r"states its own btc_value; leave out btc_value=0"):
        read_vault(written(FORM), btc_value=0)
    with pytest.raises(SettingsError, match="give capital="):
        read_vault(written(CSV, "v.csv"))
    with pytest.raises(SettingsError, match="capital must be a number > 0"):
        read_vault(written(CSV, "v.csv"), capital=-1)
    assert issubclass(SettingsError, ValueError)


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.json cannot be read"):
        read_vault(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SettingsError, match=r"folder\.json cannot be read"):
        read_vault(tmp_path / "folder.json")
    with pytest.raises(SettingsError, match=r"accepted are files \.json and \.csv, found '\.yaml'"):
        read_vault(tmp_path / "vault.yaml")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = [("capital",), ("btc_value",), ("policies",), ("assets",), ("policies", 0), ("assets", 0)]
PLACES += [("policies", 0, field.name) for field in attrs.fields(Policy)]
PLACES += [("assets", 0, field.name) for field in attrs.fields(Asset)]


@given(st.sampled_from(PLACES), JSON_VALUES)
def test_any_value_in_any_place_is_read_or_refused(tmp_path_factory, place, value):
    form = changed(lambda form: form.update(assets=[{"symbol": "X", "peg": {"price": 1}}]))
    inner = form
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(form))
    try:
        vault = read_vault(path)
    except RiskError:
        return
    assert math.isfinite(vault.capital)
    assert math.isfinite(vault.coverage)


# --- the sample vault --------------------------------------------------------------------------------------


def stressed_loss(vault: Vault, ratios: dict[str, float], other: float, btc_return: float) -> float:
    paid = 0.0
    for policy in vault.policies:
        share = (policy.trigger_price - ratios.get(policy.asset, other)) / (
            policy.trigger_price - policy.floor_price
        )
        paid += policy.coverage * min(max(share, 0.0), 1.0)
    return paid - vault.btc_value * btc_return


def test_the_sample_vault():
    vault = sample_vault()
    assert vault == sample_vault()
    assert (vault.capital, vault.btc_value, vault.assets) == (5e7, 2e6, ())
    assert [policy.policy_id for policy in vault.policies] == [f"P{i:04d}" for i in range(1, 1248)]
    coverages = [policy.coverage for policy in vault.policies]
    assert sum(coverages) == 35_000_000.0
    assert min(coverages) >= 1_000
    assert all(coverage.is_integer() for coverage in coverages)
    assert all(0.95 <= p.trigger_price <= 0.98 and 0.40 <= p.floor_price <= 0.70 for p in vault.policies)


def test_the_sample_vault_is_uneven_but_covers_every_coin():
    by_asset = dict.fromkeys([asset.symbol for asset in STABLECOINS], 0.0)
    for policy in sample_vault().policies:
        by_asset[policy.asset] += policy.coverage
    shares = [coverage / 35e6 for coverage in by_asset.values()]
    assert len(shares) == 14
    assert min(shares) > 0
    assert 0.85 <= -sum(share * math.log(share) for share in shares) / math.log(14) <= 0.95


def test_the_sample_vault_survives_the_worst_built_in_states():
    vault = sample_vault()
    assert 0 < stressed_loss(vault, {}, 0.75, 0.5) < 24e6
    mixed = {"USDC": 0.80, "USDT": 0.85, "DAI": 0.90, "USDP": 0.85, "FRAX": 0.88, "BUSD": 0.80}
    assert 0 < stressed_loss(vault, mixed, 0.85, 0.0) < 20e6


def test_the_sample_vault_goes_through_a_file(written):
    assert read_vault(written(sample_vault().to_dict())) == sample_vault()
    table = sample_vault().to_frame().to_csv(index=False)
    assert read_vault(written(table, "v.csv"), capital=5e7, btc_value=2e6) == sample_vault()


class TestSimulateAgain:
    """A run from the inputs that a store keeps."""

    def document(self, **changes):
        """Return the inputs of a run with everything in it, through JSON."""
        vault = Vault(
            1e6,
            [Policy("1", "USDC", 1e5, 0.98, 0.6), Policy("2", "EURX", 1e5, 0.98, 0.6)],
            btc_value=1e4,
            assets=[Asset("EURX", peg=AccruingPeg(start=1.1)), Asset("GBPX", peg=FixedPeg(1.3))],
            aggregate_limit=1.5e5,
        )
        document = {
            "vault": vault.to_dict(),
            "scenarios": [
                scenario.to_dict()
                for scenario in (*tr.builtin_scenarios(), tr.Scenario("off", 0.1, is_active=False))
            ],
            "correlation": {"window_days": 90, "assets": ["USDC", "EURX"], "values": [[1.0, 0.3], [0.3, 1.0]]},
            "volatility": {"USDC": 0.01, "EURX": 0.03, "BTC": 0.1},
            "settings": {"n": 1000, "seed": 3, "sampling": "plain", "software_version": "0"},
        }
        return vault, json.loads(json.dumps(document | changes))

    def test_the_losses_are_the_same(self):
        """To the bit, with coins of one's own, a limit, and a scenario that is off."""
        vault, document = self.document()
        again = tr.simulate_again(document)

        scenarios = [*tr.builtin_scenarios(), tr.Scenario("off", 0.1, is_active=False)]
        matrix = pd.DataFrame([[1.0, 0.3], [0.3, 1.0]], index=["USDC", "EURX"], columns=["USDC", "EURX"])
        sigma = {"USDC": 0.01, "EURX": 0.03, "BTC": 0.1}
        first = tr.simulate_losses(
            vault, scenarios, correlation=matrix, volatility=sigma, n=1000, seed=3, sampling="plain"
        )
        assert first.losses.tolist() == again.losses.tolist()
        assert vault == again.inputs.vault
        assert tuple(scenarios) == again.inputs.scenarios

    @pytest.mark.parametrize(
        "changes",
        [
            {"settings": {"n": 0, "seed": 0, "sampling": "plain"}},
            {"settings": {}},
            {"vault": {"capital": -1.0, "policies": []}},
            {"vault": None},
            {"scenarios": [{"name": "x"}]},
            {"scenarios": [3]},
            {"correlation": {"assets": ["USDC"], "values": [[2.0]]}},
            {"correlation": {"assets": ["USDC", "DAI"], "values": [[1.0]]}},
            {"volatility": {"USDC": "much"}},
        ],
    )
    def test_other_documents(self, changes):
        """Are refused as settings that cannot be read."""
        with pytest.raises(SettingsError, match="the inputs of a run"):
            tr.simulate_again(self.document(**changes)[1])


def test_a_file_that_is_not_there(tmp_path):
    """What is wrong with it, not how it would have been read."""
    with pytest.raises(SettingsError, match=r"vault\.json cannot be read: No such file or directory$"):
        read_vault(tmp_path / "vault.json")
