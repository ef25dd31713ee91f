from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, final

Tools = str | Sequence[dict[str, Any]] | dict[str, Any]
"""A list of tools in Needle's, the JSON Schema, the OpenAI or the MCP form; or the JSON of one."""

class NeedleError(Exception):
    """Why a model cannot be loaded, or a question not answered."""

@final
class Answer:
    """What the model answered."""

    @property
    def calls(self) -> list[dict[str, Any]]:
        """`[{"name": .., "arguments": {..}}]`; none where no tool fits, or the model abstained."""
    @property
    def text(self) -> str:
        """What the model wrote."""
    @property
    def confidence(self) -> float | None:
        """Probability that the whole answer is exact; None without a calibration."""
    @property
    def is_complete(self) -> bool:
        """Whether the answer is a whole list of calls. Where it is not, `calls` is empty."""
    @property
    def abstained(self) -> bool:
        """Whether the answer was withheld for being less sure than `abstain_below`."""
    @property
    def violations(self) -> list[str]:
        """Where the calls break the tools' schemas, in words."""
    @property
    def seconds(self) -> float:
        """Seconds from question to answer; of a batch, its share."""

@final
class Stream(Iterator[str]):
    """The pieces of an answer's JSON as they are written."""

    def __iter__(self) -> Stream: ...
    def __next__(self) -> str: ...
    @property
    def answer(self) -> Answer | None:
        """The answer, once the stream has ended; None before."""

@final
class Needle:
    """A loaded model. Threads may share it; Python's lock is released while it computes."""

    @staticmethod
    def load(
        path: str | PathLike[str],
        *,
        threads: int | None = None,
        constrained: bool = True,
        max_calls: int | None = None,
        abstain_below: float | None = None,
    ) -> Needle:
        """Opens an artifact or a training checkpoint.

        Answers do not depend on `threads` (all of the CPU's, if not given). `constrained` answers are calls that the tools
        allow, at most `max_calls` of them. Answers less sure than `abstain_below` become no calls.
        """
    def call(self, query: str, tools: Tools, /) -> Answer:
        """Answers a query with calls of the tools."""
    def stream(self, query: str, tools: Tools, /) -> Stream:
        """The answer's JSON as it is written: an iterator of strings, whose `answer` is the answer when it has ended."""
    def batch(self, questions: Sequence[tuple[str, Tools]], /) -> list[Answer]:
        """Answers many questions together, each a pair of query and tools."""
    def rank(self, query: str, tools: Tools, /, top_k: int | None = None) -> list[tuple[int, float]]:
        """Indices of the tools by likeness to the query, best first, with their cosine."""
