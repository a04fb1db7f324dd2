"""What is refused of an exercise."""

from __future__ import annotations

from chainrule_engine.errors import InvalidInput


class ExerciseError(InvalidInput):
    """What is asked of an exercise, of its check or of its generation breaks a rule or cannot be had."""
