"""Options that depend on the bundle, and the bundle itself, looked at before anything listens."""

from __future__ import annotations

from pathlib import Path

from strata.app.planning.planner import Planner
from strata.app.settings import Settings, SettingsError
from strata.app.tiers import Tiers
from strata.model_store.bundle.bundle import Bundle, BundleError


def check_fits(settings: Settings, tiers: Tiers, bundle: Path) -> None:
    """Refuse what the bundle cannot do. Raises SettingsError or TiersError, a line that says what is allowed.

    A bundle that is not whole is refused, too; its checksums are compared while the engine starts. Tiers are looked at
    again when the engine has chosen a dtype, which decides the figures that count.
    """
    try:
        manifest = Bundle.open(bundle, checksums=False).manifest
    except (BundleError, OSError) as error:  # OSError: a file that this user may not read
        raise SettingsError(f"--model: {error}") from error
    prompt = settings.default_prompt_name
    if prompt is not None and prompt not in manifest.prompts:
        known = f"must be one of {', '.join(manifest.prompts)}" if manifest.prompts else "leave it out"
        which = "the prompts of" if manifest.prompts else "there are no prompts in"
        raise SettingsError(f"--default-prompt-name: {known}, {which} `{manifest.name}`. Given: {prompt}")
    try:
        planner = Planner(manifest, manifest.name, allow_untrained=settings.allow_untrained, task=settings.task)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if settings.dtype != "auto":
        planner.engine_runs_at(settings.dtype)
    tiers.check_against(planner)
