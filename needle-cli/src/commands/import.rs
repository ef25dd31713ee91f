//! `needle import`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use needle_data::Tokenizer;
use needle_model::checkpoint::directory;
use needle_model::checkpoint::{Checkpoint, files, load_config, weights_from_bytes};
use needle_model::import::{is_feed_forward, needle_pkl, needle_rs};
use needle_model::{ModelError, export};

use super::print;
use super::tokenizer::load_tokenizer;
use needle_train::device::Inference;

/// Turn a needle.pkl, a Hugging Face directory or a needle-rs artifact into a checkpoint
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle import needle.pkl --tokenizer needle.model --out runs/original\n  needle import \
                        huggingface_directory --out runs/published\n  needle import dist/needle-rs --out runs/back\n\nA pickle is read, \
                        not run: what it asks for beyond numbers and numpy arrays is refused by name."
)]
pub struct ImportArgs {
    /// A needle.pkl, a Hugging Face directory, or a needle-rs artifact
    source: PathBuf,
    /// The model's tokenizer, where the source has none: a SentencePiece .model or a tokenizer.json
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Directory of the checkpoint to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl ImportArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let device = Default::default();
        let checkpoint = if self.source.is_file() {
            let bytes = std::fs::read(&self.source).map_err(|e| ModelError::io(&self.source, e))?;
            let (config, model) = needle_pkl::read::<Inference>(&bytes, &self.source, &device)?;
            let Some(tokenizer) = &self.tokenizer else {
                anyhow::bail!("{}: a pickle holds no tokenizer; name it by --tokenizer", self.source.display())
            };
            Checkpoint { config, model, tokenizer: load_tokenizer(tokenizer)? }
        } else if self.source.join(export::needle_rs::WEIGHTS).exists() {
            let (config, model, tokenizer) = needle_rs::read::<Inference>(&self.source, &device)?;
            tracing::info!("Q, K, V and O are what their INT4 codes stand for: dequantized, not as they were trained");
            Checkpoint { config, model, tokenizer }
        } else {
            self.hugging_face()?
        };
        let (ids, vocab) = (checkpoint.tokenizer.vocab_size(), checkpoint.config.vocab_size);
        anyhow::ensure!(ids == vocab, "the tokenizer has {ids} ids, the model {vocab}");
        directory::write(&self.out, checkpoint.to_files(&BTreeMap::new())?, None)?;
        let parameters = checkpoint.config.num_params_with_head();
        print(format_args!("{}: {parameters} parameters, {ids} ids", self.out.display()))?;
        Ok(true)
    }

    fn hugging_face(&self) -> anyhow::Result<Checkpoint<Inference>> {
        let config = load_config(&self.source)?;
        let path = self.source.join(files::WEIGHTS);
        let bytes = std::fs::read(&path).map_err(|e| ModelError::io(&path, e))?;
        let model = weights_from_bytes(&config, &bytes, &path, &Default::default()).map_err(|error| match error {
            ModelError::Tensors { unexpected, .. } if unexpected.iter().any(|name| is_feed_forward(name)) => {
                let reason = "it has feed-forward layers; a Simple Attention Network has none";
                ModelError::bad_file(&path, reason)
            }
            other => other,
        })?;
        Ok(Checkpoint { tokenizer: self.own_tokenizer(&self.source)?, config, model })
    }

    /// `--tokenizer`, or what the directory has: ours, or SentencePiece's.
    fn own_tokenizer(&self, dir: &Path) -> anyhow::Result<Tokenizer> {
        if let Some(path) = &self.tokenizer {
            return Ok(load_tokenizer(path)?);
        }
        let model = dir.join(files::SENTENCEPIECE);
        // A tokenizer.json of other tools is not ours to read; the SentencePiece model beside it is.
        match Tokenizer::load(dir.join(files::TOKENIZER)) {
            Ok(tokenizer) => Ok(tokenizer),
            Err(_) if model.exists() => Ok(load_tokenizer(&model)?),
            Err(error) => Err(error.into()),
        }
    }
}
