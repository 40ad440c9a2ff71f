"""`python -m hwnas`."""

from .cli import main

main()
