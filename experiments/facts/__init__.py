"""Fact tracing and filtering on synthetic people."""
