//! Every fused operation against its plain definition: values, and the gradients that burn derives
//! from the plain graph.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use burn::backend::Autodiff;
use burn::tensor::{FloatDType, Int, Tensor, TensorData, TensorPrimitive};
use burn_flex::Flex;
use needle_model::ops::{FusedOps, MaskPrimitive, reference};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

type AB = Autodiff<Flex>;

/// Of the largest value.
const TOLERANCE: f64 = 2e-5;
/// The terms of every sum here are of order 1, so where they cancel what is left is rounding of
/// that size.
const LEAST_LARGEST: f64 = 0.05;

fn random<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng) -> Tensor<AB, D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.5..1.5)).collect();
    Tensor::<AB, D>::from_data(TensorData::new(values, shape), &Default::default()).require_grad()
}

fn ids<const D: usize>(values: Vec<i32>, shape: [usize; D]) -> Tensor<AB, D, Int> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn wrap<const D: usize>(primitive: <AB as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive) -> Tensor<AB, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn raw<const D: usize>(tensor: &Tensor<AB, D>) -> <AB as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive {
    tensor.clone().into_primitive().tensor()
}

fn assert_close<const D: usize>(what: &str, ours: Tensor<Flex, D>, theirs: Tensor<Flex, D>) {
    let (ours, theirs): (Vec<f32>, Vec<f32>) =
        (ours.into_data().to_vec().unwrap(), theirs.into_data().to_vec().unwrap());
    let largest = theirs.iter().fold(LEAST_LARGEST, |m, x| m.max(f64::from(x.abs())));
    for (a, b) in ours.iter().zip(&theirs) {
        let difference = f64::from((a - b).abs());
        assert!(difference <= TOLERANCE * largest, "{what}: {a} and {b}, largest {largest}");
    }
}

/// Compares two outputs and the gradients of a random weighted sum of each with respect to
/// `inputs`.
macro_rules! assert_same {
    ($what:expr, $fused:expr, $plain:expr, $rng:expr, [$($input:expr),+]) => {{
        let (fused, plain) = ($fused, $plain);
        assert_close($what, fused.clone().inner(), plain.clone().inner());
        let weights = random(fused.dims(), $rng).detach();
        let fused = (fused * weights.clone()).sum().backward();
        let plain = (plain * weights).sum().backward();
        $( assert_close(
            concat!("gradient of ", stringify!($input)),
            $input.grad(&fused).expect("fused"),
            $input.grad(&plain).expect("plain"),
        ); )+
    }};
}

#[test]
fn norm_and_gated_residual_agree_at_every_width() {
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    for (rows, width) in [(1, 2), (3, 5), (7, 32), (130, 48), (600, 192)] {
        let (x, gain) = (random([rows, width], rng), random([width], rng));
        let fused = wrap::<2>(AB::zc_rms_norm(raw(&x), raw(&gain), 1e-6));
        assert_same!("norm", fused, reference::zc_rms_norm(x.clone(), gain.clone(), 1e-6), rng, [x, gain]);
        let x = random([rows, width], rng);
        let (branch, gate) = (random([rows, width], rng), random([1], rng));
        let fused = wrap::<2>(AB::gated_residual(raw(&x), raw(&branch), raw(&gate)));
        let plain = reference::gated_residual(x.clone(), branch.clone(), gate.clone());
        assert_same!("gated residual", fused, plain, rng, [x, branch, gate]);
    }
}

#[test]
fn the_embedding_agrees_where_ids_repeat_and_are_missing() {
    let rng = &mut ChaCha8Rng::seed_from_u64(12);
    for (rows, vocab, d_model) in [(1, 2, 4), (37, 65, 8), (300, 7, 12)] {
        let embedding = random([vocab, d_model], rng);
        let ids = ids((0..rows).map(|_| rng.random_range(0..vocab as i32 - 1)).collect(), [rows]);
        let dtype = burn::tensor::DType::F32;
        let fused = wrap::<2>(AB::embed(raw(&embedding), ids.clone().into_primitive(), 1.7, dtype));
        let plain = reference::embed(embedding.clone(), ids, 1.7, dtype);
        assert_same!("embedding", fused, plain, rng, [embedding]);
    }
}

