"""`python -m synergy`: the command line."""

from synergy.cli import main

main()
