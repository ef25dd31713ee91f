//! The precision at which a model is evaluated, exported and run.

/// The precision at which a model is evaluated, exported and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As trained.
    F32,
    /// Q, K, V and O in INT4 with scales in f16, the embedding in bf16, as in the `needle-rs`
    /// artifact.
    Int4,
    /// Q, K, V, O and the embedding in INT4 with scales in f16, as in the `onnx` artifact.
    Int4Embedding,
}

impl Precision {
    /// The precision of the shipped models, and the default for answers and measurements.
    pub const SHIPPED: Self = Self::Int4;
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Int4 => "int4",
            Self::Int4Embedding => "int4-embedding",
        })
    }
}
