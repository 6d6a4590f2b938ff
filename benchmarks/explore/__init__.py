"""The page of `upweight explore` at its full size, in a real browser."""
