"""Handwritten digits: the 1,797 pictures of 8 by 8 pixels that scikit-learn brings along."""

from sklearn.datasets import load_digits


def load() -> tuple[list[list[float]], list[float]]:
    """Return a row of 64 numbers from 0 to 1 per picture, and the digit that each shows."""
    data = load_digits()
    return (data.data / 16.0).tolist(), data.target.astype(float).tolist()
