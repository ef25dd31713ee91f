from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, final

Tools = str | Sequence[dict[str, Any]] | dict[str, Any]
"""A list of tools in Needle's, the JSON Schema, the OpenAI or the MCP form; or the JSON of one."""

class NeedleError(Exception):
    """A model cannot be loaded, or a question cannot be answered."""

@final
class Answer:
    """What the model answered."""

    @property
    def calls(self) -> list[dict[str, Any]]:
        """`[{"name": .., "arguments": {..}}]`; empty if no tool fits or the model abstained."""
    @property
    def text(self) -> str:
        """The text that the model wrote."""
    @property
    def confidence(self) -> float | None:
        """Probability that the whole answer is exact; None if the model has no calibrated confidence."""
    @property
    def is_complete(self) -> bool:
        """Whether the answer is a complete list of calls. If it is not, `calls` is empty."""
    @property
    def abstained(self) -> bool:
        """Whether the answer was withheld because its confidence is below `abstain_below`."""
    @property
    def violations(self) -> list[str]:
        """Violations of the tools' schemas, one sentence each."""
    @property
    def seconds(self) -> float:
        """Seconds from question to answer; in a batch, the mean per answer."""

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
    """A loaded model. Several threads may share it; it releases the GIL while it computes."""

    @staticmethod
    def load(
        path: str | PathLike[str],
        *,
        threads: int | None = None,
        constrained: bool = True,
        max_calls: int | None = None,
        abstain_below: float | None = None,
    ) -> Needle:
        """Loads an artifact or a training checkpoint.

        `threads` defaults to all of the CPU's threads; answers do not depend on it. If `constrained`, an answer contains
        only calls that the tools allow, and at most `max_calls` of them. Answers with a confidence below `abstain_below`
        have no calls.
        """
    def call(self, query: str, tools: Tools, /) -> Answer:
        """Answers a query with calls of the tools."""
    def stream(self, query: str, tools: Tools, /) -> Stream:
        """An iterator over the pieces of the answer's JSON as they are written. After the last one, `answer` is set."""
    def batch(self, questions: Sequence[tuple[str, Tools]], /) -> list[Answer]:
        """Answers many questions together. Each question is a pair of query and tools."""
    def rank(self, query: str, tools: Tools, /, top_k: int | None = None) -> list[tuple[int, float]]:
        """Ranks the tools by similarity to the query: pairs of index and cosine, best first."""
