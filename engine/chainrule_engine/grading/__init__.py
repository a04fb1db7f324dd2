"""Grading: tasks, and the reports that students' answers give. A pure function: no clock, no chance, no network.

>>> task = read_task({"evaluation": {"graph": {"inputs": {"a": 2.0, "b": -3.0}, "program": "a*b + a"}}})
>>> report = grade(task, {"value": -4.0, "gradients": {"a": -2.0, "b": -2.0}})
>>> [check["message"] for check in report.to_dict()["checks"]]
['Correct.', 'Correct.', 'Not correct: the sign is flipped.']

    canonical      the JSON text that digests are taken of
    fields         reads objects that came from outside
    distances, comparison   how far a number is off, the table of modes
    kinks, truth   the right numbers, and what else is right
    tasks          what is asked
    training_form, sources, defaults, reading   a task from its form on the wire
    answers        a student's numbers from theirs
    judging        one check
    relations, messages   what students are told of it
    scoring        points
    mistakes       which known mistakes give the wrong numbers
    report         for the staff, for students
    grader         all of that
    lint, regrade  before and after
"""

from chainrule_engine.grading.canonical import canonical, digest
from chainrule_engine.grading.comparison import MODES, PRESETS, Compare, Mode
from chainrule_engine.grading.fields import TaskError, pointer
from chainrule_engine.grading.grader import grade
from chainrule_engine.grading.lint import lint, right_answers
from chainrule_engine.grading.reading import read_task
from chainrule_engine.grading.regrade import compare_reports
from chainrule_engine.grading.report import AUDIENCES, SCHEMA, Report
from chainrule_engine.grading.tasks import LEVELS, PHASES, VISIBILITIES, Check, Feedback, Group, Task

__all__ = [
    "AUDIENCES",
    "LEVELS",
    "MODES",
    "PHASES",
    "PRESETS",
    "SCHEMA",
    "VISIBILITIES",
    "Check",
    "Compare",
    "Feedback",
    "Group",
    "Mode",
    "Report",
    "Task",
    "TaskError",
    "canonical",
    "compare_reports",
    "digest",
    "grade",
    "lint",
    "pointer",
    "read_task",
    "right_answers",
]
