"""The gradient index measured: agreement against bytes, projection beside peers, queries of a million rows."""
