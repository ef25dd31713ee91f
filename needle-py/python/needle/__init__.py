"""Tool calls from tiny models: turns a query and tools into JSON calls, on a CPU.

>>> import needle
>>> model = needle.Needle.load("model")
>>> model.call("a timer for ten minutes", tools).calls
[{'name': 'set_timer', 'arguments': {'minutes': 10}}]
"""

from ._needle import Answer, Needle, NeedleError, Stream

__all__ = ["Answer", "Needle", "NeedleError", "Stream"]
