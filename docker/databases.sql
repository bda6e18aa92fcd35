-- One server, a database each for MLflow's runs and registry, its accounts, and Optuna's studies.
CREATE DATABASE tracking;
CREATE DATABASE accounts;
CREATE DATABASE studies;
