"""Run by test_semantic_kernel in an environment of its own: embeds and prints the vectors as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from openai import AsyncOpenAI
from semantic_kernel.connectors.ai.open_ai import OpenAIEmbeddingPromptExecutionSettings, OpenAITextEmbedding


async def main(url: str, texts: list[str]) -> None:
    """Once as it comes, once with a length."""
    service = OpenAITextEmbedding(ai_model_id="tiny", async_client=AsyncOpenAI(base_url=url, api_key="none needed"))
    whole = await service.generate_embeddings(texts)
    short = await service.generate_embeddings(texts, OpenAIEmbeddingPromptExecutionSettings(dimensions=8))
    print(json.dumps([whole.tolist(), short.tolist()]))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
