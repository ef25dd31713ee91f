"""Answers a query with an exported ONNX model, greedily: python onnx_generate.py DIR QUERY TOOLS.json

Needs onnxruntime, numpy and sentencepiece. Tools are in native form, {"name", "description", "parameters"}, with names in
snake_case. The prompt is `query <tools> tools`, and the decoder starts with the end token.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import sentencepiece as spm

PAD, EOS, TOOL_CALL, TOOLS = 0, 1, 4, 5


class Needle:
    def __init__(self, directory, threads=0):
        directory = Path(directory)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        load = lambda name: ort.InferenceSession(str(directory / name), options, providers=["CPUExecutionProvider"])
        self.encoder, self.decoder = load("encoder.onnx"), load("decoder.onnx")
        self.retrieval = load("retrieval.onnx") if (directory / "retrieval.onnx").exists() else None
        self.tokenizer = spm.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
        self.cross = [o.name for o in self.encoder.get_outputs() if o.name.startswith("cross.")]
        past = [i for i in self.decoder.get_inputs() if i.name.startswith("past.")]
        self.past = {i.name: np.zeros((1, 0, i.shape[2], i.shape[3]), np.float32) for i in past}

    def generate(self, prompt, max_tokens=128, on_logits=lambda logits: None):
        """Returns the ids of the answer to a prompt, `<tool_call>` first, without the end token, and the logits of each
        step. `on_logits` may change the logits before a token is chosen."""
        ids = np.array([prompt], np.int64)
        outputs = self.encoder.run(self.cross, {"input_ids": ids})
        fixed = {"encoder_input_ids": ids, **dict(zip(self.cross, outputs))}
        past, token, answer, steps = self.past, EOS, [], []
        names = ["logits"] + [name.replace("past", "present") for name in past]
        while len(answer) < max_tokens:
            logits, *present = self.decoder.run(names, {"input_ids": np.array([[token]], np.int64), **fixed, **past})
            past = dict(zip(past, present))
            steps.append(logits[0, -1])
            on_logits(logits[0, -1])
            token = int(logits[0, -1].argmax())
            if token == EOS:
                break
            answer.append(token)
        return answer, steps

    def prompt(self, query, tools):
        tools = json.dumps(tools, separators=(",", ":"), ensure_ascii=False)
        return self.tokenizer.encode(query) + [TOOLS] + self.tokenizer.encode(tools)

    def embed(self, ids):
        """The unit vector of a text, given as ids."""
        ids = np.array([ids], np.int64)
        (hidden,) = self.encoder.run(["encoder_hidden_states"], {"input_ids": ids})
        return self.retrieval.run(None, {"encoder_hidden_states": hidden, "encoder_input_ids": ids})[0][0]


if __name__ == "__main__":
    model = Needle(sys.argv[1])
    answer, _ = model.generate(model.prompt(sys.argv[2], json.loads(Path(sys.argv[3]).read_text())))
    print(model.tokenizer.decode([token for token in answer if token != TOOL_CALL]))
