"""Why an embedding was refused or failed, in the scheduler's words; the API gives them status codes."""


class Overloaded(Exception):  # noqa: N818 - the protocols call it so
    """The queue has no room for the whole request; try again after ``retry_after_s`` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooBusy(Overloaded):
    """Not even the shallowest exit allowed would be ready by the deadline, given what is queued; refused at once."""


class DeadlinePassed(Exception):  # noqa: N818 - reads as what happened
    """The deadline passed while the request waited, or no time was left for it; what was left of it was not run."""


class NotServing(Exception):  # noqa: N818 - a state, not a mistake
    """The engine is loading, draining or dead; nothing is admitted."""


class EngineFailure(Exception):  # noqa: N818 - reads as what happened
    """The batch that held the request could not be run; the message says why."""
