"""What is only tokenized or decoded does not keep texts to embed waiting, and admission knows what the threads hold."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from strata.app.tokenizer import Encode, TokenizedLate, Tokenizer, TokenizerBusy
from strata.model_store.bundle.bundle import read_manifest

LONG = "caf\u00e9, the river and the mountain " * 60  # not looked up, and more than is tokenized on the event loop


@pytest.fixture
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer(tiny_bundle, read_manifest(tiny_bundle), workers=1, default_prompt_name=None)


def test_a_flood_to_tokenize_is_bounded_and_embeds_go_past_it(tokenizer: Tokenizer) -> None:
    held = threading.Event()

    async def flood() -> None:
        tokenizer._side_thread.submit(held.wait)  # whoever asks to tokenize waits
        asked = [asyncio.create_task(tokenizer.decode([[3]], skip_special_tokens=True)) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(TokenizerBusy, match="64 requests"):
            await tokenizer.tokens(["river"], add_special_tokens=True, prompt_name=None)
        async with asyncio.timeout(20):
            assert await tokenizer.encode([LONG], Encode(truncate=True))
        held.set()
        assert len(await asyncio.gather(*asked)) == 64

    asyncio.run(flood())
    tokenizer.close()


def test_a_long_text_is_expected_behind_those_that_wait(tokenizer: Tokenizer) -> None:
    how, held = Encode(truncate=True), threading.Event()

    async def wait() -> None:
        alone = tokenizer.seconds(len(LONG))
        assert alone > 0
        tokenizer._threads.submit(held.wait)
        others = [asyncio.create_task(tokenizer.encode([LONG], how)) for _ in range(5)]
        await asyncio.sleep(0)
        assert tokenizer.seconds(len(LONG)) == pytest.approx(6 * alone)
        with pytest.raises(TokenizedLate, match="too late"):
            await tokenizer.encode([LONG], how, timeout_s=3 * alone)
        with pytest.raises(TimeoutError):
            await tokenizer.encode([LONG], how, timeout_s=7 * alone)
        assert await tokenizer.encode(["short"], how, timeout_s=0.001), "done at once"
        assert await tokenizer.encode(["the river "] * 400, how, timeout_s=0.001), "likewise, once its words are known"
        held.set()
        await asyncio.gather(*others)

    asyncio.run(wait())
    tokenizer.close()


def test_others_come_between_the_pieces_of_a_large_request(tokenizer: Tokenizer) -> None:
    async def race() -> None:
        large = asyncio.create_task(
            tokenizer.encode(["the river and the mountain " * 20] * 2000, Encode(truncate=True))
        )
        await asyncio.sleep(0)
        assert await tokenizer.encode(["river"], Encode(truncate=True))
        assert not large.done()
        assert len(await large) == 2000

    asyncio.run(race())
    tokenizer.close()


def test_one_large_request_is_tokenized_by_all_threads(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{LONG} {number}" for number in range(50)]

    async def encode(threads: int) -> list[list[int]]:
        tokenizer.use_threads(threads)
        return [ids.tolist() for ids in await tokenizer.encode(texts, Encode(truncate=True))]

    alone = asyncio.run(encode(1))
    plain, together = tokenizer._encode, threading.Barrier(4)

    def met(part: list[str]) -> object:
        together.wait(20)  # until as many threads have a part in hand
        return plain(part)

    monkeypatch.setattr(tokenizer, "_encode", met)
    assert asyncio.run(encode(4)) == alone
    tokenizer.close()
