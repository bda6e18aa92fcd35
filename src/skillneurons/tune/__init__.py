"""`tune`: soft prompts on a frozen backbone."""
