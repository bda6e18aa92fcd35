"""`suppress`: accuracy with skill neurons suppressed, beside random ones."""
