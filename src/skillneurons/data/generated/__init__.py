"""The grammars of the built-in tasks."""
