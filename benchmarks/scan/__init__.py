"""Scans: where their time goes, decoding, commits, and whole jobs."""
