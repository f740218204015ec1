"""Lesions: what changes in a network when units are silenced, against controls."""
