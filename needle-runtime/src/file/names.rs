//! Names of parameters: those of the published Hugging Face layout, which the code uses, and those
//! in an artifact.

/// Name of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the norm after the last encoder layer.
pub const ENCODER_NORM: &str = "model.encoder.final_norm.weight";
/// Name of the norm after the last decoder layer.
pub const DECODER_NORM: &str = "model.decoder.norm.weight";
/// Name of the first matrix of the retrieval head.
pub const HEAD_HIDDEN: &str = "retrieval_head.hidden.weight";
/// Name of the bias of the first matrix.
pub const HEAD_BIAS: &str = "retrieval_head.hidden.bias";
/// Name of the second matrix of the retrieval head.
pub const HEAD_PROJECTION: &str = "retrieval_head.proj.weight";
/// Name of the retrieval head's temperature. Training uses it; ranking does not.
pub const LOG_TEMP: &str = "retrieval_head.log_temp";

/// Names of one attention block with its norm and gate.
#[derive(Debug, Clone)]
pub struct BlockNames {
    /// Gain of the norm before the block.
    pub norm: String,
    /// Prefix of the names of the projections and inner norms.
    attention: String,
    /// The gate.
    pub gate: String,
}

impl BlockNames {
    /// Self-attention of encoder layer `layer`.
    pub fn encoder(layer: usize) -> Self {
        let prefix = format!("model.encoder.layers.{layer}");
        Self {
            norm: format!("{prefix}.input_layernorm.weight"),
            attention: format!("{prefix}.self_attn"),
            gate: format!("{prefix}.attn_gate"),
        }
    }

    /// Self-attention of decoder layer `layer`.
    pub fn decoder(layer: usize) -> Self {
        let prefix = format!("model.decoder.layers.{layer}");
        Self {
            norm: format!("{prefix}.input_layernorm.weight"),
            attention: format!("{prefix}.self_attn"),
            gate: format!("{prefix}.self_attn_gate"),
        }
    }

    /// Cross-attention of decoder layer `layer`.
    pub fn cross(layer: usize) -> Self {
        let prefix = format!("model.decoder.layers.{layer}");
        Self {
            norm: format!("{prefix}.encoder_attn_layer_norm.weight"),
            attention: format!("{prefix}.encoder_attn"),
            gate: format!("{prefix}.cross_attn_gate"),
        }
    }

    /// The weight of projection `which`: `q`, `k`, `v` or `out`.
    pub fn projection(&self, which: &str) -> String {
        format!("{}.{which}_proj.weight", self.attention)
    }

    /// The gain of the norm over each head; `which` is `q` or `k`.
    pub fn head_norm(&self, which: &str) -> String {
        format!("{}.{which}_norm.weight", self.attention)
    }
}

/// The name in an artifact of the parameter that is called `name` in a checkpoint.
pub fn artifact_name(name: &str) -> String {
    let renamed = match name {
        EMBEDDING => "embedding",
        ENCODER_NORM => "encoder_final_norm",
        DECODER_NORM => "decoder_final_norm",
        HEAD_HIDDEN => "contrastive_hidden_kernel",
        HEAD_BIAS => "contrastive_hidden_bias",
        HEAD_PROJECTION => "contrastive_proj_kernel",
        LOG_TEMP => "log_temp",
        layer => {
            let is_encoder = layer.starts_with("model.encoder");
            return layer
                .replace("model.encoder.layers.", "encoder.")
                .replace("model.decoder.layers.", "decoder.")
                .replace(".encoder_attn_layer_norm.weight", ".cross_attn_norm")
                .replace(".encoder_attn.", ".cross_attn.")
                .replace(".input_layernorm.weight", if is_encoder { ".norm" } else { ".self_attn_norm" })
                .replace(".q_proj.weight", ".wq")
                .replace(".k_proj.weight", ".wk")
                .replace(".v_proj.weight", ".wv")
                .replace(".out_proj.weight", ".wo")
                .replace("_norm.weight", "_norm")
                .replace(".attn_gate", ".self_attn_gate");
        }
    };
    renamed.to_owned()
}
