//! Compares the GPU kernels with their reference implementations, and a model on a GPU with the
//! same model on the CPU.
//!
//! `cargo test -p needle-tests --features wgpu --test gpu` (any Vulkan driver, including Mesa's
//! software driver), or `--features cuda`.

#![cfg(any(feature = "cuda", feature = "wgpu"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData, TensorPrimitive};
use needle_data::batching::batch::RetrievalBatch;
use needle_data::encode::PairKey;
use needle_data::{Batch, TokenClass};
use needle_model::ops::{FusedOps, MaskPrimitive, reference};
use needle_model::{San, SanConfig};
use needle_tests::{max_difference, weights_by_name};
use needle_train::device::Inference as Cpu;
use needle_train::optim::{LearningRates, Optimizer, clip_global_norm, newton_schulz, squared_norm};
use needle_train::recipe::{OptimConfig, Recipe};
use needle_train::training::step::forward_backward;

#[cfg(feature = "cuda")]
type Gpu = needle_train::device::Cuda;
#[cfg(not(feature = "cuda"))]
type Gpu = needle_train::device::Wgpu;

/// Pseudo-random numbers between -1 and 1.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values(seed, shape.iter().product()), shape), &Default::default())
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn back<B: Backend, const D: usize>(primitive: B::FloatTensorPrimitive) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn list<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().to_vec().unwrap()
}

#[track_caller]
fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    let largest = b.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    let apart = max_difference(a, b);
    assert!(apart <= f64::from(tolerance * largest), "{what}: {apart:e} of {largest:e}");
}

/// Segment ids `1 1 .. 2 2 .. 0 0` of packed rows, each with `examples` examples in `real` tokens.
fn segments(rows: usize, len: usize, examples: usize, real: usize) -> Vec<i32> {
    let row: Vec<i32> = (0..len).map(|i| if i < real { (i * examples / real) as i32 + 1 } else { 0 }).collect();
    row.repeat(rows)
}

fn ints<B: Backend>(ids: &[i32], rows: usize) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), [rows, ids.len() / rows]), &Default::default())
}

#[test]
fn attention_and_its_gradients_agree_with_the_reference() {
    // Some sizes exceed a tile and a cube, and some are not multiples of either. `padding` means
    // that only keys have segments.
    for (rows, q_len, k_len, heads, kv_heads, head_dim, causal, packed, padding) in [
        (2, 70, 70, 4, 2, 16, false, true, false),
        (2, 33, 33, 4, 2, 16, true, true, false),
        (1, 20, 75, 2, 1, 32, false, true, false),
        (3, 7, 19, 2, 2, 8, false, false, true),
        (1, 5, 37, 8, 4, 64, true, false, false),
        (1, 130, 130, 2, 1, 16, false, true, false),
        (1, 9, 9, 2, 1, 6, true, true, false),
        (1, 75, 20, 2, 1, 16, false, true, false),
        (2, 200, 150, 4, 2, 8, false, true, false),
        (1, 150, 150, 2, 1, 64, true, true, false),
        (1, 40, 70, 2, 1, 128, true, false, false),
    ] {
        let case = format!("{q_len} queries, {k_len} keys, causal {causal}, packed {packed}");
        let (q_seg, k_seg) = (segments(rows, q_len, 3, q_len - 2), segments(rows, k_len, 3, k_len - 3));
        fn mask<B: Backend>(
            q: &[i32],
            k: &[i32],
            rows: usize,
            (causal, packed, padding): (bool, bool, bool),
        ) -> MaskPrimitive<B> {
            MaskPrimitive {
                query_segments: packed.then(|| ints::<B>(q, rows).into_primitive()),
                key_segments: (packed || padding).then(|| ints::<B>(k, rows).into_primitive()),
                causal,
            }
        }
        let rules = (causal, packed, padding);
        let shapes = [[rows, q_len, heads, head_dim], [rows, k_len, kv_heads, head_dim]];
        // Queries, keys, values and the gradient of the result, rounded to the type under test.
        fn inputs<B: Backend>(shapes: [[usize; 4]; 2], dtype: FloatDType) -> [Tensor<B, 4>; 4] {
            [(1, 0), (2, 1), (3, 1), (4, 0)].map(|(seed, shape)| tensor::<B, 4>(seed, shapes[shape]).cast(dtype))
        }
        for (dtype, epsilon) in activation_types() {
            let case = format!("{case}, {dtype:?}");
            let [q, k, v, grad] = inputs::<Cpu>(shapes, dtype).map(|x| x.cast(FloatDType::F32));
            let plain_mask = mask::<Cpu>(&q_seg, &k_seg, rows, rules);
            let expected = reference::attention(q.clone(), k.clone(), v.clone(), &plain_mask);
            let expected_grads = reference::attention_backward([q, k, v], &plain_mask, expected.clone(), grad);

            let [q, k, v, grad] = inputs::<Gpu>(shapes, dtype).map(primitive);
            let gpu_mask = mask::<Gpu>(&q_seg, &k_seg, rows, rules);
            let out = Gpu::grouped_query_attention(q.clone(), k.clone(), v.clone(), gpu_mask.clone());
            let ours = list(back::<Gpu, 4>(out.clone()));
            // In bf16, weights are rounded as well, and the result is.
            let (of_result, of_gradients) =
                if dtype == FloatDType::F32 { (2e-5, 5e-5) } else { (epsilon, 4.0 * epsilon) };
            assert_close(&case, &ours, &list(expected), of_result);
            // A padding query attends to no key, so its output is 0.
            for (i, values) in ours.chunks(heads * head_dim).enumerate() {
                let is_blind = packed && q_seg[i] == 0;
                assert!(!is_blind || values.iter().all(|x| *x == 0.0), "{case}: query {i}");
            }
            let grads = Gpu::grouped_query_attention_backward(q, k, v, gpu_mask, out, grad);
            for ((name, ours), expected) in ["dq", "dk", "dv"].into_iter().zip(grads).zip(expected_grads) {
                assert_close(&format!("{name}: {case}"), &list(back::<Gpu, 4>(ours)), &list(expected), of_gradients);
            }
        }
    }
}

