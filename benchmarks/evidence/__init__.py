"""Evidence: known answers, digits, precision, and what real networks say."""
