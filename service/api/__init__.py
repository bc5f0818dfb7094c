"""HTTP in, HTTP out: no decisions are made here."""
