"""`main`: the whole chain on the embedded default."""
