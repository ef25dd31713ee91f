//! The `[data]` section of a recipe.

use needle_data::augment::OtherValues;
use needle_data::augment::mask::Masks;
use needle_data::batching::loader::LoaderConfig;
use needle_data::batching::pack::RowSize;
use needle_data::encode::MAX_TOOL_TOKENS;
use needle_data::order::stream::{Lane, SourceConfig, StreamConfig};
use needle_data::source::{BadRows, OnBadRow};
use serde::{Deserialize, Serialize};

use crate::range::Allowed::{Number, Section, Whole};
use crate::range::section;

/// One number or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(usize),
    /// Several, in ascending order.
    Several(Vec<usize>),
}

impl OneOrMore {
    /// All of them.
    pub fn all(&self) -> &[usize] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }

    /// The largest.
    pub fn longest(&self) -> usize {
        self.all().last().copied().unwrap_or(0)
    }
}

section! {
    /// Reading, truncation, packing and augmentation of the data.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct DataRecipe {
        /// Whether a bad row ends the run or is skipped and counted.
        pub on_bad_row: OnBadRow,
        /// Largest share of rows that may be skipped before the run ends after all.
        pub max_bad_fraction: f64 => Number(0.0, 1.0),
        /// Rows in a batch of the longest length, over all processes; with packing, each row holds
        /// several examples. Batches of shorter rows have more rows, so that the number of
        /// positions stays the same.
        pub rows: usize => Whole(1, 1 << 16),
        /// Number of data lanes: independent streams of rows, each with its own order and position;
        /// must divide `rows`. It does not limit the number of processes, among which the lanes are
        /// divided. Defaults to the number of processes with which the run starts.
        pub lanes: Option<usize> => Whole(1, 1024),
        /// Number of micro-batches into which a lane's rows are divided (gradient accumulation):
        /// less memory, and the same gradient up to rounding.
        pub micro_batches: usize => Whole(1, 1 << 16),
        /// Encoder tokens of a row, or of rows of several lengths in ascending order. The longest
        /// is also the limit for one example.
        pub row_enc_tokens: OneOrMore => Whole(4, 1 << 20),
        /// Decoder tokens of a row, one number for each of `row_enc_tokens`.
        pub row_dec_tokens: OneOrMore => Whole(4, 1 << 20),
        /// Largest number of tokens of a single tool, for retrieval.
        pub max_tool_tokens: usize => Whole(1, 1 << 20),
        /// Number of examples among which rows are packed.
        pub pack_window: usize => Whole(1, 1 << 20),
        /// Size of the shuffle buffer in megabytes.
        pub shuffle_buffer_mb: usize => Whole(1, 1 << 20),
        /// Number of files of a source that are interleaved.
        pub files_at_once: usize => Whole(1, 1024),
        /// Threads that parse and encode; defaults to all cores.
        pub threads: Option<usize> => Whole(1, 1024),
        /// Largest number of retrieval pairs in a batch.
        pub max_retrieval_pairs: usize => Whole(0, 1 << 16),
        /// Whether tools, parameters and keys are shuffled anew each epoch.
        pub shuffle_tools: bool,
        /// Largest number of tools that a training example offers: it keeps one to this many, drawn
        /// anew in each epoch, and always the called ones. Defaults to all.
        pub max_offered_tools: Option<usize> => Whole(1, 1 << 16),
        /// Share of the training examples with a call whose called tools are withheld, so that
        /// nothing is to be called. This is correct only if the other offered tools cannot do the
        /// same.
        pub withheld_fraction: f64 => Number(0.0, 1.0),
        /// Share of the values that are substituted, in query and answer alike: strings by those
        /// that another example gives the same parameter, or by the same with other digits, numbers
        /// by others of the same size, the minutes of times in words. Drawn anew in each epoch.
        pub other_values_fraction: f64 => Number(0.0, 1.0),
        /// Share of the substituted strings that get a value which the parameter never has: one of
        /// another parameter with as many words, or, where the parameter takes any string,
        /// meaningless words. So the model learns to copy any value.
        pub made_up_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples whose tools and arguments are renamed, so that the model
        /// reads names instead of memorizing them. This share and all that follow are drawn anew in
        /// each epoch, independently of each other.
        pub renamed_fraction: f64 => Number(0.0, 1.0),
        /// Share of those whose new names are meaningless, where a description explains them.
        pub meaningless_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples whose descriptions are reworded, or left out where the
        /// name says the same.
        pub reworded_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples with a call that also offer tools of other examples,
        /// which the query cannot mean.
        pub distractors_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples with a call that are joined with another request into one
        /// query, answered by the calls of both.
        pub joined_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples whose plain command is negated (`don't ..`), so that
        /// nothing is to be called; one in three is only apparently negated (`don't forget to ..`).
        pub negated_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples whose query loses a required value, so that nothing is to
        /// be called.
        pub stripped_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples with one call whose query asks for a number that the
        /// schema does not allow, so that nothing is to be called.
        pub out_of_bounds_fraction: f64 => Number(0.0, 1.0),
        /// Share of the training examples with a call whose tools lose their parameters, so that
        /// only the choice of tools is left to learn.
        pub no_parameters_fraction: f64 => Number(0.0, 1.0),
        /// A mixture to train on, if the command line names no data: `[[data.sources]]` with
        /// `paths` and `weight`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub sources: Vec<SourceConfig> => Section(&[("weight", Number(1e-9, 1e9))]),
    }
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            on_bad_row: OnBadRow::Fail,
            // A larger share means the wrong file rather than a few bad rows.
            max_bad_fraction: 0.2,
            rows: 8,
            lanes: None,
            micro_batches: 1,
            row_enc_tokens: OneOrMore::One(1024),
            row_dec_tokens: OneOrMore::One(512),
            max_tool_tokens: MAX_TOOL_TOKENS,
            pack_window: 1024,
            shuffle_buffer_mb: 64,
            files_at_once: 4,
            threads: None,
            max_retrieval_pairs: 32,
            shuffle_tools: true,
            max_offered_tools: None,
            withheld_fraction: 0.0,
            other_values_fraction: 0.0,
            made_up_fraction: 0.0,
            renamed_fraction: 0.0,
            meaningless_fraction: 0.0,
            reworded_fraction: 0.0,
            distractors_fraction: 0.0,
            joined_fraction: 0.0,
            negated_fraction: 0.0,
            stripped_fraction: 0.0,
            out_of_bounds_fraction: 0.0,
            no_parameters_fraction: 0.0,
            sources: Vec::new(),
        }
    }
}

