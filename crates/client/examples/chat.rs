//! Asks a network one question, piece by piece, and says what it cost.
//!
//! `cargo run -p cocoon-client --example chat -- ROOT_CONFIG ROOT_ADDRESS [MODEL [QUESTION]]`
//!
//! `cocoon up` prints where its root configuration lies and which address stands for its root contract.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use cocoon_client::{ChatRequest, Client, Config};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "give the root configuration's file and the root contract's address";
    let config = Config {
        root_config: arguments.next().context(usage)?.into(),
        root_address: arguments.next().context(usage)?,
        state: std::env::temp_dir().join("cocoon-example-chat"),
        ..Config::default()
    };
    let client = Client::connect(config).await?;

    let models = client.models().await?;
    for model in &models {
        eprintln!("{} has {} worker(s)", model.id, model.workers.len());
    }
    let model = match arguments.next() {
        Some(model) => model,
        None => models.into_iter().next().context("the network has no worker yet")?.id,
    };
    let question = arguments.next().unwrap_or_else(|| "What does a proxy do?".to_owned());

    let mut stream = client.chat_stream(&ChatRequest::new(model).user(question)).await?;
    while let Some(text) = stream.next().await? {
        print!("{text}");
        std::io::stdout().flush()?;
    }
    println!();
    if let (Some(usage), Some(cost)) = (stream.usage(), stream.cost()) {
        let (prompt, completion) = (usage.prompt, usage.completion);
        eprintln!("{prompt} + {completion} tokens, {} adjusted tokens, {}", cost.tokens, cost.price);
    }
    client.shutdown().await;
    Ok(())
}
