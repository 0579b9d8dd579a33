//! `metal-server`: the control plane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use proto::api;

/// The control plane of the bare-metal cloud.
#[derive(Parser)]
#[command(name = "metal-server", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the API on one port: Connect, gRPC and gRPC-Web, HTTP/1.1 and HTTP/2.
    Serve(Serve),
    /// Manage tokens straight in the database, for the first login.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Args)]
struct Common {
    /// `sqlite:PATH` (embedded) or `postgres://USER@HOST/NAME`.
    #[arg(long, env = "METAL_DATABASE", default_value = "sqlite:metal.db", hide_env_values = true)]
    database: String,
    /// Issuer and audience of tokens: the public URL of the server.
    #[arg(long, env = "METAL_URL", default_value = "http://localhost:8081")]
    url: String,
}

#[derive(Args)]
struct Serve {
    /// Address to listen on.
    #[arg(long, env = "METAL_LISTEN", default_value = "127.0.0.1:8081")]
    listen: String,
    /// For how many days the audit log is kept.
    #[arg(long, env = "METAL_AUDIT_RETENTION_DAYS", default_value_t = 14, value_parser = clap::value_parser!(u64).range(1..=3650))]
    audit_retention_days: u64,
    /// Calls per minute with one token of a user; 0 for any number.
    #[arg(long, env = "METAL_MAX_REQUESTS_PER_MINUTE", default_value_t = 100)]
    max_requests_per_minute: u32,
    /// Calls per minute without a token from one address; 0 for any number.
    #[arg(long, env = "METAL_MAX_UNAUTHENTICATED_REQUESTS_PER_MINUTE", default_value_t = 20)]
    max_unauthenticated_requests_per_minute: u32,
    /// Network of proxies whose `X-Forwarded-For` tells the address of the caller; may be repeated.
    #[arg(long = "trusted-proxy", env = "METAL_TRUSTED_PROXIES", value_delimiter = ',')]
    trusted_proxies: Vec<ipnet::IpNet>,
    /// PEM file with the certificate of this server, then those of intermediate authorities. Without it: clear text.
    #[arg(long, env = "METAL_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[arg(long, env = "METAL_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Loopback address for metrics of Prometheus, for instance 127.0.0.1:9091; none without it.
    #[arg(long, env = "METAL_METRICS_LISTEN", value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Print a new token.
    Create(CreateToken),
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Editor,
    Viewer,
}

#[derive(Args)]
struct CreateToken {
    #[command(flatten)]
    common: Common,
    /// Login of the owner.
    #[arg(long, default_value = "metal-stack")]
    user: String,
    /// What the token is for.
    #[arg(long, default_value = "")]
    description: String,
    /// Make it an operator's token.
    #[arg(long)]
    admin_role: Option<Role>,
    /// Make it an agent's token.
    #[arg(long)]
    infra_role: Option<Role>,
    /// Make it the token of an agent that speaks for all machines, such as the boot service.
    #[arg(long)]
    machine_role: Option<Role>,
    /// How long it is valid, for instance 30m, 8h or 7d.
    #[arg(long, default_value = "8h", value_parser = duration)]
    expires: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let hint =
        || format!("'{text}' is no duration: use a number and s, m, h or d, for instance 8h");
    let unit = text.chars().last().ok_or_else(hint)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(hint()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| hint())?;
    let seconds = number.checked_mul(seconds).ok_or_else(hint)?;
    if (600..=365 * 86_400).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("a token is valid for at least 10m and at most 365d".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Serve(args) => serve(args).await,
        Command::Token(TokenCommand::Create(args)) => create_token(args).await,
    }
}

async fn serve(args: Serve) -> Result<()> {
    daemon::telemetry::init("metal-server");
    let config = server::Config {
        listen: args.listen,
        database: args.common.database,
        issuer: args.common.url,
        bmc_superuser_password: std::env::var("METAL_BMC_SUPERUSER_PASSWORD").ok(),
        audit: server::audit::Config {
            retention: Duration::from_secs(args.audit_retention_days * 24 * 3600),
        },
        rate: server::rate::Config {
            token_per_minute: args.max_requests_per_minute,
            address_per_minute: args.max_unauthenticated_requests_per_minute,
        },
        trusted_proxies: args.trusted_proxies,
        tls: args.tls_cert.zip(args.tls_key).map(|(cert, key)| server::Tls { cert, key }),
        metrics: args.metrics_listen,
    };
    let running = server::start(config).await?;
    tracing::info!(address = %running.address, "answering");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    tokio::time::timeout(Duration::from_secs(5), running.stop())
        .await
        .context("calls were still running")?
}

async fn create_token(args: CreateToken) -> Result<()> {
    if args.user.chars().count() < 2 {
        bail!("--user needs at least 2 characters");
    }
    let db = store::Db::open(&args.common.database)
        .await
        .context("cannot open the database, check --database")?;
    let now = jiff::Timestamp::now();
    let mut tx = db.begin_write().await?;
    let mut token = api::Token {
        user: args.user,
        description: args.description,
        token_type: api::TokenType::Api.into(),
        admin_role: args.admin_role.map(|role| match role {
            Role::Editor => api::AdminRole::Editor.into(),
            Role::Viewer => api::AdminRole::Viewer.into(),
        }),
        infra_role: args.infra_role.map(|role| match role {
            Role::Editor => api::InfraRole::Editor.into(),
            Role::Viewer => api::InfraRole::Viewer.into(),
        }),
        ..Default::default()
    };
    if let Some(role) = args.machine_role {
        let role = match role {
            Role::Editor => api::MachineRole::Editor,
            Role::Viewer => api::MachineRole::Viewer,
        };
        token.machine_roles.insert("*".to_owned(), role.into());
    }
    let secret =
        server::bootstrap::first_token(&mut tx, &args.common.url, &mut token, args.expires, now)
            .await?;
    tx.commit().await?;
    println!("{secret}");
    Ok(())
}
