"""`litellm`, and `dspy` which calls it, unmodified: as OpenAI's, Cohere's and Voyage's server."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it asks a host for prices otherwise

import dspy
import litellm
import numpy as np
import pytest

from tests.clients.conftest import TEXTS, Embed, same
from tests.conftest import RunningServer


def vectors(answer: Any) -> list[list[float]]:
    return [item["embedding"] for item in answer.data]


@pytest.mark.parametrize(
    ("model", "path"),
    [("openai/tiny", "/v1"), ("voyage/voyage-4", "/v1/embeddings"), ("cohere/embed-v4.0", "/v2/embed")],
)
def test_each_provider_reads_the_answer(server: RunningServer, embed: Embed, model: str, path: str) -> None:
    answer = litellm.embedding(model=model, input=TEXTS, api_base=server.url + path, api_key="-")
    kind: dict[str, str] = {"input_type": "document"} if model.startswith("cohere") else {}  # its own default
    same(vectors(answer), embed(TEXTS, **kind))


def test_length_and_depth_pass_through(server: RunningServer, embed: Embed) -> None:
    answer = litellm.embedding(
        model="openai/tiny",
        input=TEXTS,
        dimensions=16,
        layers=2,
        allowed_openai_params=["dimensions"],
        api_base=server.url + "/v1",
        api_key="-",
    )
    same(vectors(answer), embed(TEXTS, dim=16, layers=2))


def test_dspy_embeds_and_searches(server: RunningServer, embed: Embed) -> None:
    embedder = dspy.Embedder("openai/tiny", api_base=server.url + "/v1", api_key="-", caching=False)
    same(np.asarray(embedder(TEXTS)), embed(TEXTS))
    search = dspy.retrievers.Embeddings(corpus=TEXTS, embedder=embedder, k=1)
    assert search(TEXTS[1]).passages == [TEXTS[1]]
