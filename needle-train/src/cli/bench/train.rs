//! `needle bench train`.

use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor};
use needle_data::Batch;
use needle_data::augment::stream;
use needle_model::dropout::Dropout;
use needle_model::params::with_gradients;
use needle_model::{San, SanConfig};
use rand::RngExt;
use serde::Serialize;

use crate::checkpointing::text_loss_and_gradients;
use crate::cli::{Global, print, print_json};
use crate::device::{Inference, Training};
use crate::loss::{DeviceBatch, text_loss};
use crate::memory::{peak_rss_mb, rss_mb};
use crate::optim::{Gradients, LearningRates, OptimConfig, Optimizer, clip_global_norm, collect};
use crate::recipe::LossConfig;

/// Measure a training step on random tokens, part by part
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle bench train --model needle-26m --batch 4 --enc 256 --dec 64\n  needle bench train --model \
                        quickstart --batch 8 --json"
)]
pub struct TrainArgs {
    /// Preset of the model's sizes
    #[arg(long, default_value = "needle-26m")]
    model: String,
    /// Rows
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Encoder tokens of a row
    #[arg(long, default_value_t = 256)]
    enc: usize,
    /// Decoder tokens of a row
    #[arg(long, default_value_t = 64)]
    dec: usize,
    /// Compute each layer once more in the backward pass, which keeps less in memory
    #[arg(long)]
    activation_checkpointing: bool,
    /// Steps that are measured, after one that is not
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Seconds of the parts of a step, the median step's.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct StepSeconds {
    forward: f64,
    backward: f64,
    muon: f64,
    adamw_and_clip: f64,
    whole: f64,
}

#[derive(Debug, Serialize)]
struct TrainBench {
    model: String,
    num_params: usize,
    tokens_per_step: usize,
    seconds: StepSeconds,
    /// Of the whole step.
    tokens_per_second: f64,
    /// Of forward and backward alone.
    tokens_per_second_without_optimizer: f64,
    /// Of the whole step that Muon takes.
    muon_share: f64,
    gflop_per_second: f64,
    loss: f64,
    peak_rss_mb: Option<f64>,
    /// What a step takes beside the weights: activations, gradients and moments.
    kb_per_token: Option<f64>,
}

impl TrainArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let device = global.device();
        let config = SanConfig::preset(&self.model)?;
        anyhow::ensure!(self.enc <= config.max_enc_len, "--enc {}: the model reads {}", self.enc, config.max_enc_len);
        anyhow::ensure!(self.dec <= config.max_dec_len, "--dec {}: the model writes {}", self.dec, config.max_dec_len);
        anyhow::ensure!(self.batch > 0 && self.steps > 0, "--batch and --steps must be at least 1");
        let mut model = San::<Training>::new(&config, global.seed.unwrap_or(0), &device)?;
        let batch = random_batch(&config, self.batch, self.enc, self.dec);
        let mut optimizer = Optimizer::new(&OptimConfig::default());
        let rates = LearningRates { muon: 1e-3, adamw: 1e-4 };
        let mut all = Vec::new();
        let mut loss = 0.0;
        let before_mb = rss_mb();
        for step in 0..=self.steps {
            let seconds;
            (model, loss, seconds) = self.step(model, &batch, &mut optimizer, rates)?;
            // The first one allocates.
            if step > 0 {
                all.push(seconds);
            }
        }
        all.sort_by(|a, b| a.whole.total_cmp(&b.whole));
        let seconds = all[all.len() / 2];
        let tokens = self.batch * (self.enc + self.dec);
        let flop = flop_per_step(&config, self.batch, self.enc, self.dec);
        let bench = TrainBench {
            model: self.model,
            num_params: config.num_params_with_head(),
            tokens_per_step: tokens,
            seconds,
            tokens_per_second: tokens as f64 / seconds.whole,
            tokens_per_second_without_optimizer: tokens as f64 / (seconds.forward + seconds.backward),
            muon_share: seconds.muon / seconds.whole,
            gflop_per_second: flop / (seconds.forward + seconds.backward) / 1e9,
            loss,
            peak_rss_mb: peak_rss_mb(),
            kb_per_token: peak_rss_mb().zip(before_mb).map(|(peak, before)| 1e3 * (peak - before) / tokens as f64),
        };
        if self.json {
            print_json(&bench)?;
            return Ok(true);
        }
        print(format_args!("{} with {} parameters, {tokens} tokens a step", bench.model, bench.num_params))?;
        for (name, part) in [
            ("forward", seconds.forward),
            ("backward", seconds.backward),
            ("Muon", seconds.muon),
            ("clip, AdamW", seconds.adamw_and_clip),
            ("whole step", seconds.whole),
        ] {
            print(format_args!("{name:<20}{:>9.1} ms", 1e3 * part))?;
        }
        print(format_args!(
            "{:.0} tokens/s; {:.0} without the optimizer, at {:.0} GFLOP/s",
            bench.tokens_per_second, bench.tokens_per_second_without_optimizer, bench.gflop_per_second
        ))?;
        if let Some(mb) = bench.peak_rss_mb {
            let per_token = bench.kb_per_token.unwrap_or(0.0);
            print(format_args!("peak memory {mb:.0} MB, {per_token:.0} KB a token beside the weights"))?;
        }
        Ok(true)
    }

    fn step(
        &self,
        model: San<Training>,
        batch: &Batch,
        optimizer: &mut Optimizer<Inference>,
        rates: LearningRates,
    ) -> anyhow::Result<(San<Training>, f64, StepSeconds)> {
        let device = model.device();
        let began = Instant::now();
        let (value, forward, gradients) = if self.activation_checkpointing {
            let config = LossConfig { structure_weight: 1.0, ..LossConfig::default() };
            let dropout = &mut Dropout::none();
            let (ce, z, gradients) = text_loss_and_gradients(&model, batch, batch.num_targets(), &config, dropout);
            // Forward and backward passes take turns: one time for both.
            (ce + z, 0.0, gradients)
        } else {
            whole_graph(&model, batch, began)
        };
        <Training as Backend>::sync(&device)?;
        let backward = began.elapsed().as_secs_f64() - forward;
        let (gradients, _) = clip_global_norm(gradients, 1.0);
        let is_muon = |name: &str| name.ends_with("_proj.weight");
        let (of_muon, of_adamw): (Gradients<_>, Gradients<_>) =
            gradients.into_iter().partition(|(name, _)| is_muon(name));
        let clip = began.elapsed().as_secs_f64() - forward - backward;
        let model = optimizer.step(model, of_muon, rates);
        <Training as Backend>::sync(&device)?;
        let muon = began.elapsed().as_secs_f64() - forward - backward - clip;
        let model = optimizer.step(model, of_adamw, rates);
        <Training as Backend>::sync(&device)?;
        let whole = began.elapsed().as_secs_f64();
        let adamw_and_clip = whole - forward - backward - muon;
        Ok((model, value, StepSeconds { forward, backward, muon, adamw_and_clip, whole }))
    }
}

