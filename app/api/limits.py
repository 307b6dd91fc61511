"""How much one request may be."""

from __future__ import annotations

from dataclasses import dataclass

from strata.app.api.refusals import BATCH_SIZE, EMPTY, Refusal
from strata.app.settings import Settings


@dataclass(slots=True, frozen=True)
class RequestLimits:
    """The operator's limits of a request, whatever else is in flight."""

    body_bytes: int
    texts: int
    tokens: int  # of all its texts: what the whole queue holds
    truncate: bool  # texts that are too long, where the request says nothing of it

    @classmethod
    def of(cls, settings: Settings) -> RequestLimits:
        """As the options say."""
        return cls(
            settings.payload_limit,
            settings.max_client_batch_size,
            settings.max_queue_tokens,
            settings.auto_truncate,
        )

    def check_texts(self, texts: int, field: str) -> None:
        """Refuse a request without texts, or with more than may come at once. Raises Refusal."""
        if not texts:
            raise Refusal(EMPTY, f"`{field}` cannot be empty", field)
        if texts > self.texts:
            raise Refusal(BATCH_SIZE, f"batch size {texts} > maximum allowed batch size {self.texts}", field)

    def check_tokens(self, tokens: int, field: str) -> None:
        """Refuse a request that not even an empty queue would have room for. Raises Refusal."""
        if tokens > self.tokens:
            message = f"`{field}`: a request may have {self.tokens} tokens (--max-queue-tokens). Given: {tokens}"
            raise Refusal(BATCH_SIZE, message, field)
