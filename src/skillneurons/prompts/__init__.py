"""The soft prompt as a value, where it starts, and its scores."""
