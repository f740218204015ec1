"""Arithmetic on arrays: moments of batches, contrasts of moments. No files, models, printing."""
