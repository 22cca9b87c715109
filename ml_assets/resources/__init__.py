"""The boundary: thin Dagster resources over the lake, the landing zone, the registry, the feature store and the clock."""
