"""How MLflow's pages open: a saved view of the run list that shows accuracies, which the default view does not."""

import json
from types import MappingProxyType

COLUMNS = (
    "metrics.`dev/accuracy`",
    "metrics.`test/accuracy`",
    "metrics.`test/accuracy_low`",
    "metrics.`test/accuracy_high`",
    "metrics.`test/majority`",
    "params.`learning_rate`",
    "params.`init`",
)
# widths are taken from the columns that have a place, so those that are always there have one too
PLACES = ("attributes.`Run Name`", "runDateAndNestInfo", *COLUMNS, "duration")
WIDTHS = MappingProxyType({**dict.fromkeys(PLACES, 110), PLACES[0]: 300, PLACES[1]: 160})
KEY = "accuracy"
KIND = "mlflow.experimentKind"
VIEW = f"mlflow.sharedViewState.{KEY}"
_MADE = 1767225600000  # a time that does not change, so that the tag does not either

# the view's state is JSON in JSON, as MLflow's own "Save view" writes it
TAGS = MappingProxyType(
    {
        # without a kind the UI opens an experiment in its view for chat applications
        KIND: "custom_model_development",
        VIEW: json.dumps(
            {
                "name": "Accuracies",
                "createdAt": _MADE,
                "updatedAt": _MADE,
                "state": json.dumps(
                    {"selectedColumns": list(COLUMNS), "columnOrder": list(PLACES), "columnWidths": dict(WIDTHS)}
                ),
            }
        ),
    }
)


LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` and `make ui` serve


def run_page(server: str, experiment_id: str, run_id: str) -> str:
    """The address of a run's page."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def page(server: str, experiment_id: str) -> str:
    """The address of an experiment's run list in that view, on a server such as `http://127.0.0.1:5000`."""
    return (
        f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?viewStateShareKey={KEY}"
        "&workflowType=machine_learning"
    )
