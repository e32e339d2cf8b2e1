from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from scalenet_gp.kernels import numba_cache as module
from scalenet_gp.kernels.numba_cache import numba_jit


def total(values: np.ndarray) -> float:
    result = 0.0
    for value in values:
        result += value
    return result


def test_what_is_compiled_gives_what_python_gives() -> None:
    values = np.random.default_rng(0).random(100)
    assert numba_jit(total)(values) == total(values)


def test_where_machine_code_cannot_be_kept_it_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(module, "njit", njit)
    values = np.random.default_rng(1).random(100)
    assert numba_jit(total)(values) == total(values)