/// Loss, seconds of the forward pass, and gradients.
fn whole_graph(model: &San<Training>, batch: &Batch, began: Instant) -> (f64, f64, Gradients<Inference>) {
    let graph = with_gradients(model.clone());
    let on_device = DeviceBatch::new(batch, batch.num_targets(), [1.0; 4], &model.device());
    let loss = text_loss(&graph, on_device, 1e-4, &mut Dropout::none());
    let total: Tensor<Training, 1> = loss.cross_entropy + loss.z;
    let value = total.clone().into_scalar().elem::<f64>();
    let forward = began.elapsed().as_secs_f64();
    let gradients = collect(&graph, &total.backward());
    (value, forward, gradients)
}

fn random_batch(config: &SanConfig, rows: usize, enc_len: usize, dec_len: usize) -> Batch {
    let mut rng = stream(0, &[]);
    let mut ids = |n: usize| -> Vec<i32> { (0..n).map(|_| rng.random_range(6..config.vocab_size as i32)).collect() };
    Batch {
        rows,
        enc_len,
        dec_len,
        enc_ids: ids(rows * enc_len),
        enc_segments: vec![1; rows * enc_len],
        dec_input: ids(rows * dec_len),
        dec_target: ids(rows * dec_len),
        dec_segments: vec![1; rows * dec_len],
        dec_classes: vec![0; rows * dec_len],
        retrieval: None,
        num_examples: rows,
    }
}

/// Floating-point operations of forward and backward in matrix products (two a multiply-add; backward is twice forward).
fn flop_per_step(config: &SanConfig, rows: usize, enc: usize, dec: usize) -> f64 {
    let (d, kv) = (config.d_model as f64, (config.num_kv_heads * config.head_dim()) as f64);
    let (enc, dec, rows) = (enc as f64, dec as f64, rows as f64);
    let (enc_layers, dec_layers) = (config.num_encoder_layers as f64, config.num_decoder_layers as f64);
    // Q and O over the queries, K and V over the keys; scores and weighted sums, causal ones half.
    let attention = |q: f64, k: f64, seen: f64| 2.0 * (2.0 * q * d * d + 2.0 * k * d * kv) + 4.0 * q * k * seen * d;
    let encoder = enc_layers * attention(enc, enc, 1.0);
    let decoder = dec_layers * (attention(dec, dec, 0.5) + attention(dec, enc, 1.0));
    let output = 2.0 * dec * d * config.vocab_size as f64;
    3.0 * rows * (encoder + decoder + output)
}
