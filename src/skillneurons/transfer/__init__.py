"""`transfer`: every task under every task's prompts."""
