//! The command line of users and operators.
//!
//! The contract's methods are the verbs: [`run`] builds the words and flags that were typed from tables that
//! `build.rs` made of the `.proto` files, calls the method in JSON and writes the answer. Commands that are more than
//! one call have a file each below `command`.

mod app;
mod binary;
mod column;
mod command;
mod context;
mod contract;
mod difference;
mod document;
mod duration;
mod error;
mod flag;
mod manifest;
mod noun;
mod output;
mod path;
mod plan;
mod request;
mod session;
mod suggest;
mod table;
mod template;
mod verb;
mod yaml;

use app::Branches;

/// Runs a command line, the name of the program first; returns the exit code.
#[must_use]
pub fn run(words: &[String]) -> u8 {
    // Shown before anything is built or read.
    if let [_, word] = words
        && (word == "version" || word == "--version" || word == "-V")
    {
        println!("metalctl {}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let words = &app::spelled_out(words);
    let matches = match app::command(&Branches::Typed(words)).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return refused(&error, words),
    };
    logging(matches.get_flag("debug"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(app::dispatch(&matches));
            // A key that is still waited for would hold the process.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            session::note(&error.to_string());
            error.kind as u8
        }
    }
}

fn refused(error: &clap::Error, words: &[String]) -> u8 {
    if let Some(error) = app::unknown(error, words) {
        session::note(&error.to_string());
        return error.kind as u8;
    }
    // Help goes to standard output, errors of the parser to standard error.
    drop(error.print());
    if error.use_stderr() { error::Kind::Usage as u8 } else { 0 }
}

/// Logs go to standard error, so that answers can be piped.
fn logging(debug: bool) {
    let filter = if debug { "debug,h2=info,hyper=info" } else { "error" };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
            .with_writer(std::io::stderr)
            .without_time()
            .try_init(),
    );
}
