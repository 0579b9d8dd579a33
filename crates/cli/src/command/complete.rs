//! Completion for shells: the words come from the tree of commands, values from the API.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use crate::app::{self, Branches, position, verb};
use crate::column;
use crate::error::Result;
use crate::noun::Noun;
use crate::session::{Session, out};
use crate::suggest;

/// How long a key press may take.
const PATIENCE: Duration = Duration::from_millis(1500);

const BASH: &str = r#"_metalctl() {
    local IFS=$'\n' word="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=($(metalctl __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
    if [ ${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=($(compgen -f -- "${word#@}")); fi
}
complete -o nospace -F _metalctl metalctl
"#;

const ZSH: &str = r#"#compdef metalctl
_metalctl() {
    local -a found
    local line
    while IFS= read -r line; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done < <(metalctl __complete -- "${words[@]:1:$((CURRENT-1))}" 2>/dev/null)
    if (( $#found )); then _describe 'metalctl' found; else _files; fi
}
compdef _metalctl metalctl
"#;

const FISH: &str = r#"function __metalctl
    set -l words (commandline -opc) (commandline -ct)
    metalctl __complete -- $words[2..-1] 2>/dev/null
end
complete -c metalctl -f -a '(__metalctl)'
"#;

pub(crate) fn command(_: &str) -> Command {
    verb("completion", "Print the completion of a shell")
        .long_about("Print the completion of a shell. Values such as ids of machines, images and projects come from the API, with the context that is current when the key is pressed.")
        .arg(position("SHELL", "Which shell").required(true).value_parser(["bash", "zsh", "fish"]))
        .after_help("Examples:\n  metalctl completion bash > /etc/bash_completion.d/metalctl\n  metalctl completion zsh > \"${fpath[1]}/_metalctl\"\n  metalctl completion fish > ~/.config/fish/completions/metalctl.fish")
}

pub(crate) async fn run(_: &Session, matches: &ArgMatches) -> Result<()> {
    out(match matches.get_one::<String>("SHELL").map(String::as_str) {
        Some("zsh") => ZSH,
        Some("fish") => FISH,
        _ => BASH,
    })
}

pub(crate) fn words_command(_: &str) -> Command {
    verb("__complete", "Words for the shell's completion")
        .hide(true)
        .arg(position("WORDS", "What was typed").num_args(0..).last(true).allow_hyphen_values(true))
}

pub(crate) async fn words(session: &Session, matches: &ArgMatches) -> Result<()> {
    let typed: Vec<String> =
        matches.get_many::<String>("WORDS").into_iter().flatten().cloned().collect();
    let (before, word) = match typed.split_last() {
        Some((word, before)) => (before, word.as_str()),
        None => (&[][..], ""),
    };
    let root = app::command(&Branches::All);
    let found = match wanted(&root, before, word) {
        Wanted::Words(words) => words,
        Wanted::Values(topic) => {
            let live = live(session, &topic);
            tokio::time::timeout(PATIENCE, live).await.unwrap_or_default()
        }
    };
    let mut text = String::new();
    for (value, about) in found.iter().filter(|(value, _)| value.starts_with(word)) {
        text.push_str(&format!("{value}\t{about}\n"));
    }
    out(&text)
}

/// What may come next.
#[derive(Debug, PartialEq)]
enum Wanted {
    /// These words, with what they mean.
    Words(Vec<(String, String)>),
    /// Things that the server knows.
    Values(Topic),
}

/// Which things.
#[derive(Debug, PartialEq)]
struct Topic {
    noun: &'static str,
    admin: bool,
    project: Option<String>,
}

/// Decides from the tree of commands what may come next.
fn wanted(root: &Command, before: &[String], word: &str) -> Wanted {
    let (mut at, mut path) = (root, Vec::new());
    let mut pending: Option<&Arg> = None;
    let mut project = None;
    for typed in before {
        if let Some(arg) = pending.take() {
            if arg.get_id() == "project" {
                project = Some(typed.clone());
            }
            continue;
        }
        if typed.starts_with('-') {
            pending = value_flag(root, at, typed);
        } else if let Some(next) = at.find_subcommand(typed) {
            at = next;
            path.push(next.get_name().to_owned());
        }
    }
    let admin = path.first().is_some_and(|word| word == "admin");
    let noun = path.iter().find_map(|word| Noun::find(word)).map(|noun| noun.name);
    let values =
        |noun: &'static str| Wanted::Values(Topic { noun, admin, project: project.clone() });
    let possible = |arg: &Arg| -> Vec<(String, String)> {
        arg.get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| {
                (
                    value.get_name().to_owned(),
                    value.get_help().map_or(String::new(), |help| app_sentence(&help.to_string())),
                )
            })
            .collect()
    };
    if let Some(arg) = pending {
        let choices = possible(arg);
        return match (choices.is_empty(), noun_of_flag(arg.get_id().as_str())) {
            (false, _) => Wanted::Words(choices),
            (true, Some(noun)) => values(noun),
            (true, None) if arg.get_id() == "output" => Wanted::Words(
                [
                    "table",
                    "wide",
                    "markdown",
                    "json",
                    "yaml",
                    "manifest",
                    "name",
                    "template=",
                    "jsonpath=",
                ]
                .map(|word| (word.to_owned(), String::new()))
                .to_vec(),
            ),
            (true, None) => Wanted::Words(Vec::new()),
        };
    }
    if word.starts_with('-') {
        let flags =
            at.get_arguments().chain(root.get_arguments().filter(|arg| arg.is_global_set()));
        return Wanted::Words(
            flags
                .filter(|arg| !arg.is_hide_set())
                .filter_map(|arg| {
                    let help = arg
                        .get_help()
                        .map_or(String::new(), |help| app_sentence(&help.to_string()));
                    Some((format!("--{}", arg.get_long()?), help))
                })
                .collect(),
        );
    }
    if at.has_subcommands() {
        let visible = at.get_subcommands().filter(|command| !command.is_hide_set());
        return Wanted::Words(
            visible
                .map(|command| {
                    (
                        command.get_name().to_owned(),
                        command.get_about().map_or(String::new(), |about| about.to_string()),
                    )
                })
                .collect(),
        );
    }
    let positional = at.get_positionals().next();
    let choices = positional.map(possible).unwrap_or_default();
    match (positional, choices.is_empty(), noun) {
        (Some(_), false, _) if before.last().is_some_and(|last| last == at.get_name()) => {
            Wanted::Words(choices)
        }
        (Some(_), _, Some(noun)) => values(noun),
        (Some(_), _, None) if path == ["edit"] || path == ["explain"] => {
            let nouns = crate::noun::NOUNS
                .iter()
                .filter(|noun| noun.is_visible() && !noun.message.is_empty());
            Wanted::Words(nouns.map(|noun| (noun.name.to_owned(), noun.about.to_owned())).collect())
        }
        _ => Wanted::Words(Vec::new()),
    }
}

fn app_sentence(text: &str) -> String {
    crate::flag::sentence(text).replace(['\n', '\t'], " ")
}

/// The flag that takes the next word.
fn value_flag<'a>(root: &'a Command, at: &'a Command, typed: &str) -> Option<&'a Arg> {
    if typed.contains('=') {
        return None;
    }
    at.get_arguments().chain(root.get_arguments()).find(|arg| {
        let long = typed.strip_prefix("--");
        let named = long.is_some_and(|name| {
            arg.get_long() == Some(name)
                || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
        });
        let short =
            long.is_none() && typed.chars().nth(1) == arg.get_short() && arg.get_short().is_some();
        (named || short)
            && arg.get_action().takes_values()
            && arg.get_num_args().is_none_or(|n| n.min_values() > 0)
    })
}

/// Things whose id a flag takes.
fn noun_of_flag(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "project" | "query-project" | "default-project" => "project",
        "partition" | "partitions" => "partition",
        "size" => "size",
        "image" | "allocation-image" => "image",
        "networks" | "network" | "parent-network" | "network-networks" => "network",
        "filesystem-layout" => "filesystem",
        "login" | "tenant" => "tenant",
        "uuid" | "machine" => "machine",
        "old-switch" | "new-switch" => "switch",
        _ => return None,
    })
}

