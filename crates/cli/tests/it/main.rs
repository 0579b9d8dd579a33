//! The built `metalctl` against a real server in this process, as transcripts.

mod errors;
mod hall;
mod help;
mod login;
mod machine;
mod session;
mod shell;
mod top;
mod wait;
mod world;