#[test]
fn the_rotary_embedding_agrees() {
    let rng = &mut ChaCha8Rng::seed_from_u64(2);
    for (batch, seq, heads, head_dim, first) in [(1, 1, 1, 2, 0), (2, 9, 3, 8, 0), (3, 70, 4, 32, 5)] {
        let x = random([batch, seq, heads, head_dim], rng);
        // Tables of more positions than there are, on both sides.
        let table = [first + seq + 2, head_dim / 2];
        let (cos, sin) = (random(table, rng).detach(), random(table, rng).detach());
        let fused = wrap::<4>(AB::rope(raw(&x), raw(&cos), raw(&sin), first));
        let plain = reference::rope(x.clone(), cos.narrow(0, first, seq), sin.narrow(0, first, seq));
        assert_same!("rope", fused, plain, rng, [x]);
    }
}

#[test]
fn cross_entropy_agrees_over_several_blocks() {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    for (rows, vocab, d_model) in [(1, 2, 4), (37, 65, 8), (700, 4096, 16)] {
        let (hidden, embedding) = (random([rows, d_model], rng), random([vocab, d_model], rng));
        let targets = ids((0..rows).map(|_| rng.random_range(0..vocab as i32)).collect(), [rows]);
        let fused = wrap::<2>(AB::tied_cross_entropy(raw(&hidden), raw(&embedding), targets.clone().into_primitive()));
        let plain = reference::tied_cross_entropy(hidden.clone(), embedding.clone(), targets);
        assert_same!("cross-entropy", fused, plain, rng, [hidden, embedding]);
    }
}

/// Segments as packing makes them (runs, then padding), or scattered, or all padding.
fn segments(kind: usize, batch: usize, len: usize, rng: &mut ChaCha8Rng) -> Vec<i32> {
    (0..batch)
        .flat_map(|_| {
            let mut segment = 1;
            (0..len)
                .map(|i| match kind {
                    0 => {
                        segment += i32::from(rng.random_bool(0.2));
                        if i > len * 3 / 4 { 0 } else { segment }
                    }
                    1 => rng.random_range(0..4),
                    _ => 0,
                })
                .collect::<Vec<i32>>()
        })
        .collect()
}

#[test]
fn attention_agrees_under_every_mask() {
    let rng = &mut ChaCha8Rng::seed_from_u64(4);
    let sizes =
        [(1, 1, 1, 1, 1, 2), (2, 7, 7, 4, 2, 8), (2, 5, 11, 4, 1, 4), (3, 33, 40, 6, 3, 16), (1, 64, 64, 2, 2, 32)];
    for (batch, q_len, k_len, heads, kv_heads, head_dim) in sizes {
        for kind in 0..3 {
            for (has_queries, has_keys, causal) in [
                (false, false, false),
                (false, false, true),
                (false, true, false),
                (false, true, true),
                (true, true, false),
                (true, true, true),
            ] {
                let q = random([batch, q_len, heads, head_dim], rng);
                let (k, v) =
                    (random([batch, k_len, kv_heads, head_dim], rng), random([batch, k_len, kv_heads, head_dim], rng));
                let query_segments = ids(segments(kind, batch, q_len, rng), [batch, q_len]);
                let key_segments = ids(segments(kind, batch, k_len, rng), [batch, k_len]);
                let mask = MaskPrimitive::<AB> {
                    query_segments: has_queries.then(|| query_segments.into_primitive()),
                    key_segments: has_keys.then(|| key_segments.into_primitive()),
                    causal,
                };
                let fused = wrap::<4>(AB::grouped_query_attention(raw(&q), raw(&k), raw(&v), mask.clone()));
                let plain = reference::attention(q.clone(), k.clone(), v.clone(), &mask);
                let what = format!("attention {batch} {q_len} {k_len} {heads} {kv_heads}, segments {kind}, {mask:?}");
                assert_same!(&what, fused, plain, rng, [q, k, v]);
            }
        }
    }
}

