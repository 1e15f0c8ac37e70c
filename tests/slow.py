"""Which of many cases that prove much the same are left to the slow run."""

import pytest


def slow(*cases):
    """Parameters of a test, marked as slow; a tuple is one set of them."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]
