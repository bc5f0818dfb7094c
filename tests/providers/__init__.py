"""Providers, each by its own contract and all by the same questions."""
