"""The streaming kernels, beside memory bandwidth and other libraries."""
