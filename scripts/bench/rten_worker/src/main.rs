//! Answers the questions of scripts/bench/runtimes.py, with rten and the ONNX graphs in a
//! directory. Questions come on standard input, one JSON object per line:
//!
//! ```text
//! RTEN_NUM_THREADS=N rten_worker MODEL N
//! ```

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use rten::{Model, ModelOptions, NodeId, Value, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, NdTensorView};
use serde::Deserialize;
use serde_json::json;

const EOS: i32 = 1;

#[derive(Deserialize)]
struct Asked {
    ids: Vec<i32>,
    max_tokens: usize,
    is_constrained: bool,
}

struct Needle {
    encoder: Model,
    decoder: Model,
    /// Pairs of an encoder output and a decoder input for the prompt's keys and values.
    cross: Vec<(NodeId, NodeId)>,
    /// Pairs of a decoder input and output for its own keys and values, with heads and width.
    past: Vec<(NodeId, NodeId, [usize; 2])>,
}

impl Needle {
    fn load(dir: &Path) -> Self {
        let load = |name: &str| ModelOptions::with_all_ops().prepack_weights(true).load_file(dir.join(name)).unwrap();
        let (encoder, decoder) = (load("encoder.onnx"), load("decoder.onnx"));
        let name = |model: &Model, id: NodeId| model.node_info(id).unwrap().name().unwrap().to_owned();
        let (mut cross, mut past) = (Vec::new(), Vec::new());
        for &id in decoder.input_ids() {
            let name = name(&decoder, id);
            if name.starts_with("cross.") {
                cross.push((encoder.node_id(&name).unwrap(), id));
            } else if name.starts_with("past.") {
                let shape = decoder.node_info(id).unwrap().shape().unwrap();
                let fixed = |at: usize| match &shape[at] {
                    rten::Dimension::Fixed(size) => *size,
                    rten::Dimension::Symbolic(name) => panic!("{name} is not fixed"),
                };
                let present = decoder.node_id(&name.replace("past", "present")).unwrap();
                past.push((id, present, [fixed(2), fixed(3)]));
            }
        }
        Self { encoder, decoder, cross, past }
    }

    /// Seconds to the first token, and to the last.
    fn answer(&self, prompt: &[i32], max_tokens: usize) -> (f64, f64) {
        let start = Instant::now();
        let input = |model: &Model, name: &str| model.node_id(name).unwrap();
        let ids = NdTensorView::from_data([1, prompt.len()], prompt);
        let outputs: Vec<NodeId> = self.cross.iter().map(|(output, _)| *output).collect();
        let read = self.encoder.run(vec![(input(&self.encoder, "input_ids"), ids.view().into())], &outputs, None).unwrap();
        let empty = |[heads, width]: [usize; 2]| Value::from(NdTensor::<f32, 4>::zeros([1, 0, heads, width]));
        let mut own: Vec<Value> = self.past.iter().map(|(_, _, size)| empty(*size)).collect();
        let logits_id = input(&self.decoder, "logits");
        let wanted: Vec<NodeId> = [logits_id].into_iter().chain(self.past.iter().map(|(_, output, _)| *output)).collect();
        let (mut token, mut first) = (EOS, 0.0);
        for step in 0..max_tokens {
            let last = [token];
            let last = NdTensorView::from_data([1, 1], &last[..]);
            let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = vec![
                (input(&self.decoder, "input_ids"), last.into()),
                (input(&self.decoder, "encoder_input_ids"), ids.view().into()),
            ];
            inputs.extend(self.cross.iter().zip(&read).map(|((_, id), value)| (*id, value.into())));
            inputs.extend(self.past.iter().zip(own).map(|((id, ..), value)| (*id, value.into())));
            let mut outputs = self.decoder.run(inputs, &wanted, None).unwrap().into_iter();
            let logits: NdTensor<f32, 3> = outputs.next().unwrap().try_into().unwrap();
            own = outputs.collect();
            if step == 0 {
                first = start.elapsed().as_secs_f64();
            }
            let logits = logits.iter().copied().enumerate().filter(|(id, _)| *id != EOS as usize);
            token = logits.fold((0, f32::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best }).0 as i32;
        }
        (first, start.elapsed().as_secs_f64())
    }
}

fn main() {
    let start = Instant::now();
    let dir = std::env::args().nth(1).unwrap();
    let needle = Needle::load(Path::new(&dir));
    let load_s = start.elapsed().as_secs_f64();
    for line in std::io::stdin().lock().lines() {
        let asked: Asked = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = (!asked.is_constrained).then(|| {
            let (first_s, seconds) = needle.answer(&asked.ids, asked.max_tokens);
            json!({"first_s": first_s, "seconds": seconds, "tokens": asked.max_tokens})
        });
        let now = start.elapsed().as_secs_f64();
        println!("{}", json!({"load_s": load_s, "load_and_answer_s": now, "answer": answer}));
    }
}
