//! `needle quickstart`.
use super::Global;
use crate::{
    quickstart::{self, RECIPE},
    recipe::Recipe,
    trainer::RunOptions,
};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct QuickstartArgs {
    #[arg(long, default_value = "quickstart")]
    out: PathBuf,
    #[arg(long)]
    set: Vec<String>,
}
pub fn run(global: &Global, args: QuickstartArgs) -> anyhow::Result<()> {
    let recipe = Recipe::parse(RECIPE, &args.set).map_err(anyhow::Error::msg)?;
    let t = std::time::Instant::now();
    let data = quickstart::data(recipe.seed)?;
    eprintln!("data {:?}", t.elapsed());
    for e in data.train.iter().take(5) {
        eprintln!("{}", e.to_json());
    }
    let report = quickstart::run(&args.out, &recipe, &data, &global.device.device(), RunOptions::default())?;
    eprintln!("train {:.1}s", report.train_seconds);
    for e in &report.evaluations {
        println!("{}", serde_json::to_string(e)?);
    }
    Ok(())
}
