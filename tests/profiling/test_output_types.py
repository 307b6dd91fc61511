"""Types of output: `strata profile` calibrates the ranges of int8, and measures what each type costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from strata.app.cli import main
from strata.model_store.bundle.bundle import read_manifest, write_manifest
from strata.model_store.bundle.output_types import OutputType
from strata.model_store.bundle.quality import Quality
from strata.model_store.bundle.quantized import quantized
from strata.model_store.encoding.reference import ReferenceEncoder, unit
from strata.model_store.profiling.output_types import calibrated, told_as


def test_profile_calibrates_and_measures(
    bundle: Path, sts: Path, beir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(bundle)
    sets = ("--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev", "--output-types", "int8,binary")
    few = ("--texts", "80", "--no-agreement", "--no-latency", "--quiet")
    assert main(["profile", str(bundle), *sets, *few]) == 0
    manifest = read_manifest(bundle)
    assert manifest.revision == before.revision
    table = manifest.int8_ranges
    assert table is not None
    assert table.count == 80
    assert {exit: tuple(row) for exit, row in table.ranges.items()} == dict.fromkeys((1, 2, 4), (8, 16, 32))
    assert all(row[8] > row[32] > 0 for row in table.ranges.values()), "shorter vectors have larger numbers"
    quality = manifest.quality
    assert quality is not None
    kinds = {(variant.dtype, variant.output_type): variant.sets for variant in quality.variants}
    assert set(kinds) == {("float32", "int8"), ("float32", "binary")}
    lines = [line.split("\t") for line in sts.read_text().splitlines()[1:]]
    gold = [float(score) for score, _, _ in lines]
    one, other = (ReferenceEncoder(bundle, torch.device("cpu")).encode([line[i] for line in lines]) for i in (1, 2))
    for layers in (1, 2, 4):
        kind: OutputType
        for kind, within in (("int8", 0.5), ("binary", 2.0)):  # a number on an edge may fall to either side
            told = told_as(kind, table)
            cosines = (told(one[layers], layers, 32) * told(other[layers], layers, 32)).sum(1)
            expected = 100 * float(spearmanr(cosines, gold).statistic)
            assert kinds["float32", kind]["Pairs"].scores[layers][32] == pytest.approx(expected, abs=within)
            assert kinds["float32", kind]["Half"].scores[layers][32] > 0
    assert quality.worth("search", 4, 32, output_type="int8") is not None
    assert "binary, share less that of float" in capsys.readouterr().out
    card = (bundle / "README.md").read_text()
    assert "| dims | search, int8 | search, binary |" in card, "similarity has a set that was not measured so"
    in_bits = quality.worth("search", 4, 32, output_type="binary")
    assert in_bits is not None
    assert f"{100 * in_bits.share:.1f} % |\n\nThe sets:" in card
    assert main(["profile", str(bundle), "--check", *sets, *few]) == 0
    assert "Half, search, int8: reproduced" in capsys.readouterr().out
    off = manifest.model_copy(update={"quality": _with_bits_off(quality)})
    write_manifest(bundle, off)
    assert main(["profile", str(bundle), "--check", *sets, *few]) == 1
    assert "Half, search, binary: DIFFERS" in capsys.readouterr().out


def _with_bits_off(quality: Quality) -> Quality:
    """Figures of binary that nobody measured."""
    told = quality.model_dump()
    (bits,) = (variant for variant in told["variants"] if variant["output_type"] == "binary")
    bits["sets"]["Half"]["scores"][4][32] += 1
    return Quality.model_validate(told)


def test_bytes_keep_the_angle_and_bits_much_of_it() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)
    table = calibrated({3: rows}, (16, 64), "made up")
    for dim in (16, 64):
        units = unit(rows, dim)
        int8 = told_as("int8", table)(rows, 3, dim)
        assert (units * int8).sum(1).min() > 0.9999
        binary = told_as("binary", None)(rows, 3, dim)
        assert np.allclose((binary**2).sum(1), 1)
        exact, bits = units[:200] @ units[200:].T, binary[:200] @ binary[200:].T
        assert np.corrcoef(exact.ravel(), bits.ravel())[0, 1] > 0.6
        limit = np.full(400, table.ranges[3][dim], np.float32)
        assert np.abs(quantized(units, "int8", limit).astype(int)).max() in (126, 127)
        assert (quantized(units, "uint8", limit).astype(int) - quantized(units, "int8", limit) == 128).all()
