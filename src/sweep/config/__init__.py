"""What a person chose: one frozen tree, validated once when it is read.

The dotted names of its fields are the YAML keys, the overrides, the MLflow params and the axis labels.
"""

from sweep.config.anneal import Anneal
from sweep.config.data import Data, Source
from sweep.config.machine import Compute
from sweep.config.merge import Merge, merged_steps
from sweep.config.model import Checkpoint, Model, named_step, trajectory_steps
from sweep.config.plain import model_params, params, tree
from sweep.config.run_config import RunConfig, load
from sweep.config.tasks import CORE8, Task, Tasks
from sweep.config.tracking import Tracking

__all__ = [
    "CORE8",
    "Anneal",
    "Checkpoint",
    "Compute",
    "Data",
    "Merge",
    "Model",
    "RunConfig",
    "Source",
    "Task",
    "Tasks",
    "Tracking",
    "load",
    "merged_steps",
    "model_params",
    "named_step",
    "params",
    "trajectory_steps",
    "tree",
]
