"""Writing stores: created, filled, committed, resumed and published; contrasts saved later."""
