"""Frozen language models: one contract, three families; all that differs between architectures is here."""
