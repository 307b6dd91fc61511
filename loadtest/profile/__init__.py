"""`strata profile`: quality and timing of a bundle, measured together; above the rooms that measure either."""
