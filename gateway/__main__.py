"""`python -m gateway` is `countersign`."""

from gateway.cli import main

main()
