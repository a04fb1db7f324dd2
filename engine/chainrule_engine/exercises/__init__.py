"""Exercises: ask what one can tell before students see it, and generate one from a seed."""

from chainrule_engine.exercises.errors import ExerciseError
from chainrule_engine.exercises.extension import Extension
from chainrule_engine.exercises.generation import generate
from chainrule_engine.exercises.publishing import ExerciseCheck, examine
from chainrule_engine.exercises.strength import Missed, Strength
from chainrule_engine.exercises.suggestion import Suggestion

__all__ = ["ExerciseCheck", "ExerciseError", "Extension", "Missed", "Strength", "Suggestion", "examine", "generate"]
