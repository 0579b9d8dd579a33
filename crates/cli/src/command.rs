//! The commands that are more than one call, and the way from words to all of them.

pub(crate) mod context;
pub(crate) mod generic;
pub(crate) mod wait;

use std::future::Future;
use std::pin::Pin;

use clap::{ArgMatches, Command};

use crate::error::Result;
use crate::session::Session;

type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A command with a file of its own.
pub(crate) struct Special {
    /// The words that lead to it.
    pub(crate) path: &'static [&'static str],
    pub(crate) command: fn(&str) -> Command,
    pub(crate) run: for<'a> fn(&'a Session, &'a ArgMatches) -> Running<'a>,
}

macro_rules! special {
    ($($path:expr => $module:ident :: $command:ident, $run:ident;)*) => {
        /// All of them.
        pub(crate) static SPECIALS: &[Special] = &[$(Special {
            path: &$path,
            command: $module::$command,
            run: |session, matches| Box::pin($module::$run(session, matches)),
        },)*];
    };
}

special! {
    ["context"] => context::command, run;
    ["machine", "wait"] => wait::command, run;
    ["admin", "machine", "wait"] => wait::command, run;
}

impl Special {
    /// The command that these words lead to.
    pub(crate) fn find(words: &[&str]) -> Option<&'static Self> {
        SPECIALS.iter().find(|special| words.starts_with(special.path))
    }
}
