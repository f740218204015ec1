"""Arithmetic on arrays: moments of batches, and contrasts of moments. No files, models, printing."""
