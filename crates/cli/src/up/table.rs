//! What a newcomer reads when the network answers.

use std::fmt::Write as _;
use std::path::Path;

use units::AdjustedTokens;

use super::engine_choice::ServedModel;
use super::network::{Network, PRICE_PER_TOKEN};
use crate::instance::loopback;

/// The table, one `curl` and one Python snippet to paste.
pub(super) fn render(network: &Network, served: &ServedModel, log_folder: &Path) -> String {
    let ports = network.ports;
    let client = loopback(ports.client_http);
    let model = served.first_model();
    let million = AdjustedTokens::new(1_000_000);
    let price = PRICE_PER_TOKEN.charge(million).expect("a development price times a million fits 64 bits");
    let mut text = String::from("\nA private Cocoon network runs on this machine.\n\n");
    let mut row = |name: &str, value: String| {
        let _infallible = writeln!(text, "  {name:<8} {value}");
    };
    row("client", format!("http://{client}/v1  (OpenAI API for your programs)"));
    row(
        "proxy",
        format!(
            "http://{}  (clients connect to {}, workers to {})",
            loopback(ports.proxy_http),
            loopback(ports.proxy_clients),
            loopback(ports.proxy_workers)
        ),
    );
    row("worker", format!("http://{}", loopback(ports.worker_http)));
    row("model", served.to_string());
    let money = match &network.client.chain {
        Some(_) => "in coins of this machine's own chain",
        None => "development prices: no coins move",
    };
    row("price", format!("{price} per million tokens  ({money})"));
    if let Some(chain) = &network.client.chain {
        row("chain", format!("{}  (HTTP API v2; cocoon audit shows where the money is)", chain.endpoint));
    }
    row("logs", log_folder.display().to_string());
    let _infallible = write!(
        text,
        r#"
Ask it from a shell:

  curl http://{client}/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is Cocoon?"}}]}}'

or from Python (pip install openai):

  from openai import OpenAI
  cocoon = OpenAI(base_url="http://{client}/v1", api_key="unused")
  answer = cocoon.chat.completions.create(
      model="{model}", messages=[{{"role": "user", "content": "What is Cocoon?"}}])
  print(answer.choices[0].message.content)

Ctrl-C stops everything.
"#
    );
    text
}
