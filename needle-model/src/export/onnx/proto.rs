//! The part of ONNX's file format that we write and read back (`onnx.proto` of onnx 1.16, IR
//! version 8).

use prost::Message;

/// `TensorProto.DataType`.
pub mod data_type {
    #![allow(missing_docs, reason = "the names are ONNX's")]
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT64: i32 = 7;
    pub const FLOAT16: i32 = 10;
}

/// `AttributeProto.AttributeType`.
pub mod attribute_type {
    #![allow(missing_docs, reason = "the names are ONNX's")]
    pub const INT: i32 = 2;
    pub const INTS: i32 = 7;
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])* #[derive(Clone, PartialEq, Message)] pub struct $name {
            $($(#[$field_doc])* #[allow(missing_docs, reason = "the names are ONNX's")] pub $field: $type,)*
        })*
    };
}

messages! {
    /// A model.
    ModelProto {
        #[prost(int64, tag = "1")] ir_version: i64,
        #[prost(message, repeated, tag = "8")] opset_import: Vec<OperatorSetIdProto>,
        #[prost(string, tag = "2")] producer_name: String,
        #[prost(string, tag = "3")] producer_version: String,
        #[prost(string, tag = "6")] doc_string: String,
        #[prost(message, optional, tag = "7")] graph: Option<GraphProto>,
    }
    /// A set of operators.
    OperatorSetIdProto {
        #[prost(string, tag = "1")] domain: String,
        #[prost(int64, tag = "2")] version: i64,
    }
    /// A graph.
    GraphProto {
        #[prost(message, repeated, tag = "1")] node: Vec<NodeProto>,
        #[prost(string, tag = "2")] name: String,
        #[prost(message, repeated, tag = "5")] initializer: Vec<TensorProto>,
        #[prost(message, repeated, tag = "11")] input: Vec<ValueInfoProto>,
        #[prost(message, repeated, tag = "12")] output: Vec<ValueInfoProto>,
    }
    /// An operation.
    NodeProto {
        #[prost(string, repeated, tag = "1")] input: Vec<String>,
        #[prost(string, repeated, tag = "2")] output: Vec<String>,
        #[prost(string, tag = "3")] name: String,
        #[prost(string, tag = "4")] op_type: String,
        #[prost(message, repeated, tag = "5")] attribute: Vec<AttributeProto>,
        #[prost(string, tag = "7")] domain: String,
    }
    /// A setting of an operation.
    AttributeProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(float, optional, tag = "2")] f: Option<f32>,
        #[prost(int64, optional, tag = "3")] i: Option<i64>,
        #[prost(int64, repeated, packed = "false", tag = "8")] ints: Vec<i64>,
        #[prost(int32, optional, tag = "20")] r#type: Option<i32>,
    }
    /// A constant.
    TensorProto {
        #[prost(int64, repeated, packed = "false", tag = "1")] dims: Vec<i64>,
        #[prost(int32, tag = "2")] data_type: i32,
        #[prost(string, tag = "8")] name: String,
        #[prost(bytes = "vec", optional, tag = "9")] raw_data: Option<Vec<u8>>,
        #[prost(message, repeated, tag = "13")] external_data: Vec<StringStringEntryProto>,
        #[prost(int32, optional, tag = "14")] data_location: Option<i32>,
    }
    /// A key and its value.
    StringStringEntryProto {
        #[prost(string, tag = "1")] key: String,
        #[prost(string, tag = "2")] value: String,
    }
    /// An input or output.
    ValueInfoProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(message, optional, tag = "2")] r#type: Option<TypeProto>,
    }
    /// Its type.
    TypeProto {
        #[prost(message, optional, tag = "1")] tensor_type: Option<TensorTypeProto>,
    }
    /// Its elements and shape.
    TensorTypeProto {
        #[prost(int32, tag = "1")] elem_type: i32,
        #[prost(message, optional, tag = "2")] shape: Option<TensorShapeProto>,
    }
    /// A shape.
    TensorShapeProto {
        #[prost(message, repeated, tag = "1")] dim: Vec<Dimension>,
    }
    /// One dimension: a number or a name.
    Dimension {
        #[prost(int64, optional, tag = "1")] dim_value: Option<i64>,
        #[prost(string, optional, tag = "2")] dim_param: Option<String>,
    }
}
