"""What is a unit of a layer: reductions, tokens and heads of transformers, functions of users."""