#[test]
fn a_nan_query_gives_nan_only_in_its_own_output() {
    let mut q = values(1, 4 * 2 * 8);
    q[..16].fill(f32::NAN);
    let q = Tensor::<Gpu, 4>::from_data(TensorData::new(q, [1, 4, 2, 8]), &Default::default());
    let (k, v) = (tensor::<Gpu, 4>(2, [1, 5, 1, 8]), tensor::<Gpu, 4>(3, [1, 5, 1, 8]));
    let mask = MaskPrimitive { query_segments: None, key_segments: None, causal: false };
    let out = Gpu::grouped_query_attention(primitive(q), primitive(k), primitive(v), mask);
    let out = list(back::<Gpu, 4>(out));
    assert!(out[..16].iter().all(|x| x.is_nan()) && out[16..].iter().all(|x| x.is_finite()), "{out:?}");
}

#[test]
fn norms_gates_and_newton_schulz_agree_with_the_reference() {
    // The last needs more workgroups than 65,535, the most along one axis.
    for (rows, width) in [(1, 8), (37, 16), (9, 64), (300, 96), (5, 192), (7, 512), (600_005, 8)] {
        let case = format!("{rows} x {width}");
        let (x, grad) = (tensor::<Cpu, 2>(1, [rows, width]), tensor::<Cpu, 2>(2, [rows, width]));
        let gain = tensor::<Cpu, 1>(3, [width]);
        let gpu = || (primitive(tensor::<Gpu, 2>(1, [rows, width])), primitive(tensor::<Gpu, 1>(3, [width])));
        let out = Gpu::zc_rms_norm(gpu().0, gpu().1, 1e-6);
        let expected = reference::zc_rms_norm(x.clone(), gain.clone(), 1e-6);
        assert_close(&case, &list(back::<Gpu, 2>(out)), &list(expected), 1e-5);
        let upstream = primitive(tensor::<Gpu, 2>(2, [rows, width]));
        let (dx, dgain) = Gpu::zc_rms_norm_backward(gpu().0, gpu().1, upstream, 1e-6);
        let (expected_dx, expected_dgain) = reference::zc_rms_norm_backward(x.clone(), gain, grad.clone(), 1e-6);
        assert_close(&case, &list(back::<Gpu, 2>(dx)), &list(expected_dx), 1e-5);
        // A sum over all rows rounds differently in another order.
        let tolerance = if rows > 100_000 { 1e-3 } else { 1e-5 };
        assert_close(&case, &list(back::<Gpu, 1>(dgain)), &list(expected_dgain), tolerance);
        let gate = primitive(tensor::<Gpu, 1>(5, [1]));
        let out = Gpu::gated_residual(gpu().0, primitive(tensor::<Gpu, 2>(2, [rows, width])), gate);
        let expected = reference::gated_residual(x, grad, tensor(5, [1]));
        assert_close(&case, &list(back::<Gpu, 2>(out)), &list(expected), 1e-5);
    }
    // Newton-Schulz runs in bf16 if the device supports it.
    let ours = list(newton_schulz(tensor::<Gpu, 3>(1, [3, 24, 16]), 5));
    let tolerance = if Gpu::supports_dtype(&Default::default(), DType::BF16) { 0.05 } else { 1e-4 };
    assert_close("Newton-Schulz", &ours, &list(newton_schulz(tensor::<Cpu, 3>(1, [3, 24, 16]), 5)), tolerance);
}

