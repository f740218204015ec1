"""From stores to a page that a person reads, and figures that a paper prints. Never torch."""
