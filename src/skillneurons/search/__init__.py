"""`search`: the parameters of `tune` searched with Optuna."""
