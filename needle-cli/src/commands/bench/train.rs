//! `needle bench train`.

use std::path::PathBuf;
use std::time::Instant;

use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::tensor::{ElementConversion, Tensor};
use clap::ValueEnum;
use needle_data::Batch;
use needle_data::file::write_atomically;
use needle_model::checkpoint::weights_to_bytes;
use needle_model::dropout::Dropout;
use needle_model::params::{is_attention_matrix, with_gradients};
use needle_model::quant::fake_quant::in_bf16;
use needle_model::{FusedOps, San, SanConfig};
use serde::Serialize;

use crate::args::DeviceArgs;
use crate::commands::{print, print_json};
use needle_train::device::{Device, reserved_bytes};
use needle_train::on_device;
use needle_train::optim::{Gradients, LearningRates, Optimizer, clip_global_norm, collect};
use needle_train::recipe::{LossConfig, OptimConfig};
use needle_train::run::memory::{peak_rss_mb, rss_mb};
use needle_train::training::checkpointing::text_loss_and_gradients;
use needle_train::training::loss::{DeviceBatch, text_loss};

/// Measure a training step on random tokens, part by part
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle bench train --model needle-26m --batch 4 --enc 256 --dec 64\n  needle bench train --device cuda \
                        --compute-dtype bf16 --batch 64,128,256 --enc 1024 --dec 512 --examples-per-row 8 --json"
)]
pub struct TrainArgs {
    /// Preset of the model's sizes
    #[arg(help_heading = "Sizes", long, default_value = "needle-26m")]
    model: String,
    /// Rows per batch; several sizes are measured one after the other
    #[arg(help_heading = "Sizes", long, value_delimiter = ',', default_value = "4")]
    batch: Vec<usize>,
    /// Encoder tokens per row; as many numbers as --dec
    #[arg(help_heading = "Sizes", long, value_delimiter = ',', default_value = "256")]
    enc: Vec<usize>,
    /// Decoder tokens per row
    #[arg(help_heading = "Sizes", long, value_delimiter = ',', default_value = "64")]
    dec: Vec<usize>,
    /// Examples packed into a row; attention does not cross their borders
    #[arg(help_heading = "Sizes", long, default_value_t = 1)]
    examples_per_row: usize,
    /// Share of a row that is not padding
    #[arg(help_heading = "Sizes", long, default_value_t = 1.0)]
    filled: f64,
    /// Data type of activations and matrix products
    #[arg(help_heading = "Compute", long, value_enum, default_value = "f32")]
    compute_dtype: Dtype,
    /// Recompute each layer in the backward pass, to save memory
    #[arg(help_heading = "Compute", long)]
    activation_checkpointing: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Steps to measure, after two to warm up
    #[arg(help_heading = "Measurement", long, default_value_t = 5)]
    steps: usize,
    /// Seed of the initial weights
    #[arg(help_heading = "Measurement", long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the initial weights to this file, for another program to start from
    #[arg(help_heading = "Output", long, value_name = "FILE")]
    save_weights: Option<PathBuf>,
    /// Print one JSON object per line
    #[arg(help_heading = "Output", long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

/// Seconds of the parts of a step, for the median step.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct StepSeconds {
    /// Copying the batch to the device.
    data: f64,
    forward: f64,
    backward: f64,
    muon: f64,
    adamw_and_clip: f64,
    whole: f64,
}

#[derive(Debug, Serialize)]
struct TrainBench {
    model: String,
    device: String,
    compute_dtype: String,
    num_params: usize,
    rows: usize,
    enc_tokens: usize,
    dec_tokens: usize,
    /// Positions, padding included.
    tokens_per_step: usize,
    seconds: StepSeconds,
    /// Of the whole step, padding included.
    tokens_per_second: f64,
    /// Of the whole step, without padding.
    real_tokens_per_second: f64,
    /// Of forward and backward alone.
    tokens_per_second_without_optimizer: f64,
    /// Muon's share of the whole step.
    muon_share: f64,
    /// Operations of forward and backward over their seconds, see [`flop_per_step`].
    tflop_per_second: f64,
    /// Of the first step; equal for equal weights and tokens.
    first_loss: f64,
    loss: f64,
    peak_rss_mb: Option<f64>,
    /// What the device's memory pool has reserved.
    device_mb: Option<f64>,
    /// Host memory that a step takes besides the weights: activations, gradients and moments.
    kb_per_token: Option<f64>,
}

