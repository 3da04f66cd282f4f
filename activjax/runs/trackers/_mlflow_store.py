"""Where MLflow keeps runs: a local database, unless MLFLOW_TRACKING_URI says otherwise.

MLflow 3.17 refuses its old store of plain files, hence SQLite. `mlflow ui --backend-store-uri
sqlite:///<tracked/mlflow>/mlflow.db` shows it.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any


def opened(place: Path) -> tuple[Any, str | None]:
    """A client, and where the artifacts of new experiments go (None: as the server says)."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient  # pyright: ignore

    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return MlflowClient(tracking_uri=uri), None
    path = place / "mlflow.db"
    if not path.exists():  # a kill while it is made leaves none, not a half
        for left in place.glob(".mlflow-*"):
            left.unlink()
        part = place / f".mlflow-{time.time_ns():x}.db"
        MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments()
        part.rename(path)
    return MlflowClient(tracking_uri=f"sqlite:///{path}"), (place / "artifacts").as_uri()
