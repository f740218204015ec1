"""Units of a layer: reductions, tokens and heads of transformers, functions of the user."""