/// The types of activations that the device supports, each with the distance of two neighbours of
/// it relative to their size.
fn activation_types() -> Vec<(FloatDType, f32)> {
    let mut types = vec![(FloatDType::F32, f32::EPSILON)];
    if Gpu::supports_dtype(&Default::default(), DType::BF16) {
        types.push((FloatDType::BF16, 2f32.powi(-7)));
    }
    types
}

#[test]
fn rotations_and_their_inverses_agree_with_the_reference() {
    // Halves of a head that vectors of 4, 2 and 1 elements divide, and tables that begin before the
    // first position and end after the last one.
    for (batch, seq, heads, head_dim, first) in
        [(2, 13, 3, 16, 0), (1, 1, 2, 8, 7), (2, 5, 3, 12, 3), (1, 9, 1, 6, 0), (3, 40, 4, 96, 1), (2, 300, 2, 64, 2)]
    {
        for (dtype, epsilon) in activation_types() {
            let case = format!("{batch} x {seq} x {heads} x {head_dim} from {first}, {dtype:?}");
            let (shape, table) = ([batch, seq, heads, head_dim], [first + seq + 2, head_dim / 2]);
            let x = || primitive(tensor::<Gpu, 4>(1, shape).cast(dtype));
            let tables = || [2, 3].map(|seed| primitive(tensor::<Gpu, 2>(seed, table)));
            let [cos, sin] = tables();
            let turned = Gpu::rope(x(), cos, sin, first);
            let [cos, sin] = tables();
            let turned_back = Gpu::rope_backward(x(), cos, sin, first);
            // The tables are f32 in both cases; only the result is rounded.
            let x = tensor::<Cpu, 4>(1, shape).cast(dtype);
            let [cos, sin] = [2, 3].map(|seed| tensor::<Cpu, 2>(seed, table).narrow(0, first, seq));
            let expected = reference::rope(x.clone(), cos.clone(), sin.clone());
            assert_close(&case, &list(back::<Gpu, 4>(turned)), &list(expected), 2.0 * epsilon);
            let expected = reference::rope(x, cos, -sin);
            assert_close(&case, &list(back::<Gpu, 4>(turned_back)), &list(expected), 2.0 * epsilon);
        }
    }
}

#[test]
fn gradients_of_weights_agree_with_the_product_over_all_rows() {
    // One part; several; a number of rows that cannot be divided.
    for (rows, inputs, outputs) in [(5, 3, 4), (8192, 16, 24), (6144, 130, 8), (4097, 8, 8)] {
        for (dtype, epsilon) in activation_types() {
            let case = format!("{rows} rows, {inputs} x {outputs}, {dtype:?}");
            fn gradient<B: FusedOps>(shapes: [[usize; 2]; 2], dtype: FloatDType) -> Vec<f32> {
                let [x, grad] = [(1, shapes[0]), (2, shapes[1])].map(|(seed, s)| tensor::<B, 2>(seed, s).cast(dtype));
                list(back::<B, 2>(B::project_weight_backward(primitive(x), primitive(grad))))
            }
            let shapes = [[rows, inputs], [rows, outputs]];
            let (ours, expected) = (gradient::<Gpu>(shapes, dtype), gradient::<Cpu>(shapes, FloatDType::F32));
            // The terms cancel, so the error is relative to their number.
            let tolerance = if dtype == FloatDType::F32 { 2e-5 } else { 8.0 * epsilon };
            assert_close(&case, &ours, &expected, tolerance);
        }
    }
}

