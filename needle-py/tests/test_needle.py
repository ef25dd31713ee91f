"""Tests of the Python module with a model of random weights. scripts/check_python.sh writes the model and passes its directory."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import needle

TIMER = {
    "name": "setTimer",
    "description": "Start a timer",
    "parameters": {"minutes": {"type": "integer", "enum": [5, 10], "required": True}},
}
LAMP = {
    "type": "function",
    "function": {
        "name": "lamp.switch",
        "description": "Switch a lamp",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
        },
    },
}
TOOLS = [TIMER, LAMP]
QUERY = "a timer for ten minutes"


@pytest.fixture(scope="module")
def model(model_dir):
    return needle.Needle.load(model_dir, threads=1)


def test_an_answer_calls_offered_tools_under_their_own_names(model):
    answer = model.call(QUERY, TOOLS)
    assert answer.is_complete and not answer.abstained and answer.violations == []
    for call in answer.calls:
        assert call["name"] in ("setTimer", "lamp.switch")
        assert list(call["arguments"]) == (["minutes"] if call["name"] == "setTimer" else ["on"])
    assert answer.confidence is None and answer.seconds > 0
    assert repr(answer).startswith("Answer(calls=[")


def test_tools_may_be_lists_json_or_mcp(model):
    calls = model.call(QUERY, TOOLS).calls
    assert model.call(QUERY, json.dumps(TOOLS)).calls == calls
    assert model.call(QUERY, {"tools": TOOLS}).calls == calls
    assert model.call(QUERY, tuple(TOOLS)).calls == calls


def test_a_stream_gives_the_answer_piece_by_piece(model):
    stream = model.stream(QUERY, TOOLS)
    assert iter(stream) is stream and stream.answer is None
    pieces = list(stream)
    assert len(pieces) > 1
    assert json.loads("".join(pieces)) == stream.answer.calls == model.call(QUERY, TOOLS).calls
    assert list(stream) == []


def test_an_abandoned_stream_does_not_block_later_calls(model):
    next(model.stream(QUERY, TOOLS))
    assert model.call(QUERY, TOOLS).is_complete


def test_a_batch_gives_what_each_question_alone_gives(model):
    questions = [(QUERY, TOOLS), ("lights on", [LAMP]), ("set a timer", [TIMER])]
    assert [a.calls for a in model.batch(questions)] == [
        model.call(*question).calls for question in questions
    ]
    assert model.batch([]) == []


def test_tools_are_ranked_best_first(model):
    ranked = model.rank("switch a lamp", TOOLS)
    assert sorted(index for index, _ in ranked) == [0, 1]
    assert 1.001 > ranked[0][1] >= ranked[1][1] > -1.001
    assert model.rank("switch a lamp", TOOLS, top_k=1) == ranked[:1]


def test_threads_share_a_model_and_get_the_same_answers(model):
    expected = model.call(QUERY, TOOLS).calls
    with ThreadPoolExecutor(4) as pool:
        assert all(
            answer.calls == expected
            for answer in pool.map(lambda _: model.call(QUERY, TOOLS), range(8))
        )


def test_other_python_threads_run_while_a_stream_is_read(model):
    turns = 0
    stop = threading.Event()

    def count():
        nonlocal turns
        while not stop.is_set():
            turns += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = turns
    # No piece of Python runs while the model computes, so only a released GIL lets the thread count.
    pieces = list(model.stream(QUERY, TOOLS))
    after = turns
    stop.set()
    thread.join()
    assert pieces and after > before


def test_an_answer_has_at_most_max_calls(model_dir):
    assert len(needle.Needle.load(model_dir, max_calls=1).call(QUERY, TOOLS).calls) <= 1


@pytest.mark.parametrize("threads", [0, 100_000])
def test_invalid_numbers_of_threads_are_refused(model_dir, threads):
    with pytest.raises(ValueError, match="threads"):
        needle.Needle.load(model_dir, threads=threads)


def test_a_path_without_a_model_is_an_error_that_names_it(tmp_path):
    with pytest.raises(needle.NeedleError, match="missing"):
        needle.Needle.load(tmp_path / "missing")
    (tmp_path / "needle.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(needle.NeedleError, match="needle.safetensors"):
        needle.Needle.load(tmp_path)


@pytest.mark.parametrize(
    "tools", ["[{]", [], [{"description": "no name"}], "null", 5, [TIMER, TIMER]]
)
def test_tools_that_cannot_be_offered_are_refused(model, tools):
    with pytest.raises(needle.NeedleError):
        model.call(QUERY, tools)
    with pytest.raises(needle.NeedleError):
        list(model.stream(QUERY, tools))


def test_arguments_of_a_wrong_type_are_type_errors_and_an_empty_query_is_refused(model):
    with pytest.raises(TypeError):
        model.call(5, TOOLS)
    with pytest.raises(TypeError):
        model.call(QUERY, [{1, 2}])
    with pytest.raises(needle.NeedleError, match="empty"):
        model.call("  ", TOOLS)


def test_abstaining_needs_a_calibrated_confidence(model_dir):
    with pytest.raises(needle.NeedleError, match="confidence"):
        needle.Needle.load(model_dir, abstain_below=0.5)


def test_every_public_name_is_in_the_stubs():
    import ast
    import inspect
    from pathlib import Path

    stubs = ast.parse((Path(needle.__file__).parent / "__init__.pyi").read_text())
    classes = {node.name: node for node in stubs.body if isinstance(node, ast.ClassDef)}
    assert set(needle.__all__) == set(classes)
    for name in ("Answer", "Needle", "Stream"):
        declared = {f.name for f in classes[name].body if isinstance(f, ast.FunctionDef)}
        defined = {m for m, _ in inspect.getmembers(getattr(needle, name)) if not m.startswith("_")}
        assert {m for m in declared if not m.startswith("_")} == defined
