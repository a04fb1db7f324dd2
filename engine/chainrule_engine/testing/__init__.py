"""For tests of students' work: pytest, Otter, nbgrader, PrairieLearn's `server.py`.

    from chainrule_engine.testing import assert_grad, points

    assert_grad(globals(), "a", spec="task.json")     a pytest or Otter test: raises what a student may be told
    points(globals(), "task.json", max=5)             the last line of an nbgrader cell

Everywhere `spec` is a task: its path, its JSON text, a dict, or a `Task`; and `student` is what a student has made: an
object of answers, or values with `.data` and `.grad` by the names of the graph. No message, no traceback and no local
variable on the way holds an expected number.
"""

from chainrule_engine.testing.notebooks import (
    assert_answers,
    assert_check,
    assert_grad,
    checks,
    otter_test_file,
    points,
)
from chainrule_engine.testing.prairielearn import grade_prairielearn, prairielearn_check
from chainrule_engine.testing.submissions import Spec, answers_of, read_spec

__all__ = [
    "Spec",
    "answers_of",
    "assert_answers",
    "assert_check",
    "assert_grad",
    "checks",
    "grade_prairielearn",
    "otter_test_file",
    "points",
    "prairielearn_check",
    "read_spec",
]
