"""`chainrule lint`: what a task cannot tell from a right answer, said to its author."""

from __future__ import annotations

import argparse


def lint(options: argparse.Namespace) -> int:
    """Run `chainrule lint`."""
    raise NotImplementedError
