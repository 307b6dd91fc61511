"""The waiting tickets, first come first served, counted in texts and tokens; and the next batch from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from app.scheduling.ticket import Ticket


class TicketQueue:
    """Tickets of requests that are over are never handed out."""

    def __init__(self) -> None:
        self._waiting: deque[Ticket] = deque()
        self.texts = 0
        self.tokens = 0

    def add(self, tickets: Iterable[Ticket]) -> None:
        """Put tickets at the end."""
        for ticket in tickets:
            self._waiting.append(ticket)
            self._count(ticket, 1)

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Put tickets whose batch failed where they came from: the front."""
        for ticket in reversed(list(tickets)):
            self._waiting.appendleft(ticket)
            self._count(ticket, 1)

    def withdraw(self, tickets: Iterable[Ticket]) -> None:
        """Forget the tickets of a caller that left, wherever they wait."""
        gone = set(map(id, tickets))
        kept = [ticket for ticket in self._waiting if id(ticket) not in gone]
        for ticket in self._waiting:
            if id(ticket) in gone:
                self._count(ticket, -1)
        self._waiting = deque(kept)

    def next_batch(self, max_tokens: int, max_texts: int | None) -> list[Ticket]:
        """Tickets to run next: at most ``max_tokens`` tokens, but always at least one ticket.

        A ticket whose batch failed before goes only with its own request, so that it cannot fail another.
        """
        batch: list[Ticket] = []
        tokens = 0
        for ticket in self._live():
            size = len(ticket.row.tokens)
            if batch and (
                tokens + size > max_tokens
                or len(batch) == max_texts
                or ((ticket.attempts or batch[0].attempts) and ticket.request is not batch[0].request)
            ):
                self._waiting.appendleft(ticket)
                break
            batch.append(ticket)
            tokens += size
            self._count(ticket, -1)
        return batch

    def drain(self) -> list[Ticket]:
        """Take everything out."""
        everything = list(self._waiting)
        self._waiting.clear()
        self.texts = self.tokens = 0
        return everything

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def _live(self) -> Iterator[Ticket]:
        while self._waiting:
            ticket = self._waiting.popleft()
            if ticket.request.over:
                self._count(ticket, -1)
            else:
                yield ticket

    def _count(self, ticket: Ticket, sign: int) -> None:
        self.texts += sign
        self.tokens += sign * len(ticket.row.tokens)
