//! Builds an ONNX graph: one method per operation, which returns the name of the operation's
//! output.

use std::collections::HashMap;

use super::proto::{
    AttributeProto, Dimension, GraphProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, attribute_type, data_type,
};

/// The domain of onnxruntime's own operations.
pub const CONTRIB: &str = "com.microsoft";
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;
/// Alignment of each weight in bytes, so that a loader can memory-map it.
const ALIGNMENT: usize = 64;

/// A dimension of an input or output.
#[derive(Clone, Copy)]
pub enum Dim {
    /// A known length.
    Is(usize),
    /// A dynamic length, by name.
    Free(&'static str),
}

/// Weights in a file next to the graphs. A weight that several graphs use is stored once.
#[derive(Default)]
pub struct Weights {
    /// The file's contents.
    pub bytes: Vec<u8>,
    places: HashMap<String, (usize, usize)>,
}

impl Weights {
    /// Stores `bytes` under `name`, unless they are stored already; returns offset and length.
    fn place(&mut self, name: &str, bytes: &[u8]) -> (usize, usize) {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let place = (self.bytes.len(), bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.places.insert(name.to_owned(), place);
        place
    }
}

/// A graph under construction.
#[derive(Default)]
pub struct Graph {
    proto: GraphProto,
    constants: HashMap<String, String>,
}

/// The name of a value in a graph.
pub type Value = String;

fn value_info(name: &str, elem_type: i32, dims: &[Dim]) -> ValueInfoProto {
    let dimension = |dim: &Dim| match dim {
        Dim::Is(length) => Dimension { dim_value: Some(*length as i64), dim_param: None },
        Dim::Free(name) => Dimension { dim_value: None, dim_param: Some((*name).to_owned()) },
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dimension).collect() };
    let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(shape) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}

/// An integer attribute.
pub fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i: Some(value as i64),
        r#type: Some(attribute_type::INT),
        ..Default::default()
    }
}

