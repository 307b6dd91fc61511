"""Every reason that a request is refused for, and what a caller does about it: for the guide."""

from __future__ import annotations

from strata.app.api import refusals as kinds
from strata.app.api.refusals import Kind

WHEN: dict[Kind, str] = {
    kinds.EMPTY: "no text, or an empty one",
    kinds.VALIDATION: "a field, option or header that cannot be; the message names it and says what can",
    kinds.BATCH_SIZE: "more texts or tokens than one request may have (`/info` tells how many): send several",
    kinds.UNAUTHORIZED: "no key, or none that is known",
    kinds.FORBIDDEN: "the key does not reach the tier asked for",
    kinds.NOT_FOUND: "no such path, or not on this port",
    kinds.MODEL_NOT_FOUND: "another model is served; the message names it",
    kinds.NOT_ALLOWED: "the path takes another method: `Allow`",
    kinds.TOO_LARGE: "the body is larger than `--payload-limit`: send several",
    kinds.ENCODED: "the body is compressed: send it as it is",
    kinds.OVERLOADED: "the queue, the tokenizer or what is in flight is full: come back after `Retry-After`",
    kinds.RATE_LIMITED: "the rate of the key is used up: come back after `Retry-After`",
    kinds.TOO_BUSY: "the deadline cannot be met behind what waits: ask another replica, allow more time or less depth",
    kinds.UNHEALTHY: "loading, draining, or no engine: ask another replica",
    kinds.DEADLINE_PASSED: "the deadline passed while the request was sent, or while it waited",
    kinds.BACKEND: "the engine failed on this batch: ask once more",
    kinds.INTERNAL: "a fault of the server; its log has it under `X-Request-Id`",
}
