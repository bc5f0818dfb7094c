"""verifyd: one-time codes, issued, delivered and checked."""
