"""The experiments of the papers, on the public API only: one short script per figure or table."""
