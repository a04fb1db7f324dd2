"""chainrule's engine: a scalar autograd engine in the style of micrograd, and nothing else. No HTTP, no database."""

from chainrule_engine.checking import check_gradients
from chainrule_engine.derivatives import Evaluation, evaluate
from chainrule_engine.errors import EngineError, InvalidInput, LimitExceeded
from chainrule_engine.graph import Graph
from chainrule_engine.nodes import Node
from chainrule_engine.operations import CONVENTIONS_VERSION, OPERATIONS, Operation
from chainrule_engine.training import Training, TrainingState, train
from chainrule_engine.value import Value

__version__ = "0.1.0"

#: What an answer says of the engine that gave it: two answers are comparable when this is equal.
ENGINE = {"version": __version__, "conventions": CONVENTIONS_VERSION}

__all__ = [
    "CONVENTIONS_VERSION",
    "ENGINE",
    "OPERATIONS",
    "EngineError",
    "Evaluation",
    "Graph",
    "InvalidInput",
    "LimitExceeded",
    "Node",
    "Operation",
    "Training",
    "TrainingState",
    "Value",
    "check_gradients",
    "evaluate",
    "train",
]
