//! What a command works with: the API, who calls, how to write the answer.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use client::{Client, TokenSource};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::binary;
use crate::context::{self, Config, Context};
use crate::contract::Method;
use crate::error::{Error, Kind, Result};
use crate::output::{Answer, Content, Format, Shape};

/// How long a human waits for a server that does not answer at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that the flags before and behind the verb say.
pub(crate) struct Session {
    url: Option<String>,
    token: TokenSource,
    /// Whether the token is the one that the context holds.
    of_context: bool,
    /// Project by flag, environment or context; an id or a name.
    project: Option<String>,
    timeout: Duration,
    output: Option<String>,
    template: Option<String>,
    pub(crate) config_path: PathBuf,
    pub(crate) config: Config,
    pub(crate) context: Option<Context>,
    client: std::cell::OnceCell<Client>,
}

impl Session {
    /// Reads flags, environment and configuration; connects to nothing.
    pub(crate) fn new(matches: &ArgMatches) -> Result<Self> {
        let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
        // A context that is asked for by flag wins over the environment.
        let context_flag = matches.value_source("context") == Some(ValueSource::CommandLine);
        let typed = |name: &str| {
            let by_environment = matches.value_source(name) == Some(ValueSource::EnvVariable);
            text(name).filter(|text| !(text.is_empty() || context_flag && by_environment))
        };
        let environment =
            |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty() && !context_flag);
        let config_path = context::location(text("config").as_deref())?;
        let config = Config::load(&config_path)?;
        let context = match text("context").or_else(|| config.current().map(str::to_owned)) {
            Some(name) => Some(config.context(&name)?),
            None => None,
        };
        let of_context = |field: fn(&Context) -> Option<String>| context.as_ref().and_then(field);
        let url = typed("api-url")
            .or_else(|| environment("METAL_APIV2_URL"))
            .or_else(|| of_context(|context| context.url.clone()));
        let mut from_context = false;
        let token = if let Some(token) = typed("api-token") {
            TokenSource::Static(token)
        } else if let Some(file) = typed("api-token-file") {
            TokenSource::File(file.into())
        } else if let Some(token) = environment("METAL_APIV2_TOKEN") {
            TokenSource::Static(token)
        } else if let Some(file) = environment("METAL_APIV2_TOKEN_FILE") {
            TokenSource::File(file.into())
        } else {
            from_context = true;
            of_context(|context| context.token.clone())
                .map_or(TokenSource::None, TokenSource::Static)
        };
        let timeout = match typed("timeout") {
            Some(text) => crate::duration::parse(&text).ok_or_else(|| {
                Error::usage(format!("--timeout: '{text}' is no duration; write it like 90s"))
            })?,
            None => context.as_ref().and_then(|c| c.timeout).unwrap_or(Duration::from_secs(30)),
        };
        Ok(Self {
            url,
            token,
            of_context: from_context,
            project: typed("default-project")
                .or_else(|| of_context(|context| context.project.clone())),
            timeout,
            output: typed("output"),
            template: text("template"),
            config_path,
            config,
            context,
            client: std::cell::OnceCell::new(),
        })
    }

    /// When the command began.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Where the API is.
    pub(crate) fn url(&self) -> Result<&str> {
        self.url.as_deref().ok_or_else(|| {
            Error::usage("it is not known where the API is").hint(
                "give its URL with --api-url or METAL_API_URL, or make a context: \
                 metalctl context add NAME --api-url URL --api-token TOKEN",
            )
        })
    }

    /// The project that applies when a command names none.
    pub(crate) fn default_project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// Whether a token is there at all.
    pub(crate) fn has_token(&self) -> bool {
        !matches!(self.token, TokenSource::None)
    }

    /// Whether the token is the one that the context holds.
    pub(crate) fn token_of_context(&self) -> bool {
        self.of_context && self.has_token()
    }

    /// Goes on with another token, which is in the configuration already.
    pub(crate) fn take(&mut self, config: Config, token: String) {
        if let Some(context) = &mut self.context {
            context.token = Some(token.clone());
        }
        self.config = config;
        self.token = TokenSource::Static(token);
        self.client = std::cell::OnceCell::new();
    }

    /// The API.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.client_with(self.token.clone())?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The API for whoever has this token.
    pub(crate) fn client_with(&self, token: TokenSource) -> Result<Client> {
        let ca_cert_pem = match std::env::var("METAL_CA_CERT_FILE") {
            Ok(file) => Some(std::fs::read_to_string(&file).map_err(|e| {
                Error::usage(format!("METAL_CA_CERT_FILE: {file} cannot be read: {e}"))
            })?),
            Err(_) => None,
        };
        let config = client::Config { url: self.url()?.to_owned(), token, ca_cert_pem };
        Ok(Client::new(config)
            .map_err(|e| Error::usage(e.to_string()))?
            .with_patience(PATIENCE.min(self.timeout))
            .with_timeout(self.timeout))
    }

    /// Calls a method.
    pub(crate) async fn call(&self, method: &Method, request: &Value) -> Result<Value> {
        self.call_path(method.path, request).await
    }

    /// Calls a method by its path.
    pub(crate) async fn call_path(&self, path: &str, request: &Value) -> Result<Value> {
        let client = self.client()?;
        tracing::debug!(path, %request, "calling");
        let answer = client.call_json(path, request).await;
        answer.map_err(|error| self.refused(&error, path))
    }

    /// Calls a method that lists machines, without what tables of machines never show.
    pub(crate) async fn call_light(&self, method: &Method, request: &Value) -> Result<Value> {
        let Some(bytes) = binary::encode(method.request(), request) else {
            return self.call(method, request).await;
        };
        tracing::debug!(path = method.path, %request, "calling, in binary form");
        let answer = self.client()?.call_binary(method.path, bytes).await;
        let answer = answer.map_err(|error| self.refused(&error, method.path))?;
        let shown = binary::Shown::new(method.response(), binary::OF_MACHINES);
        binary::decode(method.response(), &answer, Some(&shown)).ok_or_else(|| {
            Error::failed("the answer is not that of this API")
                .hint("`metalctl version --server` shows whether one of both is older")
        })
    }

    fn refused(&self, error: &client::ConnectError, path: &str) -> Error {
        let mut error = Error::call(error, path, self.url.as_deref().unwrap_or_default());
        if error.kind == Kind::Denied && !self.has_token() {
            error.hints = vec![
                "no token was given: log in with `metalctl login`, or set METAL_TOKEN or METAL_TOKEN_FILE".to_owned(),
            ];
        }
        error
    }

    /// The id of a project that is given by id or name.
    pub(crate) async fn project_id(&self, project: &str) -> Result<String> {
        if is_uuid(project) {
            return Ok(project.to_owned());
        }
        let path = "/metalstack.api.v2.ProjectService/List";
        let answer = self.call_path(path, &json!({})).await?;
        let projects =
            answer.get("projects").and_then(Value::as_array).cloned().unwrap_or_default();
        let name = |project: &Value| project.get("name")?.as_str().map(str::to_owned);
        let found: Vec<&Value> =
            projects.iter().filter(|p| name(p).as_deref() == Some(project)).collect();
        match found.as_slice() {
            [one] => Ok(one["uuid"].as_str().unwrap_or_default().to_owned()),
            [] => {
                let names: Vec<String> = projects.iter().filter_map(name).collect();
                let error = Error::new(Kind::NotFound, format!("there is no project '{project}'"));
                Err(match crate::error::nearest(project, names.iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("did you mean '{near}'?")),
                    None => error.hint("`metalctl project list` shows your projects"),
                })
            }
            _ => Err(Error::usage(format!("several projects are called '{project}'"))
                .hint("give the id, `metalctl project list` shows it")),
        }
    }

    /// The output that was asked for, or `usual`.
    pub(crate) fn format(&self, usual: &str) -> Result<Format> {
        let output = match (&self.output, &self.template) {
            (None, Some(_)) => "template",
            (Some(output), _) => output,
            (None, None) => usual,
        };
        Format::parse(output, self.template.as_deref())
    }

    /// Writes an answer.
    pub(crate) fn show(&self, answer: Answer, usual: &str, shape: &Shape) -> Result<()> {
        let format = self.format(usual)?;
        let empty = matches!(&answer.content, Content::Many(items) if items.is_empty());
        if empty && matches!(format, Format::Table | Format::Wide) {
            note("there is nothing to show");
        }
        out(&answer.write(&format, shape, self.now())?)
    }
}

/// Writes to standard output; whoever reads it may stop reading.
pub(crate) fn out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Tells the human something that is no result.
pub(crate) fn note(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Asks before something is lost; programs are not asked.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    drop(write!(std::io::stderr(), "{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::failed("nothing was done")),
    }
}

/// Whether a text has the form of a UUID.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
