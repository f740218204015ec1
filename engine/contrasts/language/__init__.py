"""What a user can ask, as text and as values: contrasts, rules, criteria."""
