"""Exercises: generate one from a seed, and ask what a given one can tell."""

from chainrule_engine.exercises.generation import generate

__all__ = ["generate"]
