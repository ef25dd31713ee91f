//! Kernels for burn-flex. Rows stay in cache, exponentials and sums are vectorized, and no tensor
//! of size `[batch, heads, seq, seq]` or `[rows, vocab]` is ever held.
//!
//! Vector instructions are chosen at run time by `multiversion`; matrix products are `gemm`'s, on
//! strided views without copies. Work is split into pieces of a fixed size whose partial sums are
//! added in order, so that results do not depend on the number of threads. Tensors that are not f32
//! fall back to [`super::reference`].

mod attention;
mod cross_entropy;
mod gemm;
mod log_weight;
mod math;
mod newton_schulz;
mod rows;

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{Flex, FlexTensor, Layout};

use super::{FusedOps, MaskPrimitive, float, int, primitive, reference};

/// The values of a contiguous f32 tensor.
struct Values(FlexTensor);

impl Values {
    fn new(tensor: &FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    fn get(&self) -> &[f32] {
        self.0.storage()
    }

    fn dims<const D: usize>(&self) -> [usize; D] {
        self.0.layout().shape().dims()
    }
}

fn tensor<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(dims)), DType::F32)
}

fn integers(tensor: &FlexTensor) -> Vec<i32> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor.storage::<i32>().to_vec(),
        DType::I64 => tensor.storage::<i64>().iter().map(|&x| x as i32).collect(),
        // No ids of this crate have another type; burn's conversion is correct for any.
        _ => int::<Flex, 1>(tensor).into_data().convert::<i32>().into_vec().unwrap_or_default(),
    }
}

fn all_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32)
}

impl FusedOps for Flex {
    fn zc_rms_norm(x: FloatTensor<Self>, gain: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        if !all_f32(&[&x, &gain]) {
            return primitive(reference::zc_rms_norm::<Self>(float(x), float(gain), epsilon));
        }
        let (x, gain) = (Values::new(&x), Values::new(&gain));
        tensor(rows::norm(x.get(), gain.get(), epsilon), x.dims::<2>())
    }

