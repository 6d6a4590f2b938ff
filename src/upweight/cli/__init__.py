"""The `upweight` command: label errors, explanations and their proof, from a shell."""


def main() -> None:
    """Run the command line."""
    from upweight.cli.app import app  # here, so that `import upweight.cli` costs nothing

    app(prog_name="upweight")
