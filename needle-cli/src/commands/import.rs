//! `needle import`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use needle_data::{Tokenizer, file};
use needle_model::checkpoint::{Checkpoint, files, load_config, weights_from_bytes};
use needle_model::import::manifest::{self, Manifest};
use needle_model::import::{is_feed_forward, needle_pkl, needle_rs};
use needle_model::{ModelError, export};

use super::print;
use super::tokenizer::load_tokenizer;
use crate::args::QuietArgs;
use needle_train::device::Inference;
use needle_train::out_dir;
use needle_train::out_dir::OutDir;

/// Turn a needle.pkl, a Hugging Face directory or a needle-rs artifact into a checkpoint
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle import needle.pkl --tokenizer needle.model --out runs/original\n  needle import \
                        huggingface_directory --out runs/published\n  needle import dist/needle-rs --out runs/back\n\nA pickle is read, \
                        never executed: anything in it but numbers and numpy arrays is refused by name."
)]
pub struct ImportArgs {
    /// A needle.pkl, a Hugging Face directory, or a needle-rs artifact
    source: PathBuf,
    /// The model's tokenizer, if the source has none: a SentencePiece .model or a tokenizer.json
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Directory of the checkpoint to write, which must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace an earlier export or import in --out
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl ImportArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let device = Default::default();
        let out = OutDir::new(&self.out, &self.source, self.force)?;
        let checkpoint = if self.source.is_file() {
            let bytes = file::read(&self.source)?;
            let (config, model) = needle_pkl::read::<Inference>(&bytes, &self.source, &device)?;
            let Some(tokenizer) = &self.tokenizer else {
                anyhow::bail!("{}: a pickle holds no tokenizer; pass it as --tokenizer", self.source.display())
            };
            Checkpoint { config, model, tokenizer: load_tokenizer(tokenizer)? }
        } else if self.source.join(export::needle_rs::WEIGHTS).exists() {
            if !self.source.join(manifest::FILE).exists() {
                let (weights, vocab) = (export::needle_rs::WEIGHTS, export::needle_rs::VOCAB);
                tracing::warn!("no {}: cannot check that {vocab} belongs to {weights}", manifest::FILE);
            }
            let (config, model, tokenizer) = needle_rs::read::<Inference>(&self.source, &device)?;
            tracing::info!("Q, K, V and O are dequantized from INT4: they are not the weights before quantization");
            Checkpoint { config, model, tokenizer }
        } else {
            self.hugging_face()?
        };
        let (ids, vocab) = (checkpoint.tokenizer.vocab_size(), checkpoint.config.vocab_size);
        anyhow::ensure!(ids == vocab, "the tokenizer has {ids} ids, the model {vocab}");
        let files: Vec<_> = checkpoint.to_files(&BTreeMap::new())?.into_iter().collect();
        let directory = out.begin()?;
        for (name, bytes) in &files {
            directory.add(name, bytes)?;
        }
        let manifest = serde_json::to_vec_pretty(&out_dir::manifest("checkpoint", &files))?;
        directory.add(out_dir::MANIFEST, &manifest)?;
        out.finish(directory)?;
        let parameters = checkpoint.config.num_params_with_head();
        print(format_args!("{}: {parameters} parameters, {ids} ids", self.out.display()))?;
        Ok(true)
    }

    fn hugging_face(&self) -> anyhow::Result<Checkpoint<Inference>> {
        let config = load_config(&self.source)?;
        let path = self.source.join(files::WEIGHTS);
        let bytes = file::read(&path)?;
        if let Some(manifest) = Manifest::load(&self.source)? {
            manifest.check(files::WEIGHTS, &bytes)?;
            let others =
                [files::CONFIG, files::TOKENIZER, files::SENTENCEPIECE].map(|name| (name, self.source.join(name)));
            for (name, path) in others.iter().filter(|(_, path)| path.exists()) {
                manifest.check(name, &file::read(path)?)?;
            }
        }
        let model = weights_from_bytes(&config, &bytes, &path, &Default::default()).map_err(|error| match error {
            ModelError::Tensors { unexpected, .. } if unexpected.iter().any(|name| is_feed_forward(name)) => {
                let reason = "it has feed-forward layers; a Simple Attention Network has none";
                ModelError::bad_file(&path, reason)
            }
            other => other,
        })?;
        Ok(Checkpoint { tokenizer: self.own_tokenizer(&self.source)?, config, model })
    }

    /// The tokenizer of `--tokenizer`, or the directory's: ours, or SentencePiece's.
    fn own_tokenizer(&self, dir: &Path) -> anyhow::Result<Tokenizer> {
        if let Some(path) = &self.tokenizer {
            return Ok(load_tokenizer(path)?);
        }
        let model = dir.join(files::SENTENCEPIECE);
        // A tokenizer.json of another tool cannot be read here, but the SentencePiece model beside
        // it can.
        match Tokenizer::load(dir.join(files::TOKENIZER)) {
            Ok(tokenizer) => Ok(tokenizer),
            Err(_) if model.exists() => Ok(load_tokenizer(&model)?),
            Err(error) => Err(error.into()),
        }
    }
}
