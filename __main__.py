"""``python -m fusiform``."""

from fusiform.cli import main

main()