#[test]
fn losses_and_their_gradients_agree_with_the_reference() {
    // One row; vocabularies that vectors of 4, 2 and 1 elements divide, and more ids than a cube
    // has units; more rows than one chunk.
    for (rows, width, vocab) in [(1, 16, 5), (70, 96, 37), (33, 192, 1030), (5, 512, 512), (16_390, 16, 40)] {
        for (dtype, epsilon) in activation_types() {
            let case = format!("{rows} x {width}, {vocab} ids, {dtype:?}");
            let targets: Vec<i32> = (0..rows as i32).map(|i| i * 7 % vocab as i32).collect();
            fn three<B: FusedOps>(shapes: [[usize; 2]; 2], targets: &[i32], dtype: FloatDType) -> [Vec<f32>; 3] {
                let inputs = || {
                    let hidden = primitive(tensor::<B, 2>(1, shapes[0]).cast(dtype));
                    let embedding = primitive(tensor::<B, 2>(2, shapes[1]).cast(dtype));
                    (hidden, embedding, ints::<B>(targets, 1).reshape([targets.len()]).into_primitive())
                };
                let (hidden, embedding, targets) = inputs();
                let loss = B::tied_cross_entropy(hidden, embedding, targets);
                let grad = primitive(tensor::<B, 2>(3, [shapes[0][0], 2]));
                let (hidden, embedding, targets) = inputs();
                let (dhidden, dembedding) = B::tied_cross_entropy_backward(hidden, embedding, targets, grad);
                [list(back::<B, 2>(loss)), list(back::<B, 2>(dhidden)), list(back::<B, 2>(dembedding))]
            }
            let shapes = [[rows, width], [vocab, width]];
            let (ours, expected) = (three::<Gpu>(shapes, &targets, dtype), three::<Cpu>(shapes, &targets, dtype));
            let tolerance = if dtype == FloatDType::F32 { 3e-5 } else { 4.0 * epsilon };
            for (name, (ours, expected)) in ["loss", "dhidden", "dembedding"].iter().zip(ours.iter().zip(&expected)) {
                assert_close(&format!("{name}: {case}"), ours, expected, tolerance);
            }
        }
    }
}

/// The rows of an embedding's gradient as the kernels sum them, each sum in f32: the upstream rows
/// of an id in their order, 128 at a time, then the sums of these.
fn sums_of_ids(ids: &[i32], grad: &[f32], vocab: usize, width: usize, scale: f32) -> Vec<f32> {
    let mut rows = vec![Vec::new(); vocab];
    for (row, id) in ids.iter().enumerate() {
        rows[*id as usize].push(row);
    }
    let mut sums = Vec::with_capacity(vocab * width);
    for rows in rows {
        for column in 0..width {
            let piece = |rows: &[usize]| rows.iter().fold(0.0f32, |sum, row| sum + grad[row * width + column]);
            sums.push(rows.chunks(128).map(piece).fold(0.0f32, |sum, piece| sum + piece) * scale);
        }
    }
    sums
}

