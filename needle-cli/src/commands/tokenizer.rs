//! `needle tokenizer`.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use needle_data::source::{OnBadRow, Row, expand, rows};
use needle_data::tokenizer::TokenizerConfig;
use needle_data::{DataError, Encoder, Tokenizer};
use needle_model::checkpoint::files;
use needle_runtime::file::locate::locate;

use super::print;
use crate::args::QuietArgs;

/// Train, import and export tokenizers, and encode texts with them
#[derive(clap::Subcommand)]
pub enum TokenizerCommand {
    Train(TrainArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Encode(EncodeArgs),
}

/// Train a byte-pair encoding on rows of examples or text (.jsonl, .parquet, also compressed) or on
/// lines of text (.txt, .txt.gz)
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle tokenizer train mine.jsonl --vocab-size 4096 --out tokenizer.json\n  needle tokenizer \
                        train 'shards/*.parquet' --glue-spaces --out tokenizer.json"
)]
pub struct TrainArgs {
    /// Files, directories or globs
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Size of the vocabulary
    #[arg(long, default_value_t = TokenizerConfig::default().vocab_size)]
    vocab_size: usize,
    /// Merge a space with the word after it, as SentencePiece does
    #[arg(long)]
    glue_spaces: bool,
    /// Never merge letters with punctuation, like SentencePiece; prompts get about twice as long
    #[arg(long)]
    split_structure: bool,
    /// Skip rows that cannot be used
    #[arg(long)]
    skip_invalid: bool,
    /// File to write: a tokenizer.json, or a SentencePiece model if its name ends in .model
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    quiet: QuietArgs,
}

/// Turn a SentencePiece BPE model into a tokenizer.json with the same ids
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle tokenizer import tokenizer.model --out tokenizer.json")]
pub struct ImportArgs {
    /// The .model file
    model: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
    out: PathBuf,
}

/// Write a SentencePiece model with the same ids
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle tokenizer export quickstart/best --out tokenizer.model")]
pub struct ExportArgs {
    /// A tokenizer.json, or a checkpoint
    tokenizer: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "tokenizer.model")]
    out: PathBuf,
}

/// Print the ids of texts
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle tokenizer encode tokenizer.json \"wake me at seven\"\n  cat texts.txt | needle tokenizer \
                        encode quickstart/best --json"
)]
pub struct EncodeArgs {
    /// A tokenizer.json, a SentencePiece .model, or a checkpoint
    tokenizer: PathBuf,
    /// The text; without it, each line of stdin
    text: Option<String>,
    /// Read each line of stdin as a JSON string, so that texts may hold line breaks
    #[arg(long)]
    strings: bool,
    /// Print a JSON object with ids and pieces for each text
    #[arg(long)]
    json: bool,
}

impl TokenizerCommand {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Train(args) => args.run(),
            Self::Import(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::Encode(args) => args.run(),
        }
    }
}

impl TrainArgs {
    fn run(self) -> anyhow::Result<bool> {
        let (text, data): (Vec<PathBuf>, Vec<PathBuf>) =
            expand(&self.files)?.into_iter().partition(|path| is_text(path));
        let on_bad_row = if self.skip_invalid { OnBadRow::Skip } else { OnBadRow::Fail };
        let bar = self.quiet.progress(None);
        let texts = rows(&text)?.map(line).chain(texts(rows(&data)?, on_bad_row)).inspect(|_| bar.tick());
        let config = TokenizerConfig {
            vocab_size: self.vocab_size,
            isolate_spaces: !self.glue_spaces,
            join_structure: !self.split_structure,
        };
        let (tokenizer, met) = Tokenizer::train_from(&config, texts)?;
        bar.finish_and_clear();
        save(&tokenizer, &self.out)?;
        print(format_args!(
            "{} ids from {} texts, {}, {} different words: {}",
            tokenizer.vocab_size(),
            met.texts,
            HumanBytes(met.bytes as u64),
            met.words,
            self.out.display()
        ))?;
        if met.dropped_occurrences > 0 {
            tracing::warn!(
                "too many different words: the rarest, {} occurrences, were not counted",
                met.dropped_occurrences
            );
        }
        Ok(true)
    }
}

