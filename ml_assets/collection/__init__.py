"""Stage 2, collection: landing zone, ledger, quarantine and readers."""
