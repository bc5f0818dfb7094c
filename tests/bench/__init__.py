"""What verifyd does in a second, and what it costs: `make bench`."""
