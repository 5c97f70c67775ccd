"""functrans.scipy: functions of SciPy that hold on arrays and on tracers."""

from functrans.scipy import special

__all__ = ["special"]
