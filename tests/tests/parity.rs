//! Compares our numbers with the original's. The tolerances are the differences between float32 and
//! float64 that were measured when the fixtures were made, with a margin; see
//! `tests/fixtures/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod original;

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn_flex::Flex;
use needle_model::dropout::Dropout;
use needle_model::generate::{NoHook, Stop, generate};
use needle_model::golden::{Inputs, compute};
use needle_model::params::{self, EMBEDDING, ParamInfo, ParamVisitor};
use needle_model::quant::fake_quant::fake_quantize;
use needle_model::quant::int4::{Bits, quantize};
use needle_model::{FusedOps, San};
use needle_tests::{
    Golden, golden_config, golden_model, golden_model_for_training, json, max_difference, max_or_nan, original_values,
};
use needle_train::optim::{Gradients, LearningRates, Optimizer, clip_global_norm, collect, newton_schulz};
use needle_train::recipe::{OptimConfig, ScheduleConfig};
use needle_train::training::loss::{DeviceBatch, clip_loss, text_loss};

type Training = Autodiff<Flex>;

const FORWARD: f64 = 2e-5;
const NORM: f64 = 2e-6;
const ROPE: f64 = 3e-6;
const EMBEDDINGS: f64 = 1e-6;
const LOSS: f64 = 1e-5;
const Z_LOSS: f64 = 1e-6;
/// Relative to each tensor's largest value.
const GRADIENT: f64 = 2e-5;
const SCALE_RELATIVE: f64 = 1.2e-7;
const NEWTON_SCHULZ: f64 = 5e-6;
const NEWTON_SCHULZ_RANK_3: f64 = 5e-5;
const MUON_PARAMS: f64 = 3e-6;
const ADAM_PARAMS: f64 = 5e-7;
const TOP_LOGITS: f64 = 5e-5;

fn values<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn golden_values(golden: &Golden, name: &str) -> Vec<f32> {
    golden.values(name).0.into_iter().map(|x| x as f32).collect()
}

/// The largest difference over rows of `width` values whose position has a nonzero `mask`.
fn difference_at(a: &[f32], b: &[f32], mask: &[f64], width: usize) -> f64 {
    assert_eq!(a.len(), mask.len() * width);
    let rows = a.chunks_exact(width).zip(b.chunks_exact(width)).zip(mask);
    max_or_nan(rows.filter(|(_, m)| **m != 0.0).map(|((a, b), _)| max_difference(a, b)))
}

#[test]
fn the_norm_agrees_for_ordinary_tiny_and_zero_rows() {
    let golden = Golden::open("units");
    let norm = Flex::zc_rms_norm(
        golden.tensor::<Flex, 2>("norm/x").into_primitive().tensor(),
        golden.tensor::<Flex, 1>("norm/scale").into_primitive().tensor(),
        1e-6,
    );
    let norm = Tensor::<Flex, 2>::from_primitive(burn::tensor::TensorPrimitive::Float(norm));
    assert!(max_difference(&values(norm), &golden_values(&golden, "norm/y")) < NORM);
}

#[test]
fn the_rotary_embedding_rotates_the_halves_of_a_head() {
    let golden = Golden::open("units");
    let x = golden.tensor::<Flex, 4>("rope/x").swap_dims(1, 2); // [batch, seq, heads, head_dim]
    let rope = needle_model::rope::Rope::<Flex>::new(&golden_config(), &Default::default());
    let turned = rope.forward(x.clone(), 0).swap_dims(1, 2);
    assert!(max_difference(&values(turned), &golden_values(&golden, "rope/y")) < ROPE);
    // Starting at a later position gives the later rows of a longer text.
    let later = rope.forward(x.clone().narrow(1, 4, 5), 4);
    assert!(max_difference(&values(later), &values(rope.forward(x, 0).narrow(1, 4, 5))) < ROPE);
}

