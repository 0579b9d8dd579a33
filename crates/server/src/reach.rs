//! Whether a file on a web server can be fetched, without fetching it.

use std::time::Duration;

use crate::rpc::Error;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a web server for the head of a file. `field` is the name of the request's field for the sentence of the error.
///
/// # Errors
/// `invalid_argument` when the URL is not HTTP, nobody answers in time, or the answer is an error.
pub(crate) async fn check(field: &'static str, url: &str) -> Result<(), Error> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Error::invalid(format!(
            "{field}: \"{url}\" does not begin with http:// or https://"
        )));
    }
    let asked = url.to_owned();
    let answer = tokio::task::spawn_blocking(move || ask(&asked))
        .await
        .map_err(|e| Error::internal(format!("cannot ask for {url}: {e}")))?;
    answer.map_err(|why| {
        Error::invalid(format!("{field}: {url} is not accessible from the control plane: {why}"))
    })
}

fn ask(url: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into();
    let status = agent.head(url).call().map_err(|e| e.to_string())?.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("the server answers {status}"))
    }
}
