//! Log lines on stderr: for humans, or as JSON for machines.

use std::io::IsTerminal;
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::EnvFilter;

/// Sends log lines to stderr and panics into the log. `RUST_LOG` selects (default `info`), `METAL_LOG_FORMAT=json`
/// writes one JSON object per line. The first call of a process counts; later ones do nothing.
pub fn init(name: &'static str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let first = if std::env::var("METAL_LOG_FORMAT").is_ok_and(|format| format == "json") {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if first.is_ok() {
        panic::set_hook(Box::new(log_panic));
        tracing::info!(process = name, version = env!("CARGO_PKG_VERSION"), "starting");
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(panic = sentence(info.payload()), place, %backtrace, "a bug: please report it");
}

/// What a panic said.
pub(crate) fn sentence(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}
