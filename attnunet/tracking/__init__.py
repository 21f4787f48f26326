"""MLflow's store and the runs in it. No other package of attnunet imports mlflow."""

import logging
import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A model needs its own requirements, and not the uv project in whose folder a command was started.
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
# `Store.attempt` waits for a server that does not answer. With its defaults, MLflow would also retry and wait in each call.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

import mlflow  # noqa: F401 - the import sets MLflow's log level, so it comes before setLevel

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its tracebacks repeat the messages of `Store.attempt`
