"""Runs, the registry and the served prompt; the only folder that imports mlflow."""
