"""From images to a store (the scanning wing) and from a store to answers (the asking wing)."""
