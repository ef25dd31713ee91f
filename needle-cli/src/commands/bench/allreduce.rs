//! `needle bench allreduce`.

use std::time::Instant;

use burn::tensor::Tensor;
use needle_model::{San, SanConfig, params};
use serde::Serialize;

use crate::commands::{print, print_json};
use needle_train::device::{Inference, Training};
use needle_train::distributed::World;
use needle_train::distributed::exchange::{all_gather_weights, reduce_scatter};
use needle_train::distributed::launch::Launch;
use needle_train::optim::{Gradients, Shards};
use needle_train::recipe::{GradientDtype, OptimConfig};

/// Measure how fast ranks exchange gradients and weights, and plain messages
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mpirun -n 4 needle bench allreduce\n  srun needle bench allreduce --model needle-26m --gradient-dtype \
                        bf16 --json"
)]
pub struct AllreduceArgs {
    /// Preset of the model whose gradients are exchanged
    #[arg(long, default_value = "needle-26m")]
    model: String,
    /// Data type in which gradients are sent: f32 or bf16
    #[arg(long, default_value = "f32", value_parser = dtype)]
    gradient_dtype: GradientDtype,
    /// Exchanges to measure, after one to warm up
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn dtype(text: &str) -> Result<GradientDtype, String> {
    match text {
        "f32" => Ok(GradientDtype::F32),
        "bf16" => Ok(GradientDtype::Bf16),
        _ => Err("expected f32 or bf16".into()),
    }
}

/// Measured by rank 0; all ranks end an exchange together.
#[derive(Debug, Serialize)]
struct AllreduceBench {
    model: String,
    world_size: usize,
    num_params: usize,
    /// Parameters of the largest shard of the optimizer state.
    most_values_of_a_rank: usize,
    gradient_dtype: GradientDtype,
    /// Bytes that rank 0 sends in a step: gradients, then weights.
    bytes_per_step: u64,
    /// Median time of the gradients' reduce-scatter.
    reduce_seconds: f64,
    /// Median time of the new weights' all-gather.
    share_seconds: f64,
    /// Median time to all-gather a short message.
    message_seconds: f64,
    /// Bytes sent over seconds.
    megabytes_per_second: f64,
}

/// How many short messages are measured.
const MESSAGES: usize = 200;

impl AllreduceArgs {
    pub(super) fn run(self, launch: Launch) -> anyhow::Result<bool> {
        anyhow::ensure!(self.steps > 0, "--steps must be at least 1");
        let world = launch.join()?;
        let bench = self.measure(&world)?;
        world.barrier()?;
        world.finish();
        if !world.is_main() {
            return Ok(true);
        }
        if self.json {
            print_json(&bench)?;
            return Ok(true);
        }
        print(format_args!("{} ranks, {} parameters of {}", bench.world_size, bench.num_params, bench.model))?;
        print(format_args!("reduce-scatter, gradients {:>9.2} ms", 1e3 * bench.reduce_seconds))?;
        print(format_args!("all-gather, weights       {:>9.2} ms", 1e3 * bench.share_seconds))?;
        print(format_args!("all-gather, short message {:>9.3} ms", 1e3 * bench.message_seconds))?;
        print(format_args!(
            "each rank sends {:.1} MB per step, at {:.0} MB/s; the largest shard of the optimizer state is {} parameters",
            bench.bytes_per_step as f64 / 1e6,
            bench.megabytes_per_second,
            bench.most_values_of_a_rank
        ))?;
        Ok(true)
    }

    fn measure(&self, world: &World) -> anyhow::Result<AllreduceBench> {
        let config = SanConfig::preset(&self.model)?;
        let device = Default::default();
        let mut model = San::<Training>::new(&config, 0, &device)?;
        let shards = Shards::new(&params::list(&model), &OptimConfig::default(), world.size());
        let (mut reducing, mut sharing, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        let before = world.traffic();
        for _ in 0..=self.steps {
            let gradients = weights_as_gradients(&model);
            world.barrier()?;
            let began = Instant::now();
            reduce_scatter(world, &shards, gradients, self.gradient_dtype, &device)?;
            world.barrier()?;
            reducing.push(began.elapsed().as_secs_f64());
            let began = Instant::now();
            model = all_gather_weights(world, &shards, model)?;
            world.barrier()?;
            sharing.push(began.elapsed().as_secs_f64());
        }
        let bytes = world.traffic().since(before).bytes_sent / (self.steps as u64 + 1);
        for _ in 0..MESSAGES {
            let began = Instant::now();
            world.all_gather(&[0; 64])?;
            messages.push(began.elapsed().as_secs_f64());
        }
        // The first exchange is left out, because it allocates.
        let (reduce_seconds, share_seconds) = (median(&mut reducing[1..]), median(&mut sharing[1..]));
        Ok(AllreduceBench {
            model: self.model.clone(),
            world_size: world.size(),
            num_params: shards.lengths().values().sum(),
            most_values_of_a_rank: (0..world.size()).map(|rank| shards.num_values(rank)).max().unwrap_or(0),
            gradient_dtype: self.gradient_dtype,
            bytes_per_step: bytes,
            reduce_seconds,
            share_seconds,
            message_seconds: median(&mut messages),
            megabytes_per_second: bytes as f64 / 1e6 / (reduce_seconds + share_seconds),
        })
    }
}

fn weights_as_gradients(model: &San<Training>) -> Gradients<Inference> {
    struct Collect(Gradients<Inference>);
    impl params::ParamVisitor<Inference> for Collect {
        fn visit<const D: usize>(&mut self, info: params::ParamInfo, tensor: Tensor<Inference, D>) {
            self.0.insert(info.name, tensor.reshape([-1]));
        }
    }
    let mut collect = Collect(Gradients::new());
    params::visit(&burn::module::AutodiffModule::valid(model), &mut collect);
    collect.0
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
