"""The kernels in machine code, by Numba: the same order of roundings as in plain Python, and so the same bits."""