#[test]
fn padded_rows_give_the_original_outputs() {
    let golden = Golden::open("forward");
    let inputs = Inputs { src: golden.ids("padded/src"), tgt: golden.ids("padded/tgt_in"), segments: None };
    let outputs = compute(&golden_model::<Flex>(), inputs);
    let real = golden.values("padded/src").0;
    let encoder_out = golden_values(&golden, "padded/encoder_out");
    assert!(difference_at(&values(outputs.encoder_out), &encoder_out, &real, 64) < FORWARD);
    assert!(max_difference(&values(outputs.logits), &golden_values(&golden, "padded/logits")) < FORWARD);
}

#[test]
fn packed_rows_give_the_original_outputs() {
    let golden = Golden::open("forward");
    let inputs = Inputs {
        src: golden.ids("packed/src"),
        tgt: golden.ids("packed/tgt_in"),
        segments: Some((golden.ids("packed/enc_seg_ids"), golden.ids("packed/dec_seg_ids"))),
    };
    let outputs = compute(&golden_model::<Flex>(), inputs);
    let (enc, dec) = (golden.values("packed/enc_seg_ids").0, golden.values("packed/dec_seg_ids").0);
    let encoder_out = golden_values(&golden, "packed/encoder_out");
    assert!(difference_at(&values(outputs.encoder_out), &encoder_out, &enc, 64) < FORWARD);
    let logits = golden_values(&golden, "packed/logits");
    assert!(difference_at(&values(outputs.logits), &logits, &dec, 1024) < FORWARD);
}

#[test]
fn retrieval_embeddings_agree_with_the_original() {
    let golden = Golden::open("forward");
    let model = golden_model::<Flex>();
    for (tokens, expected) in [("query_tokens", "q_emb"), ("tool_tokens", "t_emb")] {
        let ids = golden.ids(&format!("contrastive/{tokens}"));
        let embedded = model.retrieval_embedding(ids, &mut Dropout::none()).unwrap();
        let expected = golden_values(&golden, &format!("contrastive/{expected}"));
        assert!(max_difference(&values(embedded), &expected) < EMBEDDINGS);
    }
}

/// The packed golden batch, with the original's class weights and a z-loss over all positions.
fn packed_batch<B: burn::tensor::backend::Backend>() -> DeviceBatch<B> {
    let golden = Golden::open("forward");
    let class_weights = json("parity/loss_grads.json")["class_weights"].clone();
    let (classes, shape) = golden.values("packed/loss_class");
    let (targets, _) = golden.values("packed/tgt_out");
    let weights: Vec<f32> = classes
        .iter()
        .zip(&targets)
        .map(
            |(&class, &target)| {
                if target == 0.0 { 0.0 } else { class_weights[class as usize].as_f64().unwrap() as f32 }
            },
        )
        .collect();
    let device = Default::default();
    DeviceBatch {
        enc_ids: golden.ids("packed/src"),
        enc_segments: golden.ids("packed/enc_seg_ids"),
        dec_input: golden.ids("packed/tgt_in"),
        dec_target: golden.ids("packed/tgt_out"),
        dec_segments: golden.ids("packed/dec_seg_ids"),
        target_weights: Tensor::from_data(burn::tensor::TensorData::new(weights, shape.clone()), &device),
        z_mask: Tensor::ones([shape[0], shape[1]], &device),
        num_targets: targets.iter().filter(|&&t| t != 0.0).count(),
        num_z: targets.len(),
        alignment: None,
    }
}

