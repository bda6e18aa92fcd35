"""Tasks as YAML, where their rows come from, splits, and pairs of rows."""
