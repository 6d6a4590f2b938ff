"""Speed and memory beside a peer, each in its own environment: ``python -m benchmarks.run``."""
