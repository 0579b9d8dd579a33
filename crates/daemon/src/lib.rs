//! What every process shares: telemetry, shutdown, the repeated loop, configuration files and their check, metrics,
//! what is kept on disk.
//!
//! ```no_run
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     daemon::telemetry::init("metal-example");
//!     let shutdown = daemon::Shutdown::on_signals();
//!     daemon::every(shutdown.clone(), std::time::Duration::from_secs(10), || async {
//!         anyhow::Ok(())
//!     })
//!     .await;
//!     Ok(())
//! }
//! ```

pub mod check;
pub mod config;
mod every;
pub mod metrics;
pub mod saved;
mod shutdown;
pub mod telemetry;

pub use every::{Outcome, Period, every, panics};
pub use shutdown::Shutdown;