fn losses_and_gradients_agree(mode: &str, quantizes: impl Fn(&ParamInfo) -> bool) {
    let expected = &json("parity/loss_grads.json")[mode];
    let model = golden_model_for_training::<Training>();
    let seen = fake_quantize(model.clone(), Bits::Int4, quantizes);
    let none = &mut Dropout::none();
    let ours = text_loss(&seen, packed_batch(), 1e-4, none);
    let text = original::text_loss(&seen, packed_batch(), 1e-4);
    let pairs = Golden::open("forward");
    let embed = |name: &str| seen.retrieval_embedding(pairs.ids(name), &mut Dropout::none()).unwrap();
    let log_temp = seen.retrieval_head.as_ref().unwrap().log_temp.val();
    let contrastive = clip_loss(embed("contrastive/query_tokens"), embed("contrastive/tool_tokens"), log_temp);
    let combined = text.cross_entropy.clone() + text.z.clone() + contrastive.clone() * 0.1;

    let close = |loss: Tensor<Training, 1>, key: &str, tolerance: f64| {
        let (ours, theirs) = (f64::from(values(loss.inner())[0]), expected[key].as_f64().unwrap());
        assert!((ours - theirs).abs() < tolerance, "{mode} {key}: {ours} and {theirs}");
    };
    close(ours.cross_entropy, "ce", LOSS);
    close(text.cross_entropy, "ce", LOSS);
    close(text.z, "z", Z_LOSS);
    close(contrastive, "contrastive", LOSS);
    close(combined.clone(), "combined", LOSS);

    let gradients = collect(&model, &combined.backward());
    let golden = Golden::open("loss_grads");
    let rows: Vec<usize> = golden.values("embedding_rows").0.into_iter().map(|r| r as usize).collect();
    for info in params::list(&model) {
        let ours = values(gradients.get(&info.name).unwrap_or_else(|| panic!("{} has no gradient", info.name)).clone());
        let (ours, theirs) = if info.name == EMBEDDING {
            let picked = rows.iter().flat_map(|&r| ours[r * 64..(r + 1) * 64].to_vec()).collect();
            (picked, golden_values(&golden, &format!("{mode}/embedding/embedding@rows")))
        } else {
            (ours, original_values(&golden, &format!("{mode}/"), &info))
        };
        let largest = theirs.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
        let difference = max_difference(&ours, &theirs);
        assert!(difference <= GRADIENT * largest + 1e-8, "{mode} {}: {difference:e} of {largest:e}", info.name);
    }
}

#[test]
fn losses_and_all_gradients_agree() {
    losses_and_gradients_agree("fp", |_| false);
}

#[test]
fn losses_and_all_gradients_agree_under_fake_quantization() {
    // The original quantizes every kernel, including those of the retrieval head.
    losses_and_gradients_agree("int4", |info| info.name != EMBEDDING && info.shape.len() == 2);
}

#[test]
fn quantized_codes_are_equal_and_scales_agree() {
    let golden = Golden::open("quant");
    let cases: Vec<String> =
        golden.names().iter().filter_map(|n| n.strip_suffix("/int8_codes").map(str::to_owned)).collect();
    assert!(cases.len() >= 10);
    for case in cases {
        for (bits, name) in [(Bits::Int4, "int4"), (Bits::Int8, "int8")] {
            let quantized = quantize(golden.tensor::<Flex, 2>(&format!("{case}/w")), bits);
            let scales = golden_values(&golden, &format!("{case}/{name}_scale"));
            for (ours, theirs) in values(quantized.scales).iter().zip(&scales) {
                assert!(f64::from((ours - theirs).abs() / theirs) <= SCALE_RELATIVE, "{case} {name}");
            }
            assert_eq!(
                values(quantized.codes),
                golden_values(&golden, &format!("{case}/{name}_codes")),
                "{case} {name}"
            );
        }
    }
}

