//! The built `metalctl` against a real server in this process, as transcripts.

mod errors;
mod help;
mod session;
mod top;
mod world;
