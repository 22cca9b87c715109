"""Personal data, by what a column's values look like and how it is called. A hint for a person, not a guarantee."""

from __future__ import annotations

import re

import polars as pl

from ml_assets.scaffold.columns import Column

SAMPLE = 1_000
MOSTLY = 0.5
"""Share of distinct values that must look so."""
# Formats: RFC 5322 addresses as commonly written, ISO 13616 (IBAN), RFC 791 (IPv4), RFC 4291 (IPv6), E.164 and national notations.
PATTERNS = {
    "e-mail addresses": r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$",
    "IBANs": r"^[A-Z]{2}\d{2} ?(?:[A-Z0-9]{4} ?){2,7}[A-Z0-9]{1,4}$",
    "IP addresses": r"^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)$|^(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}$",
    "phone numbers": r"^(?:\+|00)\d[\d ()/.-]{7,18}$|^\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}$",
    "social security numbers": r"^\d{3}-\d{2}-\d{4}$",
}
NAME_WORDS = frozenset(
    ["firstname", "lastname", "surname", "fullname", "vorname", "nachname", "forename", "prenom", "nom"]
)
PEOPLE = frozenset(["first", "last", "full", "customer", "patient", "client", "person", "user", "employee", "family"])
WORDS = {
    "phone numbers": frozenset(["phone", "telephone", "telefon", "mobile", "tel", "fax"]),
    "e-mail addresses": frozenset(["email", "mail"]),
    "addresses": frozenset(["address", "street", "strasse", "adresse"]),
    "passport or tax numbers": frozenset(["passport", "ssn", "taxid"]),
}
BIRTH = frozenset(["birth", "birthday", "birthdate", "born", "dob", "geburtsdatum"])


def personal(column: Column, values: pl.Series) -> str:
    """Return what personal data a column seems to hold, in words; empty for none."""
    words = set(column.safe.strip("_").split("_"))
    if BIRTH & words and column.kind in ("moment", "number"):
        return "dates of birth"
    if values.dtype != pl.String or column.kind == "moment":
        return ""
    sample = values.drop_nulls().unique(maintain_order=True).head(SAMPLE)
    for what, pattern in PATTERNS.items():
        if len(sample) and (sample.str.contains(pattern).mean() or 0) > MOSTLY:  # type: ignore[operator]
            return what
    if _are_names(words, sample, column, len(values)):
        return "names of people"
    for what, meant in WORDS.items():
        if meant & words and column.distinct > len(values) * MOSTLY:
            return what
    return ""


def _are_names(words: set[str], sample: pl.Series, column: Column, rows: int) -> bool:
    """Tell whether a column is called like people's names, and holds two or more words, or mostly distinct ones."""
    called = bool(NAME_WORDS & words) or ("name" in words and bool(PEOPLE & words))
    if not called and words != {"name"}:
        return False
    spelled = float(sample.str.contains(r"^\p{L}[\p{L} .,'()\"-]+$").mean() or 0)  # type: ignore[arg-type]
    several = float(sample.str.contains(re.escape(" ")).mean() or 0)  # type: ignore[arg-type]
    distinct = column.distinct > rows / 2
    return spelled > MOSTLY and (called or (distinct and several > MOSTLY))
