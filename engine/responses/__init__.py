"""What is asked of recordings: responses of units to every stimulus. Never imports torch."""
