"""The command line as ``python -m upweight``."""

from upweight.cli import main

if __name__ == "__main__":
    main()