/// One measurement's sizes.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    rows: usize,
    enc: usize,
    dec: usize,
}

/// Steps that are not measured: the first ones allocate, and compile and tune kernels.
const WARMUP_STEPS: usize = 2;

impl TrainArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let config = SanConfig::preset(&self.model)?;
        anyhow::ensure!(self.enc.len() == self.dec.len(), "--enc and --dec must have equally many numbers");
        anyhow::ensure!(self.steps > 0 && !self.batch.contains(&0), "--batch and --steps must be at least 1");
        let device = self.device.device()?;
        for (&enc, &dec) in self.enc.iter().zip(&self.dec) {
            anyhow::ensure!(enc <= config.max_enc_len, "--enc {enc}: the model reads at most {}", config.max_enc_len);
            anyhow::ensure!(dec <= config.max_dec_len, "--dec {dec}: the model writes at most {}", config.max_dec_len);
            for &rows in &self.batch {
                let sizes = Sizes { rows, enc, dec };
                let bench = on_device!(device, |B, handle| self.measure::<B>(&config, sizes, device, handle))?;
                if self.json { print_json(&bench)? } else { self.show(&bench)? }
            }
        }
        Ok(true)
    }

    fn measure<B: FusedOps>(
        &self,
        config: &SanConfig,
        sizes: Sizes,
        choice: Device,
        device: &B::Device,
    ) -> anyhow::Result<TrainBench> {
        let mut model = San::<Autodiff<B>>::new(config, self.seed, device)?;
        if let Some(path) = &self.save_weights {
            write_atomically(path, &weights_to_bytes(&model.valid())?)?;
        }
        let batch = random_batch(config, sizes, self.examples_per_row, self.filled);
        let mut optimizer = Optimizer::new(&OptimConfig::default(), self.seed);
        let rates = LearningRates { muon: 1e-3, adamw: 1e-4 };
        let (mut all, mut losses) = (Vec::new(), Vec::new());
        let before_mb = rss_mb();
        for _ in 0..WARMUP_STEPS + self.steps {
            let (next, loss, seconds) = self.step(model, &batch, &mut optimizer, rates)?;
            model = next;
            losses.push(loss);
            all.push(seconds);
        }
        let measured = &mut all[WARMUP_STEPS..];
        measured.sort_by(|a, b| a.whole.total_cmp(&b.whole));
        let seconds = measured[measured.len() / 2];
        let tokens = sizes.rows * (sizes.enc + sizes.dec);
        let flop = flop_per_step(config, &batch);
        Ok(TrainBench {
            model: self.model.clone(),
            device: format!("{choice:?}"),
            compute_dtype: format!("{:?}", self.compute_dtype).to_lowercase(),
            num_params: config.num_params_with_head(),
            rows: sizes.rows,
            enc_tokens: sizes.enc,
            dec_tokens: sizes.dec,
            tokens_per_step: tokens,
            seconds,
            tokens_per_second: tokens as f64 / seconds.whole,
            real_tokens_per_second: batch.num_tokens() as f64 / seconds.whole,
            tokens_per_second_without_optimizer: tokens as f64 / (seconds.forward + seconds.backward),
            muon_share: seconds.muon / seconds.whole,
            tflop_per_second: flop / (seconds.forward + seconds.backward) / 1e12,
            first_loss: losses[0],
            loss: losses[losses.len() - 1],
            peak_rss_mb: peak_rss_mb(),
            device_mb: reserved_bytes(choice).map(|bytes| bytes as f64 / 1e6),
            kb_per_token: peak_rss_mb().zip(before_mb).map(|(peak, before)| 1e3 * (peak - before) / tokens as f64),
        })
    }

    fn show(&self, bench: &TrainBench) -> anyhow::Result<()> {
        let seconds = bench.seconds;
        print(format_args!(
            "{} with {} parameters on {} in {}: {} rows of {}+{}, {} tokens per step",
            bench.model,
            bench.num_params,
            bench.device,
            bench.compute_dtype,
            bench.rows,
            bench.enc_tokens,
            bench.dec_tokens,
            bench.tokens_per_step
        ))?;
        for (name, part) in [
            ("data", seconds.data),
            ("forward", seconds.forward),
            ("backward", seconds.backward),
            ("Muon", seconds.muon),
            ("clip, AdamW", seconds.adamw_and_clip),
            ("whole step", seconds.whole),
        ] {
            print(format_args!("{name:<20}{:>9.1} ms", 1e3 * part))?;
        }
        print(format_args!(
            "{:.0} tokens/s, {:.0} of them real; {:.0} without the optimizer, at {:.3} TFLOP/s",
            bench.tokens_per_second,
            bench.real_tokens_per_second,
            bench.tokens_per_second_without_optimizer,
            bench.tflop_per_second
        ))?;
        if let Some(mb) = bench.device_mb {
            print(format_args!("{mb:.0} MB of the device's memory reserved"))?;
        } else if let Some(mb) = bench.peak_rss_mb {
            let per_token = bench.kb_per_token.unwrap_or(0.0);
            print(format_args!("peak memory {mb:.0} MB, {per_token:.0} KB per token besides the weights"))?;
        }
        Ok(())
    }

    /// One step, which waits for the device after each part, to time the parts separately.
    fn step<B: FusedOps>(
        &self,
        model: San<Autodiff<B>>,
        batch: &Batch,
        optimizer: &mut Optimizer<B>,
        rates: LearningRates,
    ) -> anyhow::Result<(San<Autodiff<B>>, f64, StepSeconds)> {
        let device = model.device();
        let began = Instant::now();
        let lap = || -> anyhow::Result<f64> {
            B::sync(&device)?;
            Ok(began.elapsed().as_secs_f64())
        };
        let graph = with_gradients(model.clone());
        let seen = if self.compute_dtype == Dtype::Bf16 { in_bf16(graph.clone()) } else { graph.clone() };
        let (value, data, forward, gradients);
        if self.activation_checkpointing {
            let config = LossConfig { structure_weight: 1.0, ..LossConfig::default() };
            let (loss, found) =
                text_loss_and_gradients(&seen, batch, batch.num_targets(), &config, &mut Dropout::none());
            // Forward and backward passes alternate, so they share one time.
            let total: Tensor<B, 1> = loss.total();
            (value, data, forward, gradients) = (total.into_scalar().elem::<f64>(), 0.0, 0.0, found);
        } else {
            let on_device = DeviceBatch::new(batch, batch.num_targets(), [1.0; 4], &device);
            data = lap()?;
            let loss = text_loss(&seen, on_device, 1e-4, &mut Dropout::none());
            let total: Tensor<Autodiff<B>, 1> = loss.total();
            value = total.clone().into_scalar().elem::<f64>();
            forward = lap()?;
            gradients = collect(&graph, &total.backward());
        }
        let backward = lap()?;
        let (gradients, _) = clip_global_norm(gradients, 1.0);
        let (of_muon, of_adamw): (Gradients<B>, Gradients<B>) =
            gradients.into_iter().partition(|(name, _)| is_attention_matrix(name));
        let clip = lap()?;
        let model = optimizer.step(model, of_muon, rates);
        let muon = lap()?;
        let model = optimizer.step(model, of_adamw, rates);
        let whole = lap()?;
        let seconds = StepSeconds {
            data,
            forward: (forward - data).max(0.0),
            backward: backward - forward,
            muon: muon - clip,
            adamw_and_clip: clip - backward + whole - muon,
            whole,
        };
        Ok((model, value, seconds))
    }
}

