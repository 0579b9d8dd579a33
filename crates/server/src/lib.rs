//! The control plane: one process, one database, every replica equal.

// the generated traits return `impl Encodable`, our handlers the message itself
#![expect(refining_impl_trait)]

pub mod audit;
pub mod auth;
pub mod bootstrap;
mod idempotency;
pub mod ipam;
mod listen;
pub mod rate;
mod reach;
pub mod rpc;
pub mod vpn;
pub mod wire;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
pub use listen::Tls;
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
    /// Password that installers set for the superuser of BMCs; none: they leave it alone.
    pub bmc_superuser_password: Option<String>,
    /// How the audit log is kept.
    pub audit: audit::Config,
    /// How often somebody may call.
    pub rate: rate::Config,
    /// Proxies in front whose word about the caller's address counts.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// How people log in; none: they do not.
    pub login: Option<auth::login::Config>,
    /// Coordination server of the VPN; none: firewalls have none.
    pub vpn: Option<vpn::Config>,
    /// Certificate and key; none: clear text.
    pub tls: Option<Tls>,
    /// Loopback address at which Prometheus reads metrics; at most once in a process.
    pub metrics: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".to_owned(),
            database: "sqlite:metal.db".to_owned(),
            issuer: "http://localhost:8081".to_owned(),
            bmc_superuser_password: None,
            audit: audit::Config::default(),
            rate: rate::Config::default(),
            trusted_proxies: Vec::new(),
            login: None,
            vpn: None,
            tls: None,
            metrics: None,
        }
    }
}

/// A server that answers.
#[derive(Debug)]
pub struct Running {
    /// The address that it listens on.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
    app: Arc<rpc::App>,
}

/// Opens the database, migrates it and starts to answer.
///
/// # Errors
/// The database cannot be opened or the address is taken.
pub async fn start(config: Config) -> Result<Running> {
    // what people type wrong is said before anything is done
    let tls = config.tls.as_ref().map(listen::tls).transpose()?;
    let login = config.login.as_ref().map(|login| auth::login::Login::new(login, &config.issuer));
    let login = login.transpose()?;
    let db = Db::open(&config.database)
        .await
        .with_context(|| "cannot open the database, check --database")?;
    bootstrap::bootstrap(&db, jiff::Timestamp::now()).await.context("no provider tenant")?;
    let app = Arc::new(rpc::App {
        audit: audit::Audit::start(&db, config.audit),
        rate: rate::Limiter::new(config.rate),
        trusted_proxies: config.trusted_proxies,
        health: rpc::HealthCache::default(),
        together: rpc::Together::default(),
        db,
        issuer: config.issuer,
        proofs: auth::Proofs::default(),
        replica: uuid::Uuid::now_v7().to_string(),
        shutdown: daemon::Shutdown::manual(),
        bmc_superuser_password: config.bmc_superuser_password,
        vpn: config.vpn.map(|vpn| Arc::new(vpn::Vpn::new(vpn))),
    });
    if let Some(address) = config.metrics {
        daemon::metrics::serve(address, app.shutdown.clone()).await?;
        work::measure(&app);
    }
    work::start(&app);
    let listener = listen::bind(&config.listen).await?;
    let address = listener.local_addr()?;
    if let Some(login) = &login {
        tracing::info!(redirect_uri = login.back(), "people log in at their provider");
    }
    let front = listen::Front { service: rpc::service(&app)?, login, app: Arc::clone(&app) };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let signal = async move {
            // a dropped handle means stop, too
            let _ = stopped.await;
        };
        listen::serve(listener, tls, front, signal).await
    });
    Ok(Running { address, stop, task, app })
}

impl Running {
    /// Stops accepting, lets running calls end, and waits for that.
    ///
    /// # Errors
    /// The server had failed.
    pub async fn stop(self) -> Result<()> {
        self.app.shutdown.set();
        drop(self.stop);
        let result = self.task.await?;
        self.app.audit.stop().await;
        if let Err(error) = work::leave(&self.app).await {
            tracing::warn!(%error, "others learn that this replica is gone when its lease ends");
        }
        result
    }
}
