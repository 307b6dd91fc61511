"""Peers that are libraries: told by lines of JSON what to encode, in as many processes as a setting says."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from strata.loadtest import library
from strata.loadtest.connection import LoadError
from strata.loadtest.library import Library, Place, Setting
from strata.loadtest.product import useful_operations
from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.registry import DEFAULT, find

STUB = """
import base64, json, struct, sys
told = json.loads(sys.argv[1])
if told["kind"] == "broken":
    sys.exit("it cannot be loaded")
print("{}", flush=True)
for line in sys.stdin:
    command = json.loads(line)
    texts = command["texts"]
    answer = {"seconds": float(len(texts)), "each": [0.5] * len(texts)}
    if command.get("vectors"):
        answer["vectors"] = base64.b64encode(b"".join(struct.pack("<2f", len(t), 0) for t in texts)).decode()
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    monkeypatch.setattr(library, "_SCRIPT", stub)
    return Place(Path(sys.executable), tmp_path)


def test_processes_share_the_texts_and_the_slowest_counts(place: Place) -> None:
    async def main() -> None:
        async with Library(place, Setting("torch", 2, 1)) as peer:
            assert await peer.seconds(["a", "b", "c", "d", "e"]) == 3
            assert await peer.singles(["a", "b"]) == [0.5, 0.5]
            np.testing.assert_array_equal(await peer.vectors(["abc", "d"]), [[1, 0], [1, 0]])

    asyncio.run(main())


def test_a_library_that_does_not_load_says_why(place: Place) -> None:
    async def main() -> None:
        async with Library(place, Setting("broken", 1, 1)):
            pass

    with pytest.raises(LoadError, match="it cannot be loaded"):
        asyncio.run(main())


def test_useful_work_is_that_of_the_products() -> None:
    a = read_manifest(find(DEFAULT)).architecture
    assert useful_operations(a, [1]) == 2 * 12 * (384 * (4 * 384 + 2 * 1536) + 2 * 384)