#[test]
fn newton_schulz_gives_the_original_matrices() {
    let golden = Golden::open("optim");
    let cases: Vec<String> =
        golden.names().iter().filter_map(|n| n.strip_prefix("ns/")?.strip_suffix("/in").map(str::to_owned)).collect();
    assert!(cases.len() >= 10);
    for case in cases {
        let (_, shape) = golden.values(&format!("ns/{case}/in"));
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let flat = golden_values(&golden, &format!("ns/{case}/in"));
        let input = burn::tensor::TensorData::new(flat.clone(), [flat.len() / (rows * columns), rows, columns]);
        let output = newton_schulz(Tensor::<Flex, 3>::from_data(input, &Default::default()), 5);
        let tolerance = if case.contains("rank3") { NEWTON_SCHULZ_RANK_3 } else { NEWTON_SCHULZ };
        let difference = max_difference(&values(output), &golden_values(&golden, &format!("f64/ns/{case}/out")));
        assert!(difference < tolerance, "{case}: {difference:e}");
    }
}

#[test]
fn six_steps_of_standard_muon_and_adamw_give_the_float64_parameters() {
    let golden = Golden::open("optim");
    let about = json("parity/optim.json");
    let names = |group: &str| -> Vec<String> {
        about[group].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let (muon_names, adam_names) = (names("muon"), names("adam"));
    let hyper = needle_train::optim::MuonConfig { momentum: 0.95, weight_decay: 0.01, ns_steps: 5 };
    let mut muon = needle_train::optim::Muon::<Flex>::new(hyper);
    let mut adam = needle_train::optim::AdamW::<Flex>::new(needle_train::optim::AdamWConfig {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
    });
    // A stacked tensor contains several matrices.
    let matrices = |name: &str, tensor: Tensor<Flex, 1>| -> Vec<(String, Vec<usize>, Tensor<Flex, 1>)> {
        let (_, shape) = golden.values(&format!("step0/params/{name}"));
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let layers = shape.iter().product::<usize>() / (rows * columns);
        let layer = |i: usize| tensor.clone().narrow(0, i * rows * columns, rows * columns);
        (0..layers).map(|i| (format!("{name}#{i}"), vec![rows, columns], layer(i))).collect()
    };
    let flat = |name: &str| -> Tensor<Flex, 1> {
        let values = golden_values(&golden, name);
        let length = values.len();
        Tensor::from_data(burn::tensor::TensorData::new(values, [length]), &Default::default())
    };
    let mut current: Gradients<Flex> =
        muon_names.iter().chain(&adam_names).map(|n| (n.clone(), flat(&format!("step0/params/{n}")))).collect();
    for step in 1..=6 {
        let hyper = &about["steps"][step - 1];
        let gradients = current.keys().map(|n| (n.clone(), flat(&format!("step{step}/grads/{n}")))).collect();
        let (gradients, norm) = clip_global_norm(gradients, 1.0);
        let expected = hyper["grad_global_norm"].as_f64().unwrap();
        assert!((norm - expected).abs() / expected < 1e-5, "gradient norm of step {step}");
        let mut params = Vec::new();
        for name in &muon_names {
            let both = matrices(name, current[name].clone()).into_iter().zip(matrices(name, gradients[name].clone()));
            params.extend(both.map(|((name, shape, value), (_, _, gradient))| {
                (needle_train::optim::Named { name, shape, value }, gradient)
            }));
        }
        let mut updated = muon.step(params, hyper["muon_lr"].as_f64().unwrap());
        for name in &muon_names {
            let layers =
                matrices(name, current[name].clone()).into_iter().map(|(layer, _, _)| updated.remove(&layer).unwrap());
            current.insert(name.clone(), Tensor::cat(layers.collect(), 0));
        }
        let params = adam_names.iter().map(|name| {
            let value = current[name].clone();
            (
                needle_train::optim::Named { name: name.clone(), shape: value.dims().to_vec(), value },
                gradients[name].clone(),
            )
        });
        let params = params.collect();
        current.extend(adam.step(params, hyper["adam_lr"].as_f64().unwrap()));
        if step == 3 || step == 6 {
            for name in &muon_names {
                let expected = golden_values(&golden, &format!("f64/std_muon_out_in/step{step}/params/{name}"));
                let difference = max_difference(&values(current[name].clone()), &expected);
                assert!(difference < MUON_PARAMS, "{name} after {step} steps: {difference:e}");
            }
        }
        for name in &adam_names {
            let expected = golden_values(&golden, &format!("step{step}/params/{name}"));
            let difference = max_difference(&values(current[name].clone()), &expected);
            assert!(difference < ADAM_PARAMS, "{name} after {step} steps: {difference:e}");
        }
    }
}

#[test]
fn schedules_agree_at_every_step() {
    let about = json("parity/optim.json");
    let mut checked = 0;
    let mut check = |schedule: &ScheduleConfig, total: usize, peak: f64, expected: &serde_json::Value| {
        for (count, expected) in expected.as_array().unwrap().iter().enumerate() {
            let (ours, theirs) = (peak * schedule.factor(count, total), expected.as_f64().unwrap());
            assert!(
                (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1e-12),
                "count {count} of {total}: {ours} and {theirs}"
            );
            checked += 1;
        }
    };
    let main = ScheduleConfig { warmup_steps: 4, decay_ratio: 0.15, final_fraction: 0.05 };
    check(&main, 40, 3e-4, &about["wsd"]["adam_3e-4"]);
    check(&main, 40, 0.02, &about["wsd"]["muon_0.02"]);
    for case in about["wsd_more"].as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap();
        let schedule = ScheduleConfig {
            warmup_steps: number("warmup_steps") as usize,
            decay_ratio: number("decay_ratio"),
            final_fraction: 0.05,
        };
        check(&schedule, number("total_steps") as usize, number("peak"), &case["values"]);
    }
    assert!(checked > 100);
}