impl ImportArgs {
    fn run(self) -> anyhow::Result<bool> {
        let tokenizer = Tokenizer::import_sentencepiece(&self.model)?;
        tokenizer.save(&self.out)?;
        print(format_args!("{} ids: {}", tokenizer.vocab_size(), self.out.display()))?;
        Ok(true)
    }
}

impl ExportArgs {
    fn run(self) -> anyhow::Result<bool> {
        let tokenizer = load_tokenizer(&self.tokenizer)?;
        needle_data::file::write_atomically(&self.out, &tokenizer.to_sentencepiece())?;
        print(format_args!("{} ids: {}", tokenizer.vocab_size(), self.out.display()))?;
        Ok(true)
    }
}

/// The texts of rows, read lazily.
pub(super) fn texts(
    rows: impl Iterator<Item = Result<Row, DataError>>,
    on_bad_row: OnBadRow,
) -> impl Iterator<Item = Result<String, DataError>> {
    rows.flat_map(move |row| {
        let record = row.and_then(|row| row.record().map_err(|problem| DataError::Row { place: row.place, problem }));
        match record {
            Ok(record) => Encoder::texts_of(record).into_iter().map(Ok).collect(),
            Err(DataError::Row { .. }) if on_bad_row == OnBadRow::Skip => Vec::new(),
            Err(error) => vec![Err(error)],
        }
    })
}

/// A row of a plain-text file, which is a line.
fn line(row: Result<Row, DataError>) -> Result<String, DataError> {
    let row = row?;
    row.text().map_err(|problem| DataError::Row { place: row.place, problem })
}

/// The tokenizer of a checkpoint, of a `tokenizer.json` or of a SentencePiece `.model`.
pub(super) fn load_tokenizer(path: &Path) -> Result<Tokenizer, DataError> {
    if path.is_dir() {
        let own = path.join(files::TOKENIZER);
        // For a run, the tokenizer of its result.
        let dir = if own.exists() { path.to_owned() } else { locate(path).unwrap_or_else(|_| path.to_owned()) };
        Tokenizer::load(dir.join(files::TOKENIZER))
    } else if path.extension().is_some_and(|e| e == "model") {
        Tokenizer::import_sentencepiece(path)
    } else {
        Tokenizer::load(path)
    }
}

fn save(tokenizer: &Tokenizer, path: &Path) -> Result<(), DataError> {
    if path.extension().is_some_and(|e| e == "model") {
        needle_data::file::write_atomically(path, &tokenizer.to_sentencepiece())
    } else {
        tokenizer.save(path)
    }
}

/// Whether the lines of a file are plain text.
fn is_text(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.trim_end_matches(".gz").trim_end_matches(".zst").ends_with(".txt")
}

impl EncodeArgs {
    fn run(self) -> anyhow::Result<bool> {
        let tokenizer = load_tokenizer(&self.tokenizer)?;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut show = |text: &str| -> anyhow::Result<()> {
            let ids = tokenizer.encode(text);
            let pieces: Vec<&str> = ids.iter().filter_map(|&id| tokenizer.piece(id)).collect();
            if self.json {
                writeln!(out, "{}", serde_json::json!({"ids": ids, "pieces": pieces}))?;
            } else {
                let row = ids.iter().zip(pieces).map(|(id, piece)| format!("{id}:{piece}"));
                writeln!(out, "{}", row.collect::<Vec<_>>().join(" "))?;
            }
            Ok(())
        };
        match &self.text {
            Some(text) => show(text)?,
            None => {
                for (line, number) in std::io::stdin().lock().lines().zip(1..) {
                    let line = line?;
                    if self.strings {
                        let text: String = serde_json::from_str(&line)
                            .map_err(|e| anyhow::anyhow!("stdin:{number}: not a JSON string: {e}"))?;
                        show(&text)?;
                    } else {
                        show(&line)?;
                    }
                }
            }
        }
        out.flush()?;
        Ok(true)
    }
}