fn signed(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(value), r#type: Some(attribute_type::INT), ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ints: values.to_vec(),
        r#type: Some(attribute_type::INTS),
        ..Default::default()
    }
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self { proto: GraphProto { name: name.to_owned(), ..Default::default() }, constants: HashMap::new() }
    }

    /// The finished graph.
    pub fn finish(self) -> GraphProto {
        self.proto
    }

    /// An input.
    pub fn input(&mut self, name: &str, elem_type: i32, dims: &[Dim]) -> Value {
        self.proto.input.push(value_info(name, elem_type, dims));
        name.to_owned()
    }

    /// Makes `value` an output called `name`.
    pub fn output(&mut self, value: &str, name: &str, dims: &[Dim]) {
        self.proto.node.push(NodeProto {
            input: vec![value.to_owned()],
            output: vec![name.to_owned()],
            op_type: "Identity".into(),
            ..Default::default()
        });
        self.proto.output.push(value_info(name, data_type::FLOAT, dims));
    }

    /// Adds an operation with one output.
    pub fn op(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> Value {
        self.op_of("", op_type, inputs, attribute)
    }

    /// As [`Graph::op`], for an operation of another domain.
    pub fn op_of(&mut self, domain: &str, op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> Value {
        let name = format!("{op_type}_{}", self.proto.node.len());
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op_type.to_owned(),
            attribute,
            domain: domain.to_owned(),
        });
        name
    }

    /// A small constant, kept in the graph.
    pub fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, data_type::FLOAT, dims, bytes)
    }

    /// A scalar f32 constant.
    pub fn float(&mut self, value: f32) -> Value {
        self.floats(&format!("float_{value:?}"), &[], &[value])
    }

    /// A constant vector of integers.
    pub fn int64s(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name = format!("ints_{}", values.iter().map(i64::to_string).collect::<Vec<_>>().join("_"));
        self.constant(&name, data_type::INT64, &[values.len()], bytes)
    }

    /// A scalar integer constant.
    pub fn int64(&mut self, value: i64) -> Value {
        self.constant(&format!("int_{value}"), data_type::INT64, &[], value.to_le_bytes().to_vec())
    }

    fn constant(&mut self, name: &str, data_type: i32, dims: &[usize], bytes: Vec<u8>) -> Value {
        if self.constants.insert(name.to_owned(), String::new()).is_none() {
            self.proto.initializer.push(TensorProto {
                dims: dims.iter().map(|d| *d as i64).collect(),
                data_type,
                name: name.to_owned(),
                raw_data: Some(bytes),
                ..Default::default()
            });
        }
        name.to_owned()
    }

    /// A constant in the weights file: the bytes that are called `stored` there, with the shape
    /// `dims`.
    pub fn weight(
        &mut self,
        weights: &mut Weights,
        file: &str,
        (name, stored): (&str, &str),
        data_type: i32,
        dims: &[usize],
        bytes: &[u8],
    ) -> Value {
        if self.constants.insert(name.to_owned(), String::new()).is_none() {
            let (offset, length) = weights.place(stored, bytes);
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
            self.proto.initializer.push(TensorProto {
                dims: dims.iter().map(|d| *d as i64).collect(),
                data_type,
                name: name.to_owned(),
                external_data: vec![
                    entry("location", file.to_owned()),
                    entry("offset", offset.to_string()),
                    entry("length", length.to_string()),
                ],
                data_location: Some(EXTERNAL),
                ..Default::default()
            });
        }
        name.to_owned()
    }

    /// `a + b`.
    pub fn add(&mut self, a: &str, b: &str) -> Value {
        self.op("Add", &[a, b], vec![])
    }

    /// `a * b`.
    pub fn mul(&mut self, a: &str, b: &str) -> Value {
        self.op("Mul", &[a, b], vec![])
    }

    /// The matrix product.
    pub fn matmul(&mut self, a: &str, b: &str) -> Value {
        self.op("MatMul", &[a, b], vec![])
    }

    /// `x` with another shape; 0 keeps a dimension, -1 is inferred.
    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> Value {
        let shape = self.int64s(shape);
        self.op("Reshape", &[x, &shape], vec![])
    }

    /// `x` with its dimensions permuted.
    pub fn transpose(&mut self, x: &str, order: &[i64]) -> Value {
        self.op("Transpose", &[x], vec![ints("perm", order)])
    }

    /// Concatenates `values` along `axis`.
    pub fn concat(&mut self, values: &[&str], axis: i64) -> Value {
        self.op("Concat", values, vec![signed("axis", axis)])
    }

    /// Inserts dimensions of length 1.
    pub fn unsqueeze(&mut self, x: &str, axes: &[i64]) -> Value {
        let axes = self.int64s(axes);
        self.op("Unsqueeze", &[x, &axes], vec![])
    }

    /// Elements `from..to` of `axis`.
    pub fn slice(&mut self, x: &str, axis: i64, from: i64, to: i64) -> Value {
        let [from, to, axis] = [from, to, axis].map(|value| self.int64s(&[value]));
        self.op("Slice", &[x, &from, &to, &axis], vec![])
    }

    /// The length of dimension `axis`, as a scalar.
    pub fn length(&mut self, x: &str, axis: i64) -> Value {
        let shape = self.op("Shape", &[x], vec![]);
        let axis = self.int64(axis);
        self.op("Gather", &[&shape, &axis], vec![int("axis", 0)])
    }

    /// The mean over the last dimension, which is kept with length 1.
    pub fn mean_last(&mut self, x: &str) -> Value {
        self.op("ReduceMean", &[x], vec![ints("axes", &[-1]), int("keepdims", 1)])
    }

    /// The sum over `axis` (an input instead of an attribute from opset 13 on), which is kept with
    /// length 1.
    pub fn sum(&mut self, x: &str, axis: i64) -> Value {
        let axis = self.int64s(&[axis]);
        self.op("ReduceSum", &[x, &axis], vec![int("keepdims", 1)])
    }

    /// Softmax over the last dimension.
    pub fn softmax(&mut self, x: &str) -> Value {
        self.op("Softmax", &[x], vec![signed("axis", -1)])
    }

    /// Casts `x` to another type.
    pub fn cast(&mut self, x: &str, to: i32) -> Value {
        self.op("Cast", &[x], vec![signed("to", to.into())])
    }
}
