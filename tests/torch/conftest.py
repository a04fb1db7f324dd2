"""PyTorch, for the tests that compare with it: imported when the first of them runs, and not before."""

from __future__ import annotations

import warnings

import pytest


@pytest.fixture(scope="session")
def torch():
    """The module. A test that is chosen (`-m torch`) where it is not installed fails, and is not skipped."""
    with warnings.catch_warnings():
        # What PyTorch warns of while it is imported is no affair of ours.
        warnings.simplefilter("ignore")
        import torch
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    return torch
