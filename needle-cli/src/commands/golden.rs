//! `needle golden`.

use std::path::PathBuf;

use needle_model::golden::{compute, read_inputs, write_outputs};
use needle_model::quant::fake_quant::at_precision;

use super::{PrecisionArg, load};
use crate::args::QuietArgs;

/// Write the model's outputs for given token ids, as golden vectors for other runtimes
#[derive(clap::Args)]
#[command(
    after_help = "Inputs: int32 or int64 tensors src [batch, enc], tgt [batch, dec], and optionally enc_segments, dec_segments.\n\
                        Outputs, f32: encoder_out [batch, enc, d], logits [batch, dec, vocab], embedding [batch, dim].\n\n\
                        Example:\n  needle golden runs/mine/best --inputs ids.safetensors --out golden.safetensors"
)]
pub struct GoldenArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Token ids (safetensors)
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// File to write (safetensors)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Precision of the weights: as trained, or as exported
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl GoldenArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let checkpoint = load(&self.checkpoint)?;
        let inputs = read_inputs(&self.inputs, checkpoint.config.vocab_size, &Default::default())?;
        let (longest_enc, longest_dec) = (inputs.src.dims()[1], inputs.tgt.dims()[1]);
        let most = checkpoint.config.max_len();
        anyhow::ensure!(
            longest_enc <= most && longest_dec <= most,
            "{}: rows of {longest_enc} and {longest_dec} tokens, but the model has {most} positions",
            self.inputs.display()
        );
        let model = at_precision(checkpoint.model, self.precision.into());
        write_outputs(&self.out, compute(&model, inputs))?;
        Ok(true)
    }
}