impl DataRecipe {
    /// Checks that `lanes` data lanes can share a batch's rows equally.
    ///
    /// # Errors
    /// If they cannot; the message says what to set.
    pub fn fits_lanes(&self, lanes: usize) -> Result<(), String> {
        if self.rows.is_multiple_of(lanes) {
            return Ok(());
        }
        let rows = self.rows;
        Err(format!("data.rows is {rows}, which {lanes} data lanes cannot share equally; set data.lanes"))
    }

    /// The sizes of rows, ascending.
    pub fn row_sizes(&self) -> Vec<RowSize> {
        let (enc, dec) = (self.row_enc_tokens.all(), self.row_dec_tokens.all());
        enc.iter().zip(dec).map(|(&enc, &dec)| RowSize { enc, dec }).collect()
    }

    /// What to do with the bad rows of a file that is read at once.
    pub fn bad_rows(&self) -> BadRows {
        self.on_bad_row.up_to(self.max_bad_fraction)
    }

    /// The settings by which one of `lanes` lanes makes its batches.
    pub fn loader(&self, lanes: usize) -> LoaderConfig {
        LoaderConfig {
            row_sizes: self.row_sizes(),
            rows: self.rows / lanes,
            pack_window: self.pack_window,
            max_retrieval_pairs: self.max_retrieval_pairs,
            shuffle_tools: self.shuffle_tools,
            max_offered_tools: self.max_offered_tools,
            withheld_fraction: self.withheld_fraction,
            other_values: OtherValues { fraction: self.other_values_fraction, made_up_fraction: self.made_up_fraction },
            masks: Masks {
                renamed_fraction: self.renamed_fraction,
                meaningless_fraction: self.meaningless_fraction,
                reworded_fraction: self.reworded_fraction,
                distractors_fraction: self.distractors_fraction,
                joined_fraction: self.joined_fraction,
                negated_fraction: self.negated_fraction,
                stripped_fraction: self.stripped_fraction,
                out_of_bounds_fraction: self.out_of_bounds_fraction,
                no_parameters_fraction: self.no_parameters_fraction,
            },
            on_bad_row: self.on_bad_row,
            max_bad_fraction: self.max_bad_fraction,
            threads: self.threads,
        }
    }

    /// The settings by which the rows of `lane` are ordered.
    pub fn stream(&self, seed: u64, lane: Lane) -> StreamConfig {
        StreamConfig { seed, shuffle_buffer_mb: self.shuffle_buffer_mb, shards_at_once: self.files_at_once, lane }
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        let (enc, dec) = (self.row_enc_tokens.all(), self.row_dec_tokens.all());
        if enc.is_empty() || enc.len() != dec.len() {
            let (enc, dec) = (enc.len(), dec.len());
            return Err(format!(
                "data.row_enc_tokens has {enc} lengths and data.row_dec_tokens {dec}; expected the same number"
            ));
        }
        for (key, lengths) in [("data.row_enc_tokens", enc), ("data.row_dec_tokens", dec)] {
            if !lengths.is_sorted() {
                return Err(format!("{key} must ascend, is {lengths:?}"));
            }
        }
        Ok(())
    }
}