#[test]
fn the_attention_on_one_key_agrees_and_is_finite_where_that_key_is_masked() {
    let rng = &mut ChaCha8Rng::seed_from_u64(12);
    for (batch, q_len, k_len, heads, kv_heads, head_dim) in
        [(1, 3, 4, 1, 1, 2), (2, 9, 21, 4, 2, 8), (3, 40, 70, 3, 3, 16)]
    {
        for (kind, has_mask) in [(0, false), (0, true), (1, true), (2, true)] {
            let q = random([batch, q_len, heads, head_dim], rng);
            let k = random([batch, k_len, kv_heads, head_dim], rng);
            let (of_queries, of_keys) = (segments(kind, batch, q_len, rng), segments(kind, batch, k_len, rng));
            let origins: Vec<i32> = (0..batch * q_len).map(|_| rng.random_range(0..k_len as i32)).collect();
            let is_masked: Vec<bool> = (0..batch * q_len)
                .map(|i| {
                    let key = of_keys[i / q_len * k_len + origins[i] as usize];
                    has_mask && (key == 0 || key != of_queries[i])
                })
                .collect();
            let mask = MaskPrimitive::<AB> {
                query_segments: has_mask.then(|| ids(of_queries, [batch, q_len]).into_primitive()),
                key_segments: has_mask.then(|| ids(of_keys, [batch, k_len]).into_primitive()),
                causal: false,
            };
            let origins = ids(origins, [batch, q_len]);
            let fused = AB::attention_log_weight(raw(&q), raw(&k), origins.clone().into_primitive(), mask.clone());
            let fused = wrap::<2>(fused);
            let all: Vec<f32> = fused.clone().inner().into_data().to_vec().unwrap();
            assert!(all.iter().all(|x| x.is_finite()), "{all:?}");
            let is_masked = Tensor::from_data(TensorData::new(is_masked, [batch, q_len]), &Default::default());
            let visible = |x: Tensor<AB, 2>| x.mask_fill(is_masked.clone(), 0.0);
            let plain = reference::attention_log_weight(q.clone(), k.clone(), origins.clone(), &mask);
            let what = format!("{batch} {q_len} {k_len} {heads} {kv_heads}, segments {kind}, {mask:?}");
            assert_same!(&what, visible(fused), visible(plain), rng, [q, k]);

            // The definition of the gradients that kernels are tested against.
            let grad = random([batch, q_len], rng).inner().mask_fill(is_masked.clone().inner(), 0.0);
            let inner_mask = MaskPrimitive::<Flex> {
                query_segments: mask.query_segments.clone(),
                key_segments: mask.key_segments.clone(),
                causal: false,
            };
            let inputs = [q.clone().inner(), k.clone().inner()];
            let written =
                reference::attention_log_weight_backward(inputs, origins.clone().inner(), &inner_mask, grad.clone());
            let derived = reference::attention_log_weight(q.clone(), k.clone(), origins, &mask);
            let derived = (visible(derived) * Tensor::from_inner(grad)).sum().backward();
            for (input, written) in [&q, &k].into_iter().zip(written) {
                assert_close(&what, written, input.grad(&derived).unwrap());
            }
        }
    }
}

/// Two segments of queries over keys of the first alone: the second sees no key.
fn half_blind_mask() -> MaskPrimitive<AB> {
    MaskPrimitive {
        query_segments: Some(ids(vec![1, 1, 2, 2], [1, 4]).into_primitive()),
        key_segments: Some(ids(vec![1, 1, 1, 0, 0], [1, 5]).into_primitive()),
        causal: false,
    }
}

