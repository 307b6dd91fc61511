"""Why an embedding was refused or failed, in the scheduler's words; the API gives them status codes."""

from __future__ import annotations


class Overloaded(Exception):  # noqa: N818 - the protocols call it so
    """The queue has no room for the whole request; try again after ``retry_after_s`` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooBusy(Overloaded):
    """Not even the shallowest exit allowed would be ready by the deadline; refused at once."""

    @classmethod
    def at(cls, layers: int, late_s: float, alone_s: float) -> TooBusy:
        """``alone_s``: what the fewest ``layers`` take with nothing else to do, where there is nothing; else 0."""
        late = f"{1000 * late_s:.{0 if late_s >= 0.01 else 1}f} ms"
        why = (
            f"take about {1000 * alone_s:.1f} ms with nothing else to do, {late} more than is left to be sure of it"
            if alone_s
            else f"would be ready about {late} too late, given what is queued"
        )
        return cls(f"the fewest layers this request may get, {layers}, {why}", late_s)


class DeadlinePassed(Exception):  # noqa: N818 - reads as what happened
    """The deadline passed while the request waited, or no time was left for it; what was left of it was not run."""


class NotServing(Exception):  # noqa: N818 - a state, not a mistake
    """The engine is loading, draining or dead; nothing is admitted."""


class EngineFailure(Exception):  # noqa: N818 - reads as what happened
    """The batch that held the request could not be run; the message says why."""
