"""The functions that the declarations of the tests name: some that work and some that do not."""

from __future__ import annotations

import polars as pl

EVENT, CREATED = "event_timestamp", "created_timestamp"


def with_amount(raw: pl.LazyFrame, *, raw_customers: pl.LazyFrame) -> pl.LazyFrame:
    """Add what the order is worth, and the customer's country."""
    known = raw_customers.select("customer", "country")
    return raw.join(known, on="customer", how="left").with_columns(amount=pl.col("price") * pl.col("quantity"))


def without_days(raw: pl.LazyFrame, *, raw_customers: pl.LazyFrame) -> pl.LazyFrame:
    """Lose the day of each row."""
    return raw.select("order_id", "customer", "ordered_at", "landed_at", amount=pl.col("price") * pl.col("quantity"))


def of_another_table(raw: pl.LazyFrame, *, raw_customers: pl.LazyFrame) -> pl.LazyFrame:
    """Read a column that the raw table does not have."""
    return raw.with_columns(amount=pl.col("prize"))


def history(clean_orders: pl.LazyFrame) -> pl.LazyFrame:
    """Return the mean amount of the customer's orders in the last week."""
    return (
        clean_orders.sort("ordered_at")
        .rolling("ordered_at", period="7d", group_by="customer")
        .agg(amount_mean_7d=pl.col("amount").mean(), created_timestamp=pl.col("landed_at").max())
        .rename({"ordered_at": EVENT})
    )


def local_times(clean_orders: pl.LazyFrame) -> pl.LazyFrame:
    """Return times without a zone."""
    return history(clean_orders).with_columns(pl.col(EVENT).dt.replace_time_zone(None))


def counts(clean_orders: pl.LazyFrame) -> pl.LazyFrame:
    """Return another feature, of another type, than Feast is told of."""
    return history(clean_orders).select("customer", EVENT, CREATED, orders=pl.lit("many"))
