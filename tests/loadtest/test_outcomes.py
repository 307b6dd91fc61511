"""The report's arithmetic, on requests whose fate is known; and the names that choose what is compared."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from strata.app.callers.tiers_file import read_tiers
from strata.loadtest.mix import DEFAULT, TIERS, Sender, senders
from strata.loadtest.open_loop import Trip
from strata.loadtest.outcomes import Requests, Summary, summarize
from strata.loadtest.policies import EVERY, Policy, nearest, parse
from strata.loadtest.scenarios import SCENARIOS
from strata.loadtest.schedule import Schedule
from strata.loadtest.slo_figures import compare, matrix

SENDERS = [Sender("fast", 0.5, 0.1, "a"), Sender("slow", 0.5, 1.0, "b")]
TRIPS = [
    Trip(0.0, 0.05, 200, 12, 1.0),  # in time
    Trip(1.001, 1.2, 200, 6, 0.9),  # late: 200 ms, of which 1 the generator's
    Trip(2.0, 2.001, 503),
    Trip(3.0, 3.001, 429),
    Trip(4.0, 4.2, 504),
    Trip(5.0, None, 0),
    Trip(6.0, 6.8, 200, 6, 0.8),  # in time: another tier
]
TIER_OF = [0, 0, 0, 1, 1, 1, 1]


def known() -> Requests:
    times = np.arange(7.0)
    return Requests.of(Schedule(7.0, times, np.array(TIER_OF), np.zeros(7, dtype=int)), TRIPS, SENDERS)


def summary(quality: float, missed: int, offered: int = 1000, goodput: float = 1.0) -> Summary:
    return Summary(offered, offered - missed, missed, {}, 0, 0, goodput, 1, 1, 6, quality, 0.0)


def test_every_request_is_counted_once_for_what_became_of_it() -> None:
    found = summarize(known(), 7.0, full=12)
    assert (found.offered, found.in_time, found.late, found.timed_out, found.errors) == (7, 2, 1, 1, 1)
    assert found.refused == {429: 1, 503: 1}
    assert found.in_time + found.late + sum(found.refused.values()) + found.timed_out + found.errors == found.offered
    assert found.attainment == pytest.approx(2 / 5)  # of those let in
    assert found.refused_share == pytest.approx(2 / 7)
    assert found.missed_share == pytest.approx(5 / 7)
    assert found.goodput == pytest.approx(2 / 7)
    assert found.p50_ms == pytest.approx(200)
    assert found.depth == pytest.approx(8)
    assert found.quality == pytest.approx(0.9)  # of the two in time
    assert found.full_depth == pytest.approx(1 / 3)


def test_a_tier_is_summed_up_alone_and_nothing_is_not_a_number() -> None:
    requests = known()
    assert summarize(requests.where(requests.tier == 0), 7.0, 12).offered == 3
    none = summarize(requests.where(requests.tier == 9), 7.0, 12).written()
    assert none["offered"] == 0
    assert none["attainment"] is None


def test_parts_join_in_the_time_of_the_whole() -> None:
    schedule = Schedule(7.0, np.arange(7.0), np.array(TIER_OF), np.zeros(7, dtype=int))
    later = Requests.of(schedule, TRIPS, SENDERS, start=7.0)
    both = Requests.joined([known(), later])
    assert both.due.tolist() == list(range(14))
    assert both.latency[7:] == pytest.approx(both.latency[:7], nan_ok=True)


def test_figures_compare_with_full_depth_and_with_equal_quality() -> None:
    ours = {"all": summary(0.95, 10, goodput=3.0), "fast": summary(0.95, 10)}
    fixed = {
        "always-12": {"all": summary(1.0, 300)},
        "always-6": {"all": summary(0.96, 150)},
        "always-3": {"all": summary(0.9, 0)},
    }
    figures = {f.name.strip(): f for f in compare(ours, fixed, "always-12", SCENARIOS["burst-gamma"])}
    assert figures["attainment of accepted requests, fast"].met is True
    assert figures["quality of answers in time, share of always-12's"].value == pytest.approx(0.95)
    assert figures["quality of answers in time, share of always-12's"].met is False
    assert figures["goodput, times always-12's"].value == pytest.approx(3)
    assert figures["times fewer"].value == pytest.approx(15)
    assert figures["of the best fixed at least as good, always-6"].value == pytest.approx(15)


def test_a_ratio_of_a_few_misses_is_not_told() -> None:
    fixed = {"always-12": {"all": summary(1.0, 1)}, "always-3": {"all": summary(0.9, 0)}}
    names = [f.name.strip() for f in compare({"all": summary(0.95, 2)}, fixed, "always-12", SCENARIOS["burst-gamma"])]
    assert "misses (of all offered)" in names
    assert "times fewer" not in names


def test_the_table_has_a_line_for_each_policy_and_tier() -> None:
    found = summarize(known(), 7.0, 12)
    lines = [" ".join(row) for row in matrix({"elastic": {"all": found, "fast": found}})]
    assert lines[0].split()[:4] == ["policy", "tier", "offered", "in-time"]
    assert lines[1].split()[:4] == ["elastic", "all", "7", "2"]
    assert lines[2].split()[0] == "fast"
    assert "1x429 1x503" in lines[1]


def test_policies_are_named_by_what_they_run() -> None:
    found = parse(EVERY, range(1, 13), 3, min_layers=3)
    fixed = ["always-12", "always-6", "always-4", "always-3"]
    assert [policy.name for policy in found] == [*fixed, "static-6/9/12", "elastic"]
    assert [found[4].path(tier) for tier in range(3)] == [f"/embed?layers={layers}" for layers in (6, 9, 12)]
    assert found[-1].path(0) == "/embed?min_layers=3"
    assert Policy("elastic", None).path(0) == "/embed"
    assert [policy.layers for policy in parse(["always-9", "static-3/6/9"], range(1, 13), 3, None)] == [
        (9, 9, 9),
        (3, 6, 9),
    ]
    assert nearest((1, 2, 4), 3) == 4


@pytest.mark.parametrize("name", ["always-13", "always-", "static-6/9", "sometimes-6", "always-1.5"])
def test_an_impossible_policy_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"--policies {name}"):
        parse([name], range(1, 13), 3, None)


def test_the_tiers_file_that_ships_is_one_the_server_reads_and_the_keys_are_its() -> None:
    callers = read_tiers(TIERS)
    found = senders(TIERS, DEFAULT)
    assert [sender.tier for sender in found] == [tier.name for tier in callers.tiers]
    assert sum(sender.share for sender in found) == pytest.approx(1)
    for sender in found:
        headers = [(name.encode(), value.encode()) for name, value in sender.headers.items()]
        assert callers.caller(headers).own.name == sender.tier
        assert callers.caller(headers).own.deadline_s == sender.deadline_s
        assert sha256(sender.key.encode()).hexdigest() in TIERS.read_text()


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (["nobody=1"], "'nobody' is not a tier"),
        (["bulk"], "NAME=SHARE"),
        (["bulk=-1"], "above 0"),
        (["bulk=1", "bulk=2"], "named twice"),
        (["bulk=1x0"], "1 text or more, as in bulk=1x32"),
        (["bulk=1x"], "1 text or more"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(mix: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        senders(TIERS, mix)


def test_shares_are_relative_and_keys_may_be_given(tmp_path: Path) -> None:
    file = tmp_path / "tiers.toml"
    file.write_text(
        '[[tier]]\nname = "b"\ndeadline_ms = 900\n[[tier]]\nname = "a"\ndeadline_ms = 50\n[[tier]]\nname = "c"'
    )
    assert senders(file, ["b=3x16:secret", "a=1"]) == [
        Sender("a", 0.25, 0.05, "loadtest-a"),
        Sender("b", 0.75, 0.9, "secret", 16),
    ]
    with pytest.raises(ValueError, match="no deadline_ms"):
        senders(file, ["c=1"])
