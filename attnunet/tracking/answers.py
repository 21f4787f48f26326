"""The errors of a logged model, in the form in which MLflow's server sends them."""

import json
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from attnunet.errors import UserError
from attnunet.inference.served import Served


class BadRequest(MlflowException):
    """The server answers with the HTTP status 400 and one sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        """Return the body of the answer. The server has put the whole request into `message`; the body leaves it out."""
        return json.dumps({"error_code": self.error_code, "message": str(self)})


class Answers:
    """Maps volumes to masks, as `Served` does."""

    def __init__(self, served: Served) -> None:
        self.served = served

    def predict(self, request: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray | str:
        try:
            return self.served.predict(request, params)
        except UserError as error:
            raise BadRequest(str(error)) from error
