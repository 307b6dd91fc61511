"""The way of an embedding request, from its texts to its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from starlette.requests import Request

from strata.app.api.limits import RequestLimits
from strata.app.api.rates import rate_taken
from strata.app.api.responses import Embedded
from strata.app.callers.callers import Caller
from strata.app.connections.departure import while_connected
from strata.app.engine.batch import TokenIds
from strata.app.in_flight import InFlight
from strata.app.lifecycle import Lifecycle
from strata.app.planning.feasibility import check_feasible, check_tokenized
from strata.app.planning.plan import Ask, Infeasible, Terms
from strata.app.request_context import RequestContext
from strata.app.scheduling.errors import DeadlinePassed, Overloaded, TooBusy
from strata.app.scheduling.result import Answer
from strata.app.served import Served
from strata.app.telemetry.metrics import Metrics
from strata.app.tokenizer import Encode, TokenizedLate
from strata.app.writers import Writers

# Shorter deadlines are not judged by the tokenizer's forecast: perhaps no server at all could meet them, which
# `check_feasible` says once the tokens are counted.
_FORECAST_FROM_S = 0.05


@dataclass(slots=True)
class Texts:
    """The texts of a request, or their token ids, and how they are to be read."""

    inputs: Sequence[str] | Sequence[list[int]]
    method: str  # "single" or "batch", as text-embeddings-inference counts requests
    how: Encode
    normalize: bool = True

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(slots=True)
class _Planned:
    """A request whose terms are known."""

    texts: Texts
    ask: Ask
    terms: Terms
    caller: Caller
    served: Served
    context: RequestContext


class Embedder:
    """Leads a request: plan, rate and slot, token ids, schedule, and the record of what became of it."""

    def __init__(
        self, lifecycle: Lifecycle, in_flight: InFlight, limits: RequestLimits, metrics: Metrics, writers: Writers
    ) -> None:
        self.writers = writers
        self._lifecycle = lifecycle
        self._in_flight = in_flight
        self.limits = limits
        self._metrics = metrics

    def served(self) -> Served:
        """The model, if requests are accepted. Raises NotServing."""
        return self._lifecycle.served()

    async def embed(self, request: Request, texts: Texts, ask: Ask) -> Embedded:
        """The vectors of a request, whose texts are as many as it may have.

        Raises what `refusals.refusal_of` knows, and ClientLeft.
        """
        planned = self._plan(request, texts, ask)
        self._check_uploaded(planned)
        caller, scheduler = planned.caller, planned.served.scheduler
        try:
            with rate_taken(caller, len(texts), self._metrics), self._in_flight.slot():
                scheduler.check_room(len(texts), 0, (planned.terms.tier, caller.key or ""))
                began = perf_counter()
                tokens = await self._tokenize(planned)
                tokenized = perf_counter()
                self._check_feasible(planned, tokens)
                submitted = scheduler.submit(
                    tokens,
                    planned.terms,
                    arrived=planned.context.started,
                    normalize=texts.normalize,
                    caller=caller.key or "",
                )
                answer = await while_connected(request, submitted)
        except (Infeasible, Overloaded) as error:
            self._count_refusal(planned.terms, error)
            raise
        return self._record(planned, answer, began, tokenized)

    def _plan(self, request: Request, texts: Texts, ask: Ask) -> _Planned:
        """Who asks, and the terms that ask and tier come to."""
        context = RequestContext.of(request.scope)
        context.facts["texts"] = len(texts)
        self._metrics.request_started(texts.method, len(texts))
        served, caller = self.served(), context.known_caller
        terms = served.planner.terms(ask, caller.tier(ask.tier))
        context.facts["tier"] = terms.tier
        return _Planned(texts, ask, terms, caller, served, context)

    def _check_uploaded(self, planned: _Planned) -> None:
        """Refuse a request whose own body took its time: no server could have answered it."""
        deadline_s, spent_s, upload_s = planned.terms.deadline_s, planned.context.seconds, planned.context.upload_s
        if deadline_s is not None and spent_s - upload_s < deadline_s <= spent_s:
            self._metrics.tier_refused(planned.terms.tier, "upload")
            raise DeadlinePassed(f"the deadline of {1000 * deadline_s:.0f} ms passed while the request was being sent")

    def _count_refusal(self, terms: Terms, error: Infeasible | Overloaded) -> None:
        """Count a request of a tier that is refused; the scheduler counts those that would be late itself."""
        if not isinstance(error, TooBusy):
            self._metrics.tier_refused(terms.tier, "infeasible" if isinstance(error, Infeasible) else "queue")

    async def _tokenize(self, planned: _Planned) -> list[TokenIds]:
        """Token ids of every text; long texts are refused where the tokenizer would not be done by the deadline."""
        tokenizer, terms, texts = planned.served.tokenizer, planned.terms, planned.texts
        left_s = None
        if terms.deadline_s is not None and terms.deadline_s >= _FORECAST_FROM_S:
            left_s = terms.deadline_s - planned.context.seconds
        try:
            return await tokenizer.encode(texts.inputs, texts.how, terms.input_type, timeout_s=left_s)
        except TokenizedLate as error:
            check_tokenized(terms, planned.ask, error.alone_s)
            self._metrics.tier_refused(terms.tier, "tokenizer")
            raise TooBusy(str(error), error.late_s) from error
        except TimeoutError as error:
            raise DeadlinePassed(f"the deadline of {1000 * (terms.deadline_s or 0):.0f} ms has passed") from error

    def _check_feasible(self, planned: _Planned, tokens: Sequence[TokenIds]) -> None:
        """Refuse what no empty queue could hold, and what no idle server could answer in time."""
        lengths = [len(ids) for ids in tokens]
        self.limits.check_tokens(sum(lengths), planned.texts.how.field)
        if planned.terms.deadline_s is not None:
            exits = planned.served.planner.exits_of(planned.terms.input_type)
            alone = partial(planned.served.scheduler.alone, lengths)
            check_feasible(planned.terms, planned.ask, exits, len(lengths), alone, planned.context.seconds)

    def _record(self, planned: _Planned, answer: Answer, began: float, tokenized: float) -> Embedded:
        """Tell metrics, log and trace where the time went, and the client what was run."""
        texts, terms, served, context = planned.texts, planned.terms, planned.served, planned.context
        total_s = context.seconds
        sent = tokenized + answer.queue_s
        context.stages += (
            ("receive", context.started, began),
            ("tokenize", began, tokenized),
            ("queue", tokenized, sent),
            ("inference", sent, sent + answer.inference_s),
        )
        context.facts |= {"layers": answer.layers, "dim": answer.dim, "tokens": answer.tokens}
        if texts.how.cut:
            context.facts["truncated"] = texts.how.cut
        depths_differ = bool(answer.depths)  # with `layers=auto` each text has a depth of its own
        if planned.caller.key:
            self._metrics.key_answered(planned.caller.own.name, planned.caller.key, len(texts), answer.tokens)
        self._metrics.request_answered(
            texts.method,
            len(texts),
            answer.dim,
            layers=sum(answer.depths) if depths_differ else len(texts) * answer.layers,
            input_type=terms.input_type,
            total=total_s,
            tokenization=tokenized - began,
            queue=answer.queue_s,
            inference=answer.inference_s,
        )
        return Embedded(
            answer=answer,
            terms=terms,
            model=served.label,
            space=None if depths_differ and terms.index is None else served.planner.space(answer.layers, terms),
            quality=None if depths_differ else terms.quality[terms.exits.index(answer.layers)],
            device=served.device,
            dtype=served.dtype,
            characters=sum(map(len, texts.inputs)),
            cut=texts.how.cut,
            receive_s=began - context.started,
            tokenization_s=tokenized - began,
            context=context,
        )
