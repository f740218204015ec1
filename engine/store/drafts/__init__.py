"""Stores and recordings while they are filled: created, committed, resumed, published."""
