"""The headers of an answer and what each says, for the guide and the OpenAPI schema; a test holds that all are here."""

from __future__ import annotations

from typing import Any

# What is told of an embedding, in the order of reading.
OF_VECTORS = {
    "X-Strata-Layers": "layers that were run; with `layers=auto` those of each text, with commas between",
    "X-Strata-Dim": "length of the vectors",
    "X-Strata-Space": "the vector space: store it beside the vectors, which compare only within it. It is absent "
    "where the texts are in several spaces",
    "X-Strata-Model": "name and revision of the model",
    "X-Strata-Dtype": "arithmetic of the engine: float32, bfloat16, float16 or int8",
    "X-Strata-Output-Dtype": "type of the numbers, where one that is not float was asked for",
    "X-Strata-Int8-Range": "what 127 stands for in int8 and uint8; of each text with `layers=auto`",
    "X-Strata-Shape": "rows and numbers of a row, where the answer is bytes (`Accept: application/octet-stream`)",
    "X-Strata-Quality": "share of the source model's score that these layers, dim and type keep, as it was measured",
    "X-Strata-Task": "the task which that quality is of",
    "X-Strata-Truncated": "how many texts were cut, because they are longer than the model reads",
    "X-Strata-Tier": "the tier that the request was served in",
    "X-Strata-Input-Type": "query or document, where request or tier says it",
    "X-Strata-Predicted-Ms": "milliseconds from arrival to answer that were foreseen when the request was let in",
    "X-Strata-Slack-Ms": "milliseconds that were left of the deadline, where there is one",
    "Server-Timing": "milliseconds of `receive`, `tokenize`, `queue` and `inference`, and in all (`total`)",
    # text-embeddings-inference's:
    "X-Compute-Type": "what the engine runs on: cpu, cuda or cuda:N",
    "X-Compute-Characters": "characters of the texts",
    "X-Compute-Tokens": "tokens that were run",
    "X-Compute-Time": "whole milliseconds from arrival to answer",
    "X-Total-Time": "the same as `X-Compute-Time`",
    "X-Tokenization-Time": "whole milliseconds that the tokenizer took",
    "X-Queue-Time": "whole milliseconds in the queue",
    "X-Inference-Time": "whole milliseconds in the engine",
}
OF_ALL = {
    "X-Request-Id": "the request's own id, or one that the server makes: the log has it",
    "Retry-After": "with 429 and 503: seconds to wait before asking again",
}

OPENAPI: dict[str, Any] = {
    name: {"description": told, "schema": {"type": "string"}} for name, told in OF_VECTORS.items()
}
