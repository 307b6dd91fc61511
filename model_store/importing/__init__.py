"""Import: bundles made of other people's model folders."""

from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from strata.model_store.importing.refusal import RefusedError

__all__ = ["Overrides", "RefusedError", "import_model"]
