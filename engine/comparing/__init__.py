"""Networks side by side, and beside the regions of a brain. Reads stores; never imports torch."""