/// Ids with a description, as the server has them; nothing when it cannot be asked.
async fn live(session: &Session, topic: &Topic) -> Vec<(String, String)> {
    let Some(noun) = Noun::find(topic.noun) else { return Vec::new() };
    let project = topic.project.as_deref();
    suggest::known(session, noun, project, topic.admin)
        .await
        .iter()
        .filter_map(|item| {
            let id = item.get(noun.id)?.as_str()?.to_owned();
            let about = ["/allocation/hostname", "/name", "/description", "/size/id"];
            let about = about.iter().find_map(|at| item.pointer(at)?.as_str());
            Some((id, about.map_or(String::new(), |text| column::plain(&text.into()))))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Wanted {
        let root = app::command(&Branches::All);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (word, before) = words.split_last().unwrap();
        wanted(&root, before, word)
    }

    fn words(line: &str) -> Vec<String> {
        match check(line) {
            Wanted::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            values => panic!("{line}: {values:?}"),
        }
    }

    fn topic(noun: &'static str, admin: bool, project: Option<&str>) -> Wanted {
        Wanted::Values(Topic { noun, admin, project: project.map(str::to_owned) })
    }

    #[test]
    fn words_come_from_the_tree() {
        assert!(words("ma").contains(&"machine".to_owned()));
        assert!(words("machine ").contains(&"wait".to_owned()));
        assert!(words("machine bmc ").contains(&"command".to_owned()));
        assert!(words("image list --").contains(&"--sort-by".to_owned()));
        assert!(words("image list -o ").contains(&"yaml".to_owned()));
        assert_eq!(words("ip create --type "), ["ephemeral", "static"]);
        assert_eq!(words("machine power "), ["on", "off", "reset", "cycle", "bios", "disk", "pxe"]);
    }

    #[test]
    fn values_come_from_the_server() {
        assert_eq!(check("machine describe "), topic("machine", false, None));
        assert_eq!(check("machine describe -p web "), topic("machine", false, Some("web")));
        assert_eq!(check("admin machine delete "), topic("machine", true, None));
        assert_eq!(check("machine create --image "), topic("image", false, None));
        assert_eq!(check("machine create --network "), topic("network", false, None));
        assert_eq!(check("ip list -p "), topic("project", false, None));
        assert_eq!(check("machine power on "), topic("machine", false, None));
    }
}
