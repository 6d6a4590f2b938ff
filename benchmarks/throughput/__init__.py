"""Seconds, memory and agreement on networks of the size people work at, beside peers: untrained, on random data."""