fn is_zero<const D: usize>(tensor: Tensor<Flex, D>) -> bool {
    tensor.into_data().convert::<f32>().to_vec::<f32>().unwrap().iter().all(|x| *x == 0.0)
}

#[test]
fn a_query_that_sees_no_key_gives_zero_and_passes_no_gradient_in_f32_and_bf16() {
    let rng = &mut ChaCha8Rng::seed_from_u64(8);
    for dtype in [FloatDType::F32, FloatDType::BF16] {
        let (q, k, v) = (random([1, 4, 2, 8], rng), random([1, 5, 1, 8], rng), random([1, 5, 1, 8], rng));
        let mask = half_blind_mask();
        let attend = |is_fused: bool| {
            let [q, k, v] = [&q, &k, &v].map(|x| x.clone().cast(dtype));
            let out = if is_fused {
                wrap::<4>(AB::grouped_query_attention(raw(&q), raw(&k), raw(&v), mask.clone()))
            } else {
                reference::attention(q, k, v, &mask)
            };
            out.cast(FloatDType::F32)
        };
        for is_fused in [true, false] {
            let out = attend(is_fused).inner();
            assert!(!is_zero(out.clone().narrow(1, 0, 2)), "fused: {is_fused}, what sees keys");
            assert!(is_zero(out.narrow(1, 2, 2)), "fused: {is_fused}, what sees none");
            let of_seeing = attend(is_fused).narrow(1, 0, 2).sum().backward();
            let of_all = attend(is_fused).sum().backward();
            assert!(is_zero(q.grad(&of_all).unwrap().narrow(1, 2, 2)), "fused: {is_fused}");
            for x in [&q, &k, &v] {
                let difference = x.grad(&of_all).unwrap() - x.grad(&of_seeing).unwrap();
                assert!(is_zero(difference), "fused: {is_fused}, blind queries change a gradient");
            }
        }
    }
}

#[test]
fn a_causal_query_before_the_first_key_of_its_segment_gives_zero() {
    let rng = &mut ChaCha8Rng::seed_from_u64(9);
    let (q, k, v) = (random([1, 3, 1, 4], rng), random([1, 3, 1, 4], rng), random([1, 3, 1, 4], rng));
    let mask = MaskPrimitive::<AB> {
        query_segments: None,
        key_segments: Some(ids(vec![0, 1, 1], [1, 3]).into_primitive()),
        causal: true,
    };
    let fused = wrap::<4>(AB::grouped_query_attention(raw(&q), raw(&k), raw(&v), mask.clone()));
    for out in [fused, reference::attention(q, k, v, &mask)] {
        assert!(is_zero(out.clone().inner().narrow(1, 0, 1)));
        assert!(!is_zero(out.inner().narrow(1, 1, 2)));
    }
}

#[test]
fn a_query_of_nan_gives_nan_and_leaves_the_others_alone() {
    let rng = &mut ChaCha8Rng::seed_from_u64(10);
    let nan = Tensor::<AB, 4>::full([1, 1, 2, 8], f32::NAN, &Default::default());
    let q = Tensor::cat(vec![nan, random([1, 3, 2, 8], rng)], 1);
    let (k, v) = (random([1, 5, 1, 8], rng), random([1, 5, 1, 8], rng));
    let no_mask = MaskPrimitive { query_segments: None, key_segments: None, causal: false };
    for mask in [no_mask, half_blind_mask()] {
        let fused = wrap::<4>(AB::grouped_query_attention(raw(&q), raw(&k), raw(&v), mask.clone()));
        for out in [fused, reference::attention(q.clone(), k.clone(), v.clone(), &mask)] {
            let values: Vec<f32> = out.inner().into_data().to_vec().unwrap();
            assert!(values[..16].iter().all(|x| x.is_nan()), "{values:?}");
            assert!(values[16..].iter().all(|x| x.is_finite()), "{values:?}");
        }
    }
}