/// A batch whose ids other programs can reproduce: the `i`-th is
/// `6 + (i * 7919 + 13) % (vocab - 6)`, counted through encoder ids, decoder inputs and decoder
/// targets.
fn random_batch(config: &SanConfig, Sizes { rows, enc, dec }: Sizes, examples: usize, filled: f64) -> Batch {
    let mut next = 0usize;
    let segments = |len: usize| -> Vec<i32> {
        let real = ((len as f64 * filled).round() as usize).clamp(examples, len);
        let of_row = (0..len).map(|i| if i < real { (i * examples / real) as i32 + 1 } else { 0 });
        let of_row: Vec<i32> = of_row.collect();
        of_row.repeat(rows)
    };
    let (enc_segments, dec_segments) = (segments(enc), segments(dec));
    let mut ids = |segments: &[i32]| -> Vec<i32> {
        let draw = segments.iter().map(|segment| {
            let id = 6 + (next * 7919 + 13) % (config.vocab_size - 6);
            next += 1;
            if *segment == 0 { 0 } else { id as i32 }
        });
        draw.collect()
    };
    let enc_ids = ids(&enc_segments);
    let (dec_input, dec_target) = (ids(&dec_segments), ids(&dec_segments));
    Batch {
        rows,
        enc_len: enc,
        dec_len: dec,
        enc_ids,
        enc_segments,
        dec_input,
        dec_target,
        dec_classes: vec![0; dec_segments.len()],
        dec_segments,
        retrieval: None,
        num_examples: rows * examples,
    }
}

