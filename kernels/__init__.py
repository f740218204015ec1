"""Arithmetic on arrays: moments of batches, contrasts of moments. No files, models, printing."""

# What is raised where kernels cannot run; the engine makes it an error of its own.
Unable: type[Exception] = RuntimeError
