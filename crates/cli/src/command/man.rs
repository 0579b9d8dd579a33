//! `man`: a manual page for each command, made from the same tree as the help.

use clap::{ArgMatches, Command};

use crate::app::{self, Branches, position, verb};
use crate::error::{Error, Result};
use crate::session::{Session, note, out};

pub(crate) fn command(_: &str) -> Command {
    verb("man", "Write manual pages into a folder")
        .arg(position("FOLDER", "Where to write them").required(true))
        .after_help("Examples:\n  metalctl man /usr/local/share/man/man1")
}

pub(crate) async fn run(_: &Session, matches: &ArgMatches) -> Result<()> {
    let folder = matches.get_one::<String>("FOLDER").cloned().unwrap_or_default();
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder)
        .map_err(|e| Error::failed(format!("{} cannot be made: {e}", folder.display())))?;
    let mut root = app::command(&Branches::All);
    root.build();
    let mut count = 0;
    for (name, command) in all(&root, "metalctl") {
        let file = folder.join(format!("{}.1", name.replace(' ', "-")));
        std::fs::write(&file, page(&name, command))?;
        count += 1;
    }
    note(&format!("{count} pages are written to {}", folder.display()));
    Ok(())
}

/// Every visible command with its full name, parents first.
pub(crate) fn all<'a>(command: &'a Command, name: &str) -> Vec<(String, &'a Command)> {
    let mut found = vec![(name.to_owned(), command)];
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        found.extend(all(inner, &format!("{name} {}", inner.get_name())));
    }
    found
}

pub(crate) fn help_command(_: &str) -> Command {
    verb("__help", "The help of all commands in one text").hide(true)
}

/// For the golden file and for those who search.
pub(crate) async fn help(_: &Session, _: &ArgMatches) -> Result<()> {
    let mut root = app::command(&Branches::All);
    root.build();
    let pages = all(&root, "metalctl").into_iter().map(|(name, command)| {
        // Global flags stand on the first page only.
        let mut command = command.clone();
        if name != "metalctl" {
            command =
                command.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        }
        let text = command.term_width(100).render_long_help().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        format!("=== {name}\n{}\n", lines.join("\n"))
    });
    out(&pages.collect::<Vec<_>>().join("\n"))
}

/// A page in the language of man(7).
fn page(name: &str, command: &Command) -> String {
    let about = command.get_about().map_or(String::new(), ToString::to_string);
    let mut text = format!(
        ".TH \"{}\" 1 \"\" \"metalctl {}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n",
        name.replace(' ', "-").to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        escaped(&name.replace(' ', "-")),
        escaped(&about),
        escaped(name)
    );
    if command.has_subcommands() {
        text.push_str(".I COMMAND\n");
    }
    text.push_str("[options]\n");
    for arg in command.get_positionals() {
        text.push_str(&format!(".RI [ {} ]\n", escaped(arg.get_id().as_str())));
    }
    if let Some(long) = command.get_long_about() {
        text.push_str(&format!(
            ".SH DESCRIPTION\n{}\n",
            escaped(&long.to_string()).replace("\n\n", "\n.PP\n")
        ));
    }
    let visible: Vec<_> = command.get_subcommands().filter(|inner| !inner.is_hide_set()).collect();
    if !visible.is_empty() {
        text.push_str(".SH COMMANDS\n");
        for inner in visible {
            let about = inner.get_about().map_or(String::new(), ToString::to_string);
            text.push_str(&format!(".TP\n.B {}\n{}\n", escaped(inner.get_name()), escaped(&about)));
        }
    }
    text.push_str(".SH OPTIONS\n");
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long() else { continue };
        let short = arg.get_short().map_or(String::new(), |short| format!("\\-{short}, "));
        let value = arg.get_value_names().unwrap_or_default();
        let value = if arg.get_action().takes_values() {
            value.first().map_or("", |value| value.as_str())
        } else {
            ""
        };
        let help =
            arg.get_long_help().or(arg.get_help()).map_or(String::new(), ToString::to_string);
        text.push_str(&format!(
            ".TP\n.B {short}\\-\\-{} {}\n{}\n",
            escaped(long),
            escaped(value),
            escaped(&help)
        ));
    }
    if let Some(help) = command.get_after_help() {
        let help = help.to_string();
        let examples = help.strip_prefix("Examples:").unwrap_or(&help);
        text.push_str(&format!(
            ".SH EXAMPLES\n.nf\n{}\n.fi\n",
            escaped(examples.trim_matches('\n'))
        ));
    }
    text
}

/// Text that man(7) takes as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    text.lines()
        .map(
            |line| {
                if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
            },
        )
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let mut root = app::command(&Branches::All);
        root.build();
        let pages = all(&root, "metalctl");
        let (name, command) =
            pages.iter().find(|(name, _)| name == "metalctl machine wait").unwrap();
        let page = page(name, command);
        for part in [".TH \"METALCTL-MACHINE-WAIT\" 1", ".SH EXAMPLES", "\\-\\-for EVENT"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(pages.len() > 150, "{}", pages.len());
        assert_eq!(escaped(".a\n-b\\"), "\\&.a\n\\-b\\e");
    }
}
