//! `metal-installer`: `/init` of the initrd that the boot service gives to every machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        // it erases every disk that it finds
        eprintln!(
            "metal-installer is the first process of an initrd and does nothing anywhere else; see docs/installer.md"
        );
        return ExitCode::FAILURE;
    }
    installer::run::run()
}
