"""The tiers in force: checked against the model, and read anew when the operator asks for it."""

from __future__ import annotations

import logging

from strata.app.callers.callers import everybody, one_key
from strata.app.callers.tiers_file import TiersError, read_tiers
from strata.app.planning.feasibility import check_tiers
from strata.app.planning.planner import Planner
from strata.app.served import Served
from strata.app.settings import Settings
from strata.app.telemetry import logs


class Tiers:
    """Who may come in: by the file of --tiers, by --api-key, or everybody.

    Raises TiersError for a file that cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.tiers
        self._served: Served | None = None
        self._reload_waits = False
        if settings.tiers:
            self.callers = read_tiers(settings.tiers)
        else:
            self.callers = one_key(settings.api_key.get_secret_value()) if settings.api_key else everybody()

    def apply_to(self, served: Served) -> None:
        """A model has been opened: the tiers hold for it, and are read anew where that was asked for before."""
        self._served = served
        self._set_shares(served)
        if self._reload_waits:
            self.reload()

    def check_against(self, planner: Planner) -> None:
        """Refuse tiers that a model can never meet. Raises TiersError."""
        if self._path:
            check_tiers(self._path, self.callers, planner)

    def reload(self) -> None:
        """Read the file anew; one that cannot be used leaves those in force that were."""
        if self._path is None:
            logs.event("nothing_to_reload", {"note": "SIGHUP reads the file of --tiers again, and there is none"})
            return
        if self._served is None:
            logs.event("reload_waits", {"note": "the file of --tiers is read again when the model is open"})
            self._reload_waits = True
            return
        try:
            callers = read_tiers(self._path)
            check_tiers(self._path, callers, self._served.planner)
        except TiersError as error:
            logs.event("tiers_kept", {"reason": error}, level=logging.ERROR)
            return
        self.callers.update(callers)
        self._set_shares(self._served)
        logs.event("tiers_reloaded", {"tiers": ", ".join(tier.name for tier in callers.tiers)})

    def _set_shares(self, served: Served) -> None:
        served.scheduler.set_shares({tier.name: tier.share for tier in self.callers.tiers})