#[test]
fn greedy_decoding_gives_the_original_tokens() {
    let model = golden_model::<Flex>();
    let about = json("parity/decode.json");
    let pairs = about["pairs"].as_array().unwrap();
    let list = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
    };
    let prompts: Vec<Vec<u32>> = pairs.iter().map(|p| list(&p["enc_ids"])).collect();
    // All prompts in one padded batch, and each alone.
    let together = generate(&model, &prompts, 24, &mut NoHook);
    for ((pair, prompt), answer) in pairs.iter().zip(&prompts).zip(together) {
        let expected = &pair["unconstrained"];
        assert_eq!(answer.ids, list(&expected["ids"]));
        assert_eq!(answer.stop == Stop::Eos, expected["stopped_by_eos"].as_bool().unwrap());
        assert_eq!(generate(&model, std::slice::from_ref(prompt), 24, &mut NoHook)[0].ids, answer.ids);
        let first = needle_model::generate::ids_tensor::<Flex>(&[vec![1]], &Default::default());
        let inputs = Inputs {
            src: needle_model::generate::ids_tensor(std::slice::from_ref(prompt), &Default::default()),
            tgt: first,
            segments: None,
        };
        let logits = values(compute(&model, inputs).logits);
        for top in expected["steps"][0]["top5"].as_array().unwrap() {
            let (id, expected) = (top[0].as_u64().unwrap() as usize, top[1].as_f64().unwrap());
            assert!((f64::from(logits[id]) - expected).abs() < TOP_LOGITS);
        }
    }
}

