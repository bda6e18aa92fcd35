"""What takes seconds each time is done once."""

import gc
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy


def spare_what_repeats(template: Path) -> None:
    """In this process, copy a fresh database of MLflow from a template, and keep imports out of garbage collection.

    MLflow migrates a fresh database step by step; the template is made so if it is not there. SQLite waits for
    the disk at every commit, which no dying process needs, only a dying machine. Accelerate collects garbage
    between seeds, and need not look at what is imported by now.
    """
    from mlflow.store.db import utils

    migrate = utils._initialize_tables
    if not template.exists():
        migrate(sqlalchemy.create_engine(f"sqlite:///{template}"))

    def initialize(engine: Any) -> None:
        name = engine.url.database
        if engine.url.get_backend_name() != "sqlite" or not name or name.startswith((":memory:", "file:")):
            migrate(engine)
            return
        with sqlite3.connect(template) as made, sqlite3.connect(name) as fresh:
            made.backup(fresh)

    utils._initialize_tables = initialize
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _without_waiting)
    gc.collect()
    gc.freeze()


def _without_waiting(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")
