//! `needle export`.

use std::path::PathBuf;

use clap::ValueEnum;
use needle_model::export::hf::Float;

use super::{checkpoint_at, print, print_json};
use crate::args::QuietArgs;
use needle_train::artifact;
use needle_train::artifact::Format;
use needle_train::out_dir::OutDir;

/// Export a deployable artifact, and verify it against the model
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle export runs/mine/best --format needle-rs --out dist/mine\n  needle export runs/mine/best --format \
                        onnx --out dist/mine-onnx\n  needle export runs/mine/best --format hf --dtype f32 --out dist/mine-hf\n\nThe \
                        artifact is read back and compared with the trainer's own model; if anything differs, --out is not written."
)]
pub struct ExportArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Format of the artifact
    #[arg(help_heading = "Artifact", long, value_enum)]
    format: FormatArg,
    /// Data type of the weights in the hf format
    #[arg(help_heading = "Artifact", long, value_enum, default_value = "bf16")]
    dtype: FloatArg,
    /// Directory to write, which must be new or empty
    #[arg(help_heading = "Artifact", long, value_name = "DIR")]
    out: PathBuf,
    /// Replace an earlier export or import in --out
    #[arg(help_heading = "Artifact", long)]
    force: bool,
    /// Do not compare the artifact with the model
    #[arg(help_heading = "Artifact", long)]
    no_verify: bool,
    /// Print one JSON object
    #[arg(help_heading = "Output", long)]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    /// INT4 safetensors and vocab.txt, for the needle-infer crate and the needle-rs package
    NeedleRs,
    /// INT4 graphs, for onnxruntime
    Onnx,
    /// A Hugging Face directory
    Hf,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloatArg {
    /// Two bytes per weight
    Bf16,
    /// Four bytes per weight
    F32,
}

impl ExportArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let float = match self.dtype {
            FloatArg::Bf16 => Float::Bf16,
            FloatArg::F32 => Float::F32,
        };
        let format = match self.format {
            FormatArg::NeedleRs => Format::NeedleRs,
            FormatArg::Onnx => Format::Onnx,
            FormatArg::Hf => Format::Hf(float),
        };
        let checkpoint = checkpoint_at(&self.checkpoint)?;
        let out = OutDir::new(&self.out, &checkpoint, self.force)?;
        let exported = artifact::export(&checkpoint, format, &out, !self.no_verify)?;
        if self.json {
            return print_json(&exported).map(|()| true);
        }
        for (name, bytes) in &exported.files {
            print(format_args!("{:<32} {:>9.3} MB", self.out.join(name).display(), *bytes as f64 / 1e6))?;
        }
        let all: usize = exported.files.values().sum();
        print(format_args!("{:<32} {:>9.3} MB", "total", all as f64 / 1e6))?;
        if let Some(verified) = &exported.verified {
            print(format_args!(
                "verified on {} prompts: {} identical tensors, logits within {:.1e}, {} identical greedy tokens",
                verified.inputs, verified.tensors, verified.max_logit_difference, verified.tokens
            ))?;
        }
        Ok(true)
    }
}
