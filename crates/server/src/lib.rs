//! The control plane: one process, one database, every replica equal.

// the generated traits return `impl Encodable`, our handlers the message itself
#![expect(refining_impl_trait)]

pub mod auth;
pub mod bootstrap;
mod reach;
pub mod ipam;
pub mod rpc;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use store::Db;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: String,
    /// `sqlite:PATH` or `postgres://…`.
    pub database: String,
    /// Issuer and audience of tokens.
    pub issuer: String,
}

/// A server that answers.
#[derive(Debug)]
pub struct Running {
    /// The address that it listens on.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

/// Opens the database, migrates it and starts to answer.
///
/// # Errors
/// The database cannot be opened or the address is taken.
pub async fn start(config: Config) -> Result<Running> {
    let db = Db::open(&config.database)
        .await
        .with_context(|| "cannot open the database, check --database")?;
    bootstrap::bootstrap(&db, jiff::Timestamp::now()).await.context("no provider tenant")?;
    let app = Arc::new(rpc::App { db, issuer: config.issuer });
    let service = rpc::service(&app)?;
    let bound = connectrpc::Server::bind(config.listen.as_str()).await.map_err(|e| {
        anyhow::anyhow!("cannot listen on {}: {e}; is another server running?", config.listen)
    })?;
    let address = bound.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let signal = async move {
            // a dropped handle means stop, too
            let _ = stopped.await;
        };
        bound
            .serve_with_service_and_shutdown(service, signal)
            .await
            .map_err(|e| anyhow::anyhow!("{e}"))
    });
    Ok(Running { address, stop, task })
}

impl Running {
    /// Stops accepting, lets running calls end, and waits for that.
    ///
    /// # Errors
    /// The server had failed.
    pub async fn stop(self) -> Result<()> {
        drop(self.stop);
        self.task.await?
    }
}