/// Floating-point operations of the matrix products of forward and backward (two per multiply-add;
/// backward is twice forward). Attention counts only pairs of the same segment.
fn flop_per_step(config: &SanConfig, batch: &Batch) -> f64 {
    let (d, kv) = (config.d_model as f64, (config.num_kv_heads * config.head_dim()) as f64);
    let (enc_layers, dec_layers) = (config.num_encoder_layers as f64, config.num_decoder_layers as f64);
    let positions = |len: usize| (batch.rows * len) as f64;
    let (enc, dec) = (positions(batch.enc_len), positions(batch.dec_len));
    // Pairs of the same segment, row by row.
    let pairs = |a: &[i32], a_len: usize, b: &[i32], b_len: usize| -> f64 {
        let rows = a.chunks(a_len).zip(b.chunks(b_len));
        let of_row = rows.map(|(a, b)| {
            let segments = a.iter().copied().max().unwrap_or(0);
            let count = |row: &[i32], segment| row.iter().filter(|&&s| s == segment).count() as f64;
            (1..=segments).map(|segment| count(a, segment) * count(b, segment)).sum::<f64>()
        });
        of_row.sum()
    };
    let enc_pairs = pairs(&batch.enc_segments, batch.enc_len, &batch.enc_segments, batch.enc_len);
    let dec_pairs = pairs(&batch.dec_segments, batch.dec_len, &batch.dec_segments, batch.dec_len);
    let cross_pairs = pairs(&batch.dec_segments, batch.dec_len, &batch.enc_segments, batch.enc_len);
    // Q and O for each query, K and V for each key, then scores and weighted sums for each pair.
    let attention = |q: f64, k: f64, pairs: f64| 2.0 * (2.0 * q * d * d + 2.0 * k * d * kv) + 4.0 * pairs * d;
    let encoder = enc_layers * attention(enc, enc, enc_pairs);
    // A causal mask leaves half of the pairs.
    let decoder = dec_layers * (attention(dec, dec, 0.5 * dec_pairs) + attention(dec, enc, cross_pairs));
    let output = 2.0 * dec * d * config.vocab_size as f64;
    3.0 * (encoder + decoder + output)
}
