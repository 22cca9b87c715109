"""The feature store: point-in-time join, Feast's offline store on Polars, retrieval. Import its modules directly."""
