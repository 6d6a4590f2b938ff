"""Beside other libraries (`benchmarks.fidelity`); and what tries the tests, the files and a redesign of this one."""
