"""The file of tiers: strict, told in one line, and never a way up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strata.app.callers.callers import Callers, KeyRefused, TierRefused
from strata.app.callers.tiers_file import TiersError, read_tiers
from strata.app.planning.feasibility import check_tiers
from strata.app.planning.planner import Planner
from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.registry import DEFAULT, find
from tests.callers.hashes import hashed
from tests.planning.conftest import paper_manifest

EXAMPLE = Path(__file__).parents[2] / "docker" / "tiers.toml"


THREE = f"""
[[tier]]
name = "gold"
deadline_ms = 50
keys = ["{hashed("g")}"]
[[tier]]
name = "silver"
rate = 10
keys = ["{hashed("s1")}", "{hashed("s2")}"]
[[tier]]
name = "public"
anonymous = true
"""


def read(folder: Path, text: str, manifest: Manifest | None = None) -> Callers:
    path = folder / "tiers.toml"
    path.write_text(text)
    callers = read_tiers(path)
    if manifest:
        check_tiers(path, callers, Planner(manifest, "paper@abc"))
    return callers


def bearer(key: str, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"{scheme} {key}".encode())]


def test_a_key_stands_for_its_tier_and_may_ask_for_a_lower_one_only(tmp_path: Path) -> None:
    callers = read(tmp_path, THREE)
    gold, silver = callers.caller(bearer("g")), callers.caller(bearer("s2", "bearer"))
    assert (gold.own.name, silver.own.name, callers.caller([]).own.name) == ("gold", "silver", "public")
    assert gold.tier("public").name == "public"
    assert silver.tier(None).name == silver.tier("silver").name == "silver"
    with pytest.raises(TierRefused, match="silver, public") as above:
        silver.tier("gold")
    assert above.value.above
    with pytest.raises(TierRefused, match="gold, silver, public") as unknown:
        gold.tier("platinum")
    assert not unknown.value.above


def test_a_wrong_key_is_refused_also_where_no_key_is_needed(tmp_path: Path) -> None:
    callers = read(tmp_path, THREE)
    for headers in (bearer("x"), bearer("g", "Basic"), [(b"authorization", b"g")]):
        with pytest.raises(KeyRefused):
            callers.caller(headers)
    assert callers.caller(bearer("")).own == callers.keyless, "clients without a key send a bare `Bearer`"
    with pytest.raises(KeyRefused, match="API key is needed"):
        read(tmp_path, THREE.replace("anonymous = true", "")).caller([])


def test_a_reload_keeps_what_a_key_has_used(tmp_path: Path) -> None:
    callers, same, other = (read(tmp_path, text) for text in (THREE, THREE, THREE.replace("rate = 10", "rate = 20")))
    bucket = callers.caller(bearer("s1")).bucket
    assert bucket is not None
    assert bucket.take(10) == 0.0
    assert bucket is not callers.caller(bearer("s2")).bucket  # a rate is a key's own
    for new, kept in ((same, True), (other, False)):
        callers.update(new)
        assert (callers.caller(bearer("s1")).bucket is bucket) is kept


def test_a_reload_keeps_what_those_without_a_key_have_used(tmp_path: Path) -> None:
    text = "[[tier]]\nname = 'a'\nanonymous = true\nrate = 2\nburst = 4"
    callers, same, other = (read(tmp_path, each) for each in (text, text, text.replace("rate = 2", "rate = 3")))
    bucket = callers.caller([]).bucket
    for new, kept in ((same, True), (other, False)):
        callers.update(new)
        assert (callers.caller([]).bucket is bucket) is kept


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no [[tier]]"),
        ("tier = []", "tier: "),
        ("[[tier]", "tiers.toml: "),
        ("[[tiers]]\nname = 'a'", "has no [[tier]]"),
        ("[[tier]]\ndeadline_ms = 5", "tier number 1: name: Field required"),
        ("[[tier]]\nname = 'A tier'", 'tier "A tier": name: '),
        ("[[tier]]\nname = 'a'\ndeadline = 5", 'tier "a": deadline: no such field'),
        ("[[tier]]\nname = 'a'\ndeadline_ms = 0", 'tier "a": deadline_ms: Input should be greater than 0'),
        ("[[tier]]\nname = 'a'\ndeadline_ms = '5'", 'tier "a": deadline_ms: '),
        ("[[tier]]\nname = 'a'\nmin_layers = 1.5", 'tier "a": min_layers: '),
        ("[[tier]]\nname = 'a'\nrate = nan", 'tier "a": rate: '),
        ("[[tier]]\nname = 'a'\nburst = 5", 'tier "a": burst needs a rate'),
        ("[[tier]]\nname = 'a'\nexits = 'all'", 'tier "a": exits: '),
        ("[[tier]]\nname = 'a'\nkeys = ['secret']", 'tier "a": keys: must be sha256: and 64 hex digits'),
        ("[[tier]]\nname = 'a'\n[[tier]]\nname = 'a'", 'tier "a": name: there are two'),
        (THREE.replace(hashed("s2"), hashed("g")), 'tier "silver": keys: '),
        (THREE.replace("rate = 10", "anonymous = true"), 'tier "public": anonymous: '),
    ],
)
def test_a_mistake_is_told_in_a_line_with_file_tier_and_field(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(TiersError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "tiers.toml"))
    assert told in message
    assert "\n" not in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("exits = [1, 5]", 'tier "a": exits: '),
        ("min_layers = 7", 'tier "a": min_layers: '),
        ("min_quality = 1.01", 'tier "a": min_quality: '),
        ("exits = [1]\nmin_quality = 0.9", 'tier "a": min_quality: '),
    ],
)
def test_what_the_model_can_never_meet_is_refused(tmp_path: Path, field: str, told: str) -> None:
    with pytest.raises(TiersError, match=re.escape(told)):
        read(tmp_path, f"[[tier]]\nname = 'a'\n{field}", paper_manifest())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TiersError, match=r"nowhere\.toml: No such file"):
        read_tiers(tmp_path / "nowhere.toml")


def test_the_example_serves_the_model_that_ships_and_lets_nobody_in_with_a_key() -> None:
    callers = read_tiers(EXAMPLE)
    check_tiers(EXAMPLE, callers, Planner(read_manifest(find(DEFAULT)), "x@y"))
    assert not callers.with_keys
    assert callers.keyless == callers.tiers[-1]


@pytest.mark.parametrize("content", ["[[tier]]".encode("utf-16"), b'[[tier]]\nname = "\xe9"\n'])
def test_a_file_in_another_encoding_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tiers.toml"
    file.write_bytes(content)
    with pytest.raises(TiersError, match=r"is not UTF-8 .* save it as UTF-8"):
        read_tiers(file)
