"""`discover`: the skill neurons that prompts activate."""
