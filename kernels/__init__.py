"""Arithmetic on arrays: moments of batches, contrasts of moments. No files, models or printing."""

# Raised where kernels cannot run. The engine replaces it with its own error type.
Unable: type[Exception] = RuntimeError
