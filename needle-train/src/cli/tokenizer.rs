//! `needle tokenizer`.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use needle_data::source::{Lines, OnBadRow, load_examples};
use needle_data::tokenizer::TokenizerConfig;
use needle_data::{Encoder, Tokenizer};
use needle_model::checkpoint::files;

use super::{print, print_json};

/// Train a tokenizer, and see what it makes of a text
#[derive(clap::Subcommand)]
#[expect(missing_docs, reason = "the structs carry the help texts")]
pub enum TokenizerCommand {
    Train(TrainArgs),
    Encode(EncodeArgs),
}

/// Train byte-pair encoding on examples (.jsonl, also packed) or on lines of text (anything else)
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle tokenizer train mine.jsonl --vocab-size 4096 --out tokenizer.json")]
pub struct TrainArgs {
    /// Files to train on
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Number of ids
    #[arg(long, default_value_t = TokenizerConfig::default().vocab_size)]
    vocab_size: usize,
    /// Let a space join the word after it, as SentencePiece does
    #[arg(long)]
    glue_spaces: bool,
    /// Where to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Print the ids of texts
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle tokenizer encode tokenizer.json \"wake me at seven\"\n  cat texts.txt | needle tokenizer \
                        encode quickstart/run/last --json"
)]
pub struct EncodeArgs {
    /// A tokenizer.json, or a checkpoint
    tokenizer: PathBuf,
    /// The text; without it, each line of stdin
    text: Option<String>,
    /// Print a JSON object with ids and pieces for each text
    #[arg(long)]
    json: bool,
}

impl TokenizerCommand {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Train(args) => args.run(),
            Self::Encode(args) => args.run(),
        }
    }
}

impl TrainArgs {
    fn run(self) -> anyhow::Result<bool> {
        let mut texts = Vec::new();
        for file in &self.files {
            if is_jsonl(file) {
                let (examples, _) = load_examples(std::slice::from_ref(file), OnBadRow::Fail)?;
                texts.extend(examples.iter().flat_map(Encoder::texts));
            } else {
                for line in Lines::open(file)? {
                    let (place, text) = line?;
                    texts.push(text.map_err(|problem| anyhow::anyhow!("{place}: {problem}"))?);
                }
            }
        }
        let config = TokenizerConfig { vocab_size: self.vocab_size, isolate_spaces: !self.glue_spaces };
        let tokenizer = Tokenizer::train(&config, texts.iter())?;
        tokenizer.save(&self.out)?;
        print(format_args!("{} ids from {} texts: {}", tokenizer.vocab_size(), texts.len(), self.out.display()))?;
        Ok(true)
    }
}

fn is_jsonl(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.trim_end_matches(".gz").trim_end_matches(".zst").ends_with(".jsonl")
}

impl EncodeArgs {
    fn run(self) -> anyhow::Result<bool> {
        let path = if self.tokenizer.is_dir() { self.tokenizer.join(files::TOKENIZER) } else { self.tokenizer.clone() };
        let tokenizer = Tokenizer::load(path)?;
        let show = |text: &str| -> anyhow::Result<()> {
            let ids = tokenizer.encode(text);
            let pieces: Vec<&str> = ids.iter().filter_map(|&id| tokenizer.piece(id)).collect();
            if self.json {
                print_json(&serde_json::json!({"ids": ids, "pieces": pieces}))
            } else {
                let row = ids.iter().zip(pieces).map(|(id, piece)| format!("{id}:{piece}"));
                print(row.collect::<Vec<_>>().join(" "))
            }
        };
        match &self.text {
            Some(text) => show(text)?,
            None => {
                for line in std::io::stdin().lock().lines() {
                    show(&line?)?;
                }
            }
        }
        Ok(true)
    }
}