#[test]
fn embeddings_and_their_gradients_are_those_of_sums_in_a_fixed_order() {
    // One row; rows that are no multiple of a block of 1,024 or a piece of 128; an id with most of
    // the rows and ids without any; the last needs more workgroups than 65,535.
    for (rows, vocab, width) in
        [(1, 5, 8), (37, 300, 96), (1024, 7, 192), (2500, 40, 512), (3001, 300, 33), (70_000, 70_001, 4)]
    {
        let draw = values(7, rows).into_iter().enumerate();
        let is_skewed = vocab < 1000;
        let ids: Vec<i32> = draw
            .map(|(i, x)| match is_skewed {
                true if x < 0.2 => 3,
                true => (x * (vocab - 1) as f32) as i32,
                false => (i * 7 % vocab) as i32,
            })
            .collect();
        let scale = (width as f32).sqrt();
        let gpu_ids = || ints::<Gpu>(&ids, 1).reshape([rows]).into_primitive();
        let embedding = || primitive(tensor::<Gpu, 2>(1, [vocab, width]));
        for (dtype, epsilon) in activation_types() {
            let case = format!("{rows} x {width}, {vocab} ids, {dtype:?}");
            let ours = Gpu::embed(embedding(), gpu_ids(), scale, dtype.into());
            let table = values(1, vocab * width);
            let expected: Vec<f32> =
                ids.iter().flat_map(|id| &table[*id as usize * width..][..width]).map(|x| x * scale).collect();
            let tolerance = if dtype == FloatDType::F32 { 0.0 } else { epsilon };
            assert_close(&case, &list(back::<Gpu, 2>(ours)), &expected, tolerance);

            let grad = tensor::<Gpu, 2>(2, [rows, width]).cast(dtype);
            let upstream = list(grad.clone());
            let ours = list(back::<Gpu, 2>(Gpu::embed_backward(embedding(), gpu_ids(), primitive(grad), scale)));
            assert!(ours == sums_of_ids(&ids, &upstream, vocab, width, scale), "{case}: another order or other rows");
        }
    }
}

#[test]
fn the_gates_gradients_agree_with_sums_in_f64() {
    // One element; sizes that no vector of elements divides; more than the cubes take in one round.
    for (rows, width) in [(1, 1), (1, 96), (3, 7), (37, 192), (300, 512), (600_005, 8)] {
        for (dtype, epsilon) in activation_types() {
            let case = format!("{rows} x {width}, {dtype:?}");
            fn inputs<B: Backend>(rows: usize, width: usize, dtype: FloatDType) -> [Tensor<B, 2>; 2] {
                [1, 2].map(|seed| tensor::<B, 2>(seed, [rows, width]).cast(dtype))
            }
            let [branch, grad] = inputs::<Gpu>(rows, width, dtype).map(primitive);
            let gate = tensor::<Gpu, 1>(5, [1]);
            let (dbranch, dgate) = Gpu::gated_residual_backward(branch, primitive(gate), grad);

            let [branch, grad] = inputs::<Cpu>(rows, width, dtype).map(list);
            let open = 1.0 / (1.0 + (-f64::from(values(5, 1)[0])).exp());
            let expected: Vec<f32> = grad.iter().map(|grad| (open * f64::from(*grad)) as f32).collect();
            assert_close(&case, &list(back::<Gpu, 2>(dbranch)), &expected, 2.0 * epsilon);
            let products = || branch.iter().zip(&grad).map(|(a, b)| f64::from(*a) * f64::from(*b));
            let expected = open * (1.0 - open) * products().sum::<f64>();
            let apart = (f64::from(list(back::<Gpu, 1>(dgate))[0]) - expected).abs();
            // The gate and its gradient are f32. The terms cancel, so the error of a sum is
            // relative to the sum of their magnitudes.
            assert!(apart <= 1e-6 * products().map(f64::abs).sum::<f64>(), "{case}: {apart:e} of {expected:e}");
        }
    }
}

#[test]
fn the_gradients_norm_is_that_of_all_parameters() {
    // Nothing but a short vector; lengths that vectors of elements do not divide; long ones.
    for lengths in [vec![1], vec![5, 1023, 1], vec![70_001, 1, 64, 300_000, 3, 1_000_000]] {
        let squares = |list: &[f32]| list.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        let expected: f64 = lengths.iter().enumerate().map(|(i, n)| squares(&values(i as u64, *n))).sum();
        let of = |(i, n): (usize, &usize)| (format!("{i}"), tensor::<Gpu, 1>(i as u64, [*n]));
        let ours = squared_norm::<Gpu>(&lengths.iter().enumerate().map(of).collect());
        assert!((ours - expected).abs() < 1e-5 * expected, "{lengths:?}: {ours} and {expected}");
    }
}

