"""The peer's settings that are tried: whether queries are solved together, and the preconditioner."""

VARIANTS: dict[str, tuple[bool, tuple[str, int] | None]] = {
    "block": (True, None),
    "block, Jacobi": (True, ("JacobiPreconditioner", 10)),
    "block, Nyström 50": (True, ("NystroemPreconditioner", 50)),
    "one by one": (False, None),
    "one by one, Nyström 50": (False, ("NystroemPreconditioner", 50)),
}
