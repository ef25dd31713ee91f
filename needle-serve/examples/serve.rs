//! Serves one checkpoint with the playground:
//! `cargo run -p needle-serve --example serve CHECKPOINT PORT WORKSPACE NEEDLE`, where NEEDLE is
//! the command that finetunes and exports. `needle serve` and `needle playground` do the same with
//! more options.

use std::path::PathBuf;
use std::sync::Arc;

use needle_serve::{PlaygroundConfig, ServerConfig, needle, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, port, workspace, needle] = arguments.as_slice() else {
        return Err("expected CHECKPOINT PORT WORKSPACE NEEDLE".into());
    };
    let models = vec![("needle".to_owned(), PathBuf::from(checkpoint))];
    let playground = PlaygroundConfig { workspace: workspace.into(), needle: needle.into(), bases: models.clone() };
    let config = ServerConfig { playground: Some(playground), ..ServerConfig::local(port.parse()?) };
    let on_listening = |address| println!("http://{address}");
    let interrupted = async { _ = tokio::signal::ctrl_c().await };
    Ok(serve(config, models, Arc::new(needle::load), on_listening, interrupted).await?)
}