fn batch(config: &SanConfig) -> Batch {
    let (rows, enc_len, dec_len) = (2, 40, 24);
    let ids = |seed: u64, segments: &[i32]| -> Vec<i32> {
        let draw = values(seed, segments.len()).into_iter().zip(segments);
        draw.map(|(x, s)| if *s == 0 { 0 } else { 6 + ((x + 1.0) * 0.499 * (config.vocab_size - 6) as f32) as i32 })
            .collect()
    };
    let (enc_segments, dec_segments) = (segments(rows, enc_len, 3, 37), segments(rows, dec_len, 3, 20));
    let pairs = RetrievalBatch {
        pairs: 3,
        query_len: 6,
        query_ids: ids(5, &[1; 18]),
        tool_len: 9,
        tool_ids: ids(6, &[1; 27]),
        keys: (0..3).map(|name| PairKey { name, content: None }).collect(),
    };
    let enc_ids = ids(1, &enc_segments);
    let (mut dec_target, mut dec_classes) = (ids(3, &dec_segments), vec![0; dec_segments.len()]);
    // Each row begins with a value that is copied from the prompt.
    for row in 0..rows {
        let value = row * dec_len..row * dec_len + 4;
        dec_target[value.clone()].copy_from_slice(&enc_ids[row * enc_len..row * enc_len + 4]);
        dec_classes[value].fill(TokenClass::Value as u8);
    }
    Batch {
        rows,
        enc_len,
        dec_len,
        enc_ids,
        dec_input: ids(2, &dec_segments),
        dec_target,
        dec_classes,
        enc_segments,
        dec_segments,
        retrieval: Some(pairs),
        num_examples: 6,
    }
}

/// The losses of some steps, and the weights after them.
fn train<B: FusedOps>(recipe: &Recipe, steps: usize) -> (Vec<f64>, BTreeMap<String, Vec<f32>>) {
    let config = SanConfig { vocab_size: 300, ..SanConfig::preset("tiny").unwrap() };
    let mut model = San::<Autodiff<B>>::new(&config, 1, &Default::default()).unwrap();
    let mut optimizer = Optimizer::<B>::new(&OptimConfig::default(), 0);
    let batch = batch(&config);
    let mut losses = Vec::new();
    for step in 1..=steps {
        let (of_step, gradients) = forward_backward(&model, &batch, recipe, step);
        assert!(of_step.alignment.is_some_and(|loss| loss > 0.0), "{of_step:?}");
        losses.push(of_step.total);
        let (gradients, _) = clip_global_norm(gradients, 1.0);
        model = optimizer.step(model, gradients, LearningRates { muon: 0.01, adamw: 1e-3 });
    }
    (losses, weights_by_name(&model.valid()))
}

fn recipe(more: &str) -> Recipe {
    Recipe::parse(&format!("model = \"tiny\"\nsteps = 100\ndata = {{ row_enc_tokens = 128, row_dec_tokens = 64 }}\neval = {{ max_tokens = 64 }}\nloss = {{ contrastive_every_steps = 1, alignment_weight = 0.3 }}\n{more}"), &[])
        .unwrap()
}

#[test]
fn training_steps_agree_with_the_cpu_with_int4_retrieval_and_dropout() {
    // Without dropout and with it: GPU and CPU draw the same masks.
    for more in [
        "dropout = 0.0\nqat = { every_steps = 2, final_fraction = 0 }",
        "dropout = 0.1\nactivation_checkpointing = true",
    ] {
        let recipe = recipe(more);
        let (losses, weights) = train::<Gpu>(&recipe, 4);
        let (expected_losses, expected) = train::<Cpu>(&recipe, 4);
        for (loss, expected) in losses.iter().zip(&expected_losses) {
            assert!((loss - expected).abs() < 2e-4 * expected.abs(), "{losses:?} {expected_losses:?}");
        }
        // With Newton-Schulz in bf16, weights differ by up to a hundredth of a step.
        let tolerance = if Gpu::supports_dtype(&Default::default(), DType::BF16) { 2e-2 } else { 2e-3 };
        for ((name, ours), (_, expected)) in weights.iter().zip(&expected) {
            assert_close(name, ours, expected, tolerance);
        }
    }
}
