"""What decides whether a send may happen."""
