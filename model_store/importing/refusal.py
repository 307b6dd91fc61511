"""Why a model is not imported."""


class RefusedError(ValueError):
    """A model that cannot be imported as it is; the message names the file and the reason, and what would help."""