#[test]
fn decoding_with_a_cache_gives_the_same_tokens_as_without() {
    let model = golden_model::<Flex>();
    let about = json("parity/decode.json");
    for pair in about["pairs"].as_array().unwrap() {
        let prompt: Vec<u32> = pair["enc_ids"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
        let cached = generate(&model, std::slice::from_ref(&prompt), 24, &mut NoHook).remove(0).ids;
        let mut uncached = vec![1u32];
        while uncached.len() <= cached.len() {
            let src = needle_model::generate::ids_tensor(std::slice::from_ref(&prompt), &Default::default());
            let tgt = needle_model::generate::ids_tensor::<Flex>(std::slice::from_ref(&uncached), &Default::default());
            let logits = values(compute(&model, Inputs { src, tgt, segments: None }).logits);
            let last = &logits[logits.len() - 1024..];
            let best = (0..1024).max_by(|&a, &b| last[a].total_cmp(&last[b]).then(b.cmp(&a))).unwrap();
            uncached.push(best as u32);
        }
        assert_eq!(uncached[1..], cached);
    }
}

/// Eight pretraining steps from the golden weights, with standard Muon on the original's batches.
#[test]
fn eight_training_steps_follow_the_reference_trajectory() {
    const TRAJECTORY: f64 = 5e-6;
    let golden = Golden::open("trajectory");
    let expected = &json("parity/trajectory.json")["pretrain_standard_muon"]["loss"];
    let hyper = &json("parity/optim.json")["hyper"]["schedule"];
    let schedule = ScheduleConfig {
        warmup_steps: hyper["warmup_steps"].as_u64().unwrap() as usize,
        decay_ratio: hyper["decay_ratio"].as_f64().unwrap(),
        final_fraction: 0.05,
    };
    let total = hyper["total_steps"].as_u64().unwrap() as usize;
    let config = OptimConfig { adamw_lr: 3e-4, ..OptimConfig::default() };
    let mut optimizer = Optimizer::<Flex>::new(&config, 0);
    let mut model: San<Training> = golden_model_for_training();
    for step in 0..8 {
        let ids = |name: &str| golden.ids::<Training>(&format!("pretrain/{step}/{name}"));
        let (targets, shape) = golden.values(&format!("pretrain/{step}/tgt_out"));
        let real: Vec<f32> = targets.iter().map(|&t| f32::from(u8::from(t != 0.0))).collect();
        let num_targets = real.iter().filter(|&&r| r != 0.0).count();
        let (src, tgt) = (ids("src"), ids("tgt_in"));
        let none = &mut Dropout::none();
        let padding = needle_model::AttentionMask::padding(src.clone());
        let masks = needle_model::decoder::DecoderMasks {
            self_attn: needle_model::AttentionMask::padding(tgt.clone()).causal(),
            cross_attn: padding.clone(),
        };
        let memory = model.encode(src, &padding, none);
        let hidden = model.decode(tgt, &mut model.decoder.cache(&memory), &masks, none);
        let [nll, log_sum_exp] = model.cross_entropy(hidden, ids("tgt_out"));
        let device = Default::default();
        let weights = Tensor::from_data(burn::tensor::TensorData::new(real, shape.clone()), &device);
        let all = Tensor::ones([shape[0], shape[1]], &device);
        let loss =
            needle_train::training::loss::weighted(nll, log_sum_exp, weights, all, (num_targets, targets.len()), 1e-4);
        let total_loss = loss.total();
        let (ours, theirs) = (f64::from(values(total_loss.clone().inner())[0]), expected[step].as_f64().unwrap());
        assert!((ours - theirs).abs() < TRAJECTORY, "step {step}: {ours} and {theirs}");

        let (gradients, _) = clip_global_norm(collect(&model, &total_loss.backward()), 1.0);
        // The reference counts steps from 0.
        let factor = schedule.factor(step, total);
        let rates = LearningRates { muon: config.muon_lr * factor, adamw: config.adamw_lr * factor };
        model = optimizer.step(model, gradients, rates);
    }
}

#[test]
fn every_parameter_has_a_counterpart_in_the_golden_vectors() {
    struct Names(usize);
    impl<B: AutodiffBackend> ParamVisitor<B> for Names {
        fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) {
            let values = original_values(&Golden::open("params"), "", &info);
            assert_eq!(values.len(), tensor.shape().num_elements(), "{}", info.name);
            self.0 += 1;
        }
    }
    let mut names = Names(0);
    params::visit(&golden_model_for_training::<Training>(), &mut names);
    assert_eq!(names.0, params::list(&golden_model::<Flex>()).len());
}
