"""Grading: tasks, and the reports that students' answers give. A pure function: no clock, no chance, no network."""

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
