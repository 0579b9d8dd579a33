//! The commands that are more than one call, and the way from words to all of them.

mod apply;
mod complete;
mod context;
mod edit;
mod explain;
pub(crate) mod generic;
mod login;
mod machine;
pub(crate) mod man;
mod show;
mod ssh;
mod top;
mod wait;

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
    ["apply"] => apply::command, run;
    ["diff"] => apply::diff_command, diff;
    ["edit"] => edit::command, run;
    ["explain"] => explain::command, run;
    ["call"] => explain::call_command, call;
    ["context"] => context::command, run;
    ["login"] => login::command, run;
    ["logout"] => login::logout_command, logout;
    ["whoami"] => login::whoami_command, whoami;
    ["status"] => show::status_command, status;
    ["top"] => top::command, run;
    ["version"] => show::version_command, version;
    ["completion"] => complete::command, run;
    ["__complete"] => complete::words_command, words;
    ["man"] => man::command, run;
    ["__help"] => man::help_command, help;
    ["machine", "wait"] => wait::command, run;
    ["machine", "events"] => machine::events_command, events;
    ["machine", "ssh"] => ssh::command, run;
    ["machine", "console"] => machine::missing_command, console;
    ["machine", "power"] => machine::power_command, power;
    ["machine", "identify"] => machine::identify_command, identify;
    ["machine", "lock"] => machine::lock_command, lock;
    ["machine", "taint"] => machine::lock_command, taint;
    ["machine", "reinstall"] => machine::missing_command, reinstall;
    ["machine", "update-firmware"] => machine::missing_command, firmware;
    ["size", "suggest"] => machine::suggest_command, suggest;
    ["switch", "ssh"] => ssh::switch_command, switch_ssh;
    ["switch", "console"] => ssh::switch_command, switch_console;
    ["firmware"] => machine::missing_command, firmware;
    ["component", "prune"] => show::prune_command, prune;
    ["switch", "ports"] => show::ports_command, ports;
    ["project", "member", "list"] => show::members_command, project_members;
    ["tenant", "member", "list"] => show::members_command, tenant_members;
}

impl Special {
    /// The command that these words lead to.
    pub(crate) fn find(words: &[&str]) -> Option<&'static Self> {
        SPECIALS.iter().find(|special| words.starts_with(special.path))
    }
}