    fn zc_rms_norm_backward(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&x, &gain, &grad]) {
            let (dx, dgain) = reference::zc_rms_norm_backward::<Self>(float(x), float(gain), float(grad), epsilon);
            return (primitive(dx), primitive(dgain));
        }
        let (x, gain, grad) = (Values::new(&x), Values::new(&gain), Values::new(&grad));
        let (dx, dgain) = rows::norm_backward(x.get(), gain.get(), grad.get(), epsilon);
        (tensor(dx, x.dims::<2>()), tensor(dgain, gain.dims::<1>()))
    }

    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, first: usize) -> FloatTensor<Self> {
        if !all_f32(&[&x, &cos, &sin]) {
            let x = float::<Self, 4>(x);
            let [_, seq, _, _] = x.dims();
            let [cos, sin] = [cos, sin].map(|table| float::<Self, 2>(table).narrow(0, first, seq));
            return primitive(reference::rope::<Self>(x, cos, sin));
        }
        let (x, cos, sin) = (Values::new(&x), Values::new(&cos), Values::new(&sin));
        let [_, seq, heads, head_dim] = x.dims();
        let [cos, sin] = [&cos, &sin].map(|table| &table.get()[first * head_dim / 2..]);
        tensor(rows::rope(x.get(), cos, sin, [seq, heads, head_dim]), x.dims::<4>())
    }

    fn grouped_query_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: MaskPrimitive<Self>,
    ) -> FloatTensor<Self> {
        if !all_f32(&[&q, &k, &v]) {
            return primitive(reference::attention::<Self>(float(q), float(k), float(v), &mask));
        }
        let (q, k, v) = (Values::new(&q), Values::new(&k), Values::new(&v));
        let shape = attention::AttentionShape::new(q.dims(), k.dims());
        let mask = attention::Mask::new(&mask, &shape);
        tensor(attention::forward(&shape, &mask, [q.get(), k.get(), v.get()]), q.dims::<4>())
    }

    fn grouped_query_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: MaskPrimitive<Self>,
        out: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        if !all_f32(&[&q, &k, &v, &out, &grad]) {
            let inputs = [float(q), float(k), float(v)];
            return reference::attention_backward::<Self>(inputs, &mask, float(out), float(grad)).map(primitive);
        }
        let [q, k, v, out, grad] = [&q, &k, &v, &out, &grad].map(Values::new);
        let shape = attention::AttentionShape::new(q.dims(), k.dims());
        let mask = attention::Mask::new(&mask, &shape);
        let [dq, dk, dv] = attention::backward(&shape, &mask, [q.get(), k.get(), v.get()], out.get(), grad.get());
        [tensor(dq, q.dims::<4>()), tensor(dk, k.dims::<4>()), tensor(dv, k.dims::<4>())]
    }

    fn attention_log_weight(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        origins: IntTensor<Self>,
        mask: MaskPrimitive<Self>,
    ) -> FloatTensor<Self> {
        if !all_f32(&[&q, &k]) {
            return primitive(reference::attention_log_weight::<Self>(float(q), float(k), int(origins), &mask));
        }
        let (q, k) = (Values::new(&q), Values::new(&k));
        let shape = attention::AttentionShape::new(q.dims(), k.dims());
        let mask = attention::Mask::new(&mask, &shape);
        let values = log_weight::forward(&shape, &mask, [q.get(), k.get()], &integers(&origins));
        tensor(values, [shape.batch, shape.q_len])
    }

    fn attention_log_weight_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        origins: IntTensor<Self>,
        mask: MaskPrimitive<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        if !all_f32(&[&q, &k, &grad]) {
            let (inputs, origins) = ([float(q), float(k)], int(origins));
            return reference::attention_log_weight_backward::<Self>(inputs, origins, &mask, float(grad))
                .map(primitive);
        }
        let [q, k, grad] = [&q, &k, &grad].map(Values::new);
        let shape = attention::AttentionShape::new(q.dims(), k.dims());
        let mask = attention::Mask::new(&mask, &shape);
        let [dq, dk] = log_weight::backward(&shape, &mask, [q.get(), k.get()], &integers(&origins), grad.get());
        [tensor(dq, q.dims::<4>()), tensor(dk, k.dims::<4>())]
    }

    fn gated_residual(x: FloatTensor<Self>, branch: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&x, &branch, &gate]) {
            return primitive(reference::gated_residual::<Self>(float(x), float(branch), float(gate)));
        }
        let (x, branch, gate) = (Values::new(&x), Values::new(&branch), Values::new(&gate));
        tensor(rows::gated_residual(x.get(), branch.get(), gate.get()[0]), x.dims::<2>())
    }

    fn gated_residual_backward(
        branch: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&branch, &gate, &grad]) {
            let (dbranch, dgate) = reference::gated_residual_backward::<Self>(float(branch), float(gate), float(grad));
            return (primitive(dbranch), primitive(dgate));
        }
        let (branch, gate, grad) = (Values::new(&branch), Values::new(&gate), Values::new(&grad));
        let (dbranch, dgate) = rows::gated_residual_backward(branch.get(), gate.get()[0], grad.get());
        (tensor(dbranch, branch.dims::<2>()), tensor(vec![dgate], [1]))
    }

    fn tied_cross_entropy(
        hidden: FloatTensor<Self>,
        embedding: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        if !all_f32(&[&hidden, &embedding]) {
            return primitive(reference::tied_cross_entropy::<Self>(float(hidden), float(embedding), int(targets)));
        }
        let (hidden, embedding) = (Values::new(&hidden), Values::new(&embedding));
        let [rows, d_model] = hidden.dims();
        tensor(cross_entropy::forward(hidden.get(), embedding.get(), &integers(&targets), d_model), [rows, 2])
    }

    fn tied_cross_entropy_backward(
        hidden: FloatTensor<Self>,
        embedding: FloatTensor<Self>,
        targets: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&hidden, &embedding, &grad]) {
            let (dhidden, dembedding) = reference::tied_cross_entropy_backward::<Self>(
                float(hidden),
                float(embedding),
                int(targets),
                float(grad),
            );
            return (primitive(dhidden), primitive(dembedding));
        }
        let [hidden, embedding, grad] = [&hidden, &embedding, &grad].map(Values::new);
        let [_, d_model] = hidden.dims();
        let (dhidden, dembedding) =
            cross_entropy::backward(hidden.get(), embedding.get(), &integers(&targets), grad.get(), d_model);
        (tensor(dhidden, hidden.dims::<2>()), tensor(dembedding, embedding.dims::<2>()))
    }

    fn newton_schulz(x: FloatTensor<Self>, steps: usize) -> FloatTensor<Self> {
        if !all_f32(&[&x]) {
            return primitive(reference::newton_schulz::<Self>(float(x), steps));
        }
        let x = Values::new(&x);
        let [batch, rows, columns] = x.dims();
        let (a, b, c) = reference::NEWTON_SCHULZ_COEFFICIENTS;
        let coefficients = (a as f32, b as f32, c as f32);
        let epsilon = reference::NEWTON_SCHULZ_EPSILON as f32;
        let values = newton_schulz::newton_schulz(x.get(), [rows, columns], coefficients, epsilon, steps);
        tensor(values, [batch, rows, columns])
    }
}
