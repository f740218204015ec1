"""The second pass: responses of chosen units to every stimulus. Knows torch."""
