"""``python -m fusiform``."""

from fusiform.cli import program

program()
