"""`robustness`: adversarial accuracy, and what becomes of the skill neurons."""
