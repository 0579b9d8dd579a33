//! What a human sees while the lab works: each step with the seconds since the start.

use std::io::Write;
use std::time::Instant;

/// Prints steps.
pub struct Progress {
    begin: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { begin: Instant::now() }
    }
}

/// A step that is being done. One that is dropped without [`Step::done`] has failed.
pub struct Step {
    begin: Instant,
    done: bool,
}

impl Progress {
    /// Announces a step.
    pub fn step(&self, what: &str) -> Step {
        eprint!("[{:6.1} s] {what} … ", self.begin.elapsed().as_secs_f64());
        std::io::stderr().flush().ok();
        Step { begin: Instant::now(), done: false }
    }

    /// A line of its own.
    pub fn note(&self, text: &str) {
        eprintln!("[{:6.1} s] {text}", self.begin.elapsed().as_secs_f64());
    }
}

impl Step {
    /// Says that it is done, and what came of it.
    pub fn done(mut self, result: &str) {
        self.done = true;
        let seconds = self.begin.elapsed().as_secs_f64();
        if result.is_empty() {
            eprintln!("{seconds:.1} s");
        } else {
            eprintln!("{result} ({seconds:.1} s)");
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.done {
            eprintln!("failed ({:.1} s)", self.begin.elapsed().as_secs_f64());
        }
    }
}