#[test]
fn in_bf16_positions_are_turned_by_tables_in_f32() {
    let rng = &mut ChaCha8Rng::seed_from_u64(11);
    let (seq, half) = (40, 4);
    let x = random([1, seq, 2, 2 * half], rng).inner().cast(FloatDType::BF16);
    let angles: Vec<f32> = (0..seq * half).map(|i| 900.0 + i as f32 * 0.37).collect();
    let angles = Tensor::<Flex, 2>::from_data(TensorData::new(angles, [seq, half]), &Default::default());
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    let exact = reference::rope(x.clone().cast(FloatDType::F32), cos.clone(), sin.clone());
    let [x, cos, sin] = [x.into_primitive(), cos.into_primitive(), sin.into_primitive()].map(|p| p.tensor());
    let turned = Tensor::<Flex, 4>::from_primitive(TensorPrimitive::Float(Flex::rope(x, cos, sin, 0)));
    assert_eq!(turned.dtype(), burn::tensor::DType::BF16);
    // The result alone is rounded.
    let rounded = exact.cast(FloatDType::BF16).cast(FloatDType::F32);
    assert!(is_zero(turned.cast(FloatDType::F32) - rounded));
}

#[test]
fn plain_backward_formulas_agree_with_the_gradients_of_the_plain_graph() {
    let rng = &mut ChaCha8Rng::seed_from_u64(5);
    let (q, k, v) = (random([2, 6, 4, 8], rng), random([2, 9, 2, 8], rng), random([2, 9, 2, 8], rng));
    let mask = MaskPrimitive::<AB> {
        query_segments: Some(ids(segments(0, 2, 6, rng), [2, 6]).into_primitive()),
        key_segments: Some(ids(segments(0, 2, 9, rng), [2, 9]).into_primitive()),
        causal: true,
    };
    let out = reference::attention(q.clone(), k.clone(), v.clone(), &mask);
    let weights = random(out.dims(), rng).detach();
    let inner_mask = MaskPrimitive::<Flex> {
        query_segments: mask.query_segments.clone(),
        key_segments: mask.key_segments.clone(),
        causal: true,
    };
    let inputs = [q.clone().inner(), k.clone().inner(), v.clone().inner()];
    let [dq, dk, dv] = reference::attention_backward(inputs, &inner_mask, out.clone().inner(), weights.clone().inner());
    let grads = (out * weights).sum().backward();
    for (what, ours, input) in [("q", dq, q), ("k", dk, k), ("v", dv, v)] {
        assert_close(what, ours, input.grad(&grads).unwrap());
    }

    let (hidden, embedding) = (random([5, 8], rng), random([11, 8], rng));
    let targets = ids(vec![0, 3, 10, 3, 7], [5]);
    let out = reference::tied_cross_entropy(hidden.clone(), embedding.clone(), targets.clone());
    let weights = random(out.dims(), rng).detach();
    let (dhidden, dembedding) = reference::tied_cross_entropy_backward(
        hidden.clone().inner(),
        embedding.clone().inner(),
        Tensor::from_primitive(targets.into_primitive()),
        weights.clone().inner(),
    );
    let grads = (out * weights).sum().backward();
    assert_close("hidden", dhidden, hidden.grad(&grads).unwrap());
    assert_close("embedding", dembedding, embedding.grad(&grads).unwrap());
}

#[test]
fn newton_schulz_is_the_plain_iteration_for_wide_tall_and_large_matrices() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for shape in [[3, 40, 72], [2, 200, 130], [1, 300, 300], [2, 1, 5], [1, 128, 256], [1, 512, 257]] {
        let x: Tensor<Flex, 3> = random(shape, &mut rng).inner();
        let fused = Flex::newton_schulz(x.clone().into_primitive().tensor(), 5);
        let fused = Tensor::<Flex, 3>::from_primitive(TensorPrimitive::Float(fused));
        assert_close(&format!("{shape:?}"), fused, reference::newton_schulz(x, 5));
    }
}
