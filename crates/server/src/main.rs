//! `metal-server`: the control plane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use proto::api;

// docs/performance.md
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    Serve(Box<Serve>),
    /// Manage tokens straight in the database, for the first login.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Manage the keys that sign tokens, straight in the database.
    #[command(subcommand)]
    Key(KeyCommand),
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
    /// HTTP event collector (Splunk, Vector, Fluent Bit) that gets a copy of the audit log, for instance https://splunk:8088/services/collector/event.
    #[arg(long, env = "METAL_AUDIT_FORWARD_URL", value_name = "URL")]
    audit_forward_url: Option<String>,
    /// File with the token of that collector.
    #[arg(
        long,
        env = "METAL_AUDIT_FORWARD_TOKEN_FILE",
        requires = "audit_forward_url",
        value_name = "FILE"
    )]
    audit_forward_token_file: Option<PathBuf>,
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
    /// REST API of headscale, through whose VPN operators reach firewalls (docs/vpn.md). Without it: no VPN.
    #[arg(long, env = "METAL_HEADSCALE_URL", value_name = "URL")]
    headscale_url: Option<String>,
    /// File with an API key of headscale; else it is in the variable METAL_HEADSCALE_API_KEY.
    #[arg(
        long,
        env = "METAL_HEADSCALE_API_KEY_FILE",
        requires = "headscale_url",
        value_name = "FILE"
    )]
    headscale_api_key_file: Option<PathBuf>,
    /// URL of headscale that firewalls join; the same if not given.
    #[arg(
        long,
        env = "METAL_HEADSCALE_CONTROL_PLANE_URL",
        requires = "headscale_url",
        value_name = "URL"
    )]
    headscale_control_plane_url: Option<String>,
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    common: Common,
}

/// How people log in (docs/login.md). The client secret is in METAL_OIDC_CLIENT_SECRET or in a file.
#[derive(Args)]
#[command(next_help_heading = "Login of people")]
struct Login {
    /// Discovery document of the OpenID provider: https://…/.well-known/openid-configuration. Without it nobody logs in.
    #[arg(long, env = "METAL_OIDC_DISCOVERY_URL", requires = "oidc_client_id", value_name = "URL")]
    oidc_discovery_url: Option<String>,
    /// Name of this server at the provider.
    #[arg(long, env = "METAL_OIDC_CLIENT_ID", requires = "oidc_discovery_url", value_name = "ID")]
    oidc_client_id: Option<String>,
    /// File with the secret of this server at the provider, read at each login; else the variable METAL_OIDC_CLIENT_SECRET.
    #[arg(long, env = "METAL_OIDC_CLIENT_SECRET_FILE", value_name = "FILE")]
    oidc_client_secret_file: Option<PathBuf>,
    /// Where browsers go that log out; otherwise what the provider says.
    #[arg(long, env = "METAL_OIDC_END_SESSION_URL", value_name = "URL")]
    oidc_end_session_url: Option<String>,
    /// Claim that tells people apart.
    #[arg(long, env = "METAL_OIDC_UNIQUE_USER_KEY", value_name = "CLAIM", default_value = "email")]
    oidc_unique_user_key: String,
    /// PEM file with the authorities that vouch for the provider, instead of the public ones.
    #[arg(long, env = "METAL_OIDC_CA_CERT", value_name = "FILE")]
    oidc_ca_cert: Option<PathBuf>,
    /// Where else tokens may be sent than to loopback addresses: an origin or an address with its path; may be repeated.
    #[arg(
        long = "redirect-url",
        env = "METAL_REDIRECT_URLS",
        value_delimiter = ',',
        value_name = "URL"
    )]
    redirect_urls: Vec<String>,
    /// The web console, to which people go after a login that names no other target.
    #[arg(long, env = "METAL_FRONT_END_URL", value_name = "URL")]
    front_end_url: Option<String>,
}

impl Login {
    fn config(self) -> Option<server::auth::login::Config> {
        use server::auth::login::{Config, Secret};
        let client_secret = match self.oidc_client_secret_file {
            Some(file) => Some(Secret::File(file)),
            None => std::env::var("METAL_OIDC_CLIENT_SECRET").ok().map(Secret::Text),
        };
        let (discovery_url, client_id) = self.oidc_discovery_url.zip(self.oidc_client_id)?;
        Some(Config {
            discovery_url,
            client_id,
            client_secret,
            end_session_url: self.oidc_end_session_url,
            unique_user_key: self.oidc_unique_user_key,
            redirect_urls: self.redirect_urls,
            front_end_url: self.front_end_url,
            ca_cert: self.oidc_ca_cert,
        })
    }
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Print a new token.
    Create(CreateToken),
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a new key that signs tokens from now on, on all replicas.
    Rotate(RotateKey),
}

#[derive(Args)]
struct RotateKey {
    #[command(flatten)]
    common: Common,
    /// Forget all older keys: whoever has a token that one of them signed must log in again.
    #[arg(long)]
    revoke: bool,
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
    // huge pages would make memory resident that nobody uses; a kernel that does not know them has none
    let _ = nix::sys::prctl::set_thp_disable(true);
    match Cli::parse().command {
        Command::Serve(args) => serve(*args).await,
        Command::Token(TokenCommand::Create(args)) => create_token(args).await,
        Command::Key(KeyCommand::Rotate(args)) => rotate_key(args).await,
    }
}

async fn serve(args: Serve) -> Result<()> {
    daemon::telemetry::init("metal-server");
    let vpn = vpn(&args)?;
    let config = server::Config {
        vpn,
        listen: args.listen,
        database: args.common.database,
        issuer: args.common.url,
        bmc_superuser_password: std::env::var("METAL_BMC_SUPERUSER_PASSWORD").ok(),
        audit: server::audit::Config {
            retention: Duration::from_secs(args.audit_retention_days * 24 * 3600),
            forward: args.audit_forward_url.map(|url| server::audit::forward::Config {
                url,
                token_file: args.audit_forward_token_file,
            }),
        },
        rate: server::rate::Config {
            token_per_minute: args.max_requests_per_minute,
            address_per_minute: args.max_unauthenticated_requests_per_minute,
        },
        trusted_proxies: args.trusted_proxies,
        login: args.login.config(),
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

async fn rotate_key(args: RotateKey) -> Result<()> {
    let db = store::Db::open(&args.common.database)
        .await
        .context("cannot open the database, check --database")?;
    let mut tx = db.begin_write().await?;
    let (kid, revoked) =
        server::auth::key::rotate(&mut tx, jiff::Timestamp::now(), args.revoke).await?;
    tx.commit().await?;
    println!("key {kid} signs from now on, {revoked} older ones were revoked");
    Ok(())
}

/// The coordination server that was named.
fn vpn(args: &Serve) -> Result<Option<server::vpn::Config>> {
    use server::vpn::{ApiKey, Config};
    let Some(url) = &args.headscale_url else { return Ok(None) };
    let key = std::env::var("METAL_HEADSCALE_API_KEY").ok();
    let key = args.headscale_api_key_file.clone().map(ApiKey::File).or(key.map(ApiKey::Value));
    Ok(Some(Config {
        api_url: url.clone(),
        control_plane_url: args.headscale_control_plane_url.as_ref().unwrap_or(url).clone(),
        api_key: key.context(
            "headscale needs an API key: make one with `headscale apikeys create` and name its file with --headscale-api-key-file",
        )?,
        poll: Duration::from_secs(30),
    }))
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
