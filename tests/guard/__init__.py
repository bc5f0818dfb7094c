"""The guard: its arithmetic, its scripts, its API."""
