"""chainrule: autograd as a service, from Python.

    from chainrule import Client, variables

    x1, w1, b = variables(x1=2.0, w1=-3.0, b=6.88)
    n = (x1*w1 + b).named("n")
    o = n.tanh().named("o")
    with Client() as client:
        answer = client.evaluate(o)
    answer.value, answer.gradients["w1"]

`Client` is for a service somewhere, `Client.local()` for one inside this process. Networks are in
`chainrule.nn`, pictures of trainings in `chainrule.plots`.
"""

from ._client import Client
from ._drawing import Drawing
from ._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ChainruleError,
    ConflictError,
    ContentTooLargeError,
    FieldError,
    JobFailedError,
    LengthRequiredError,
    MissingExtraError,
    NotFoundError,
    PermissionDeniedError,
    Problem,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    UnprocessableContentError,
    UnsupportedMediaTypeError,
)
from ._expression import Expression, op, to_graph, variable, variables
from ._jobs import Job
from ._reports import CheckResult, ExerciseCheck, GradingRecord, MissedMistake, Mistake, Rendering, Report
from ._results import (
    Evaluation,
    GradientCheck,
    InputCheck,
    JobMetrics,
    Limit,
    NodeWarning,
    OperationInfo,
    Step,
    TrainingResult,
)
from ._version import __version__

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ChainruleError",
    "CheckResult",
    "Client",
    "ConflictError",
    "ContentTooLargeError",
    "Drawing",
    "Evaluation",
    "ExerciseCheck",
    "Expression",
    "FieldError",
    "GradientCheck",
    "GradingRecord",
    "InputCheck",
    "Job",
    "JobFailedError",
    "JobMetrics",
    "LengthRequiredError",
    "Limit",
    "MissedMistake",
    "MissingExtraError",
    "Mistake",
    "NodeWarning",
    "NotFoundError",
    "OperationInfo",
    "PermissionDeniedError",
    "Problem",
    "RateLimitError",
    "Rendering",
    "Report",
    "ServerError",
    "ServiceUnavailableError",
    "Step",
    "TrainingResult",
    "UnprocessableContentError",
    "UnsupportedMediaTypeError",
    "__version__",
    "op",
    "to_graph",
    "variable",
    "variables",
]
