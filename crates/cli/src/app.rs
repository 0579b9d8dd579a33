//! The tree of words and flags. Only the branch that is typed is built with all its flags.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::command::{SPECIALS, Special, generic};
use crate::error::{Error, Result, nearest};
use crate::noun::{NOUNS, Noun};
use crate::session::Session;
use crate::verb::{self, Group, Verb};

/// Which branches get their flags.
pub(crate) enum Branches<'a> {
    /// Those of which a word was typed.
    Typed(&'a [String]),
    /// All: for help, completion and man pages.
    All,
}

impl Branches<'_> {
    fn wanted(&self, noun: &Noun) -> bool {
        match self {
            Self::All => true,
            Self::Typed(words) => {
                words.iter().any(|word| noun.name == word || noun.aliases.contains(&word.as_str()))
            }
        }
    }
}

/// The whole command.
pub(crate) fn command(branches: &Branches<'_>) -> Command {
    let mut root = Command::new("metalctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Bare metal by command: machines, networks, addresses, images and their partitions")
        .after_help(
            "Exit codes: 0 done, 1 failed, 2 wrong input, 3 not found, 4 conflict, 5 not allowed, 6 server away, \
             7 time is over, 8 differences found, 9 nothing left, 130 Ctrl-C.",
        )
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .args(globals());
    for noun in NOUNS {
        if let Some(branch) = branch(noun, Group::User, branches) {
            root = root.subcommand(branch);
        }
    }
    for special in SPECIALS.iter().filter(|special| special.path.len() == 1) {
        root = root.subcommand((special.command)(special.path[0]));
    }
    for (group, name, about) in [
        (Group::Admin, "admin", "What operators do, across all projects"),
        (Group::Infra, "infra", "What agents call; for looking behind the scenes"),
    ] {
        let mut branch_of_group = Command::new(name)
            .about(about)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .hide(group == Group::Infra);
        for noun in NOUNS {
            if let Some(branch) = branch(noun, group, branches) {
                branch_of_group = branch_of_group.subcommand(branch);
            }
        }
        root = root.subcommand(branch_of_group);
    }
    root
}

/// A firewall is a machine that is allocated as one: `firewall create` is `machine create --allocation-type firewall`. Only its
/// rules are its own.
pub(crate) fn spelled_out(words: &[String]) -> Vec<String> {
    let mut words = words.to_vec();
    let firewall = |word: &String| matches!(word.as_str(), "firewall" | "firewalls" | "fw");
    let Some(at) = words.iter().position(firewall) else { return words };
    // Only as a noun: behind a flag it is a value.
    let is_noun = at > 0
        && words[1..at].iter().all(|word| word == "admin")
        && words.get(at + 1).is_none_or(|word| word != "rules");
    let type_flag = match words.get(at + 1).map(String::as_str) {
        Some("create" | "allocate") => Some("--allocation-type=firewall"),
        Some("list" | "ls") => Some("--allocation-allocation-type=firewall"),
        _ => None,
    };
    if is_noun {
        words[at] = "machine".to_owned();
        words.extend(type_flag.map(str::to_owned));
    }
    words
}

/// A noun with its verbs.
fn branch(noun: &'static Noun, group: Group, branches: &Branches<'_>) -> Option<Command> {
    let verbs: Vec<Verb> =
        verb::of_group(group).into_iter().filter(|verb| verb.noun.name == noun.name).collect();
    let specials: Vec<&Special> = SPECIALS
        .iter()
        .filter(|special| match (group, special.path) {
            (Group::User, [first, _, ..]) => *first == noun.name,
            (Group::Admin, ["admin", first, _, ..]) => *first == noun.name,
            _ => false,
        })
        .collect();
    if verbs.is_empty() && specials.is_empty() {
        return None;
    }
    let mut command = Command::new(noun.name)
        .about(noun.about)
        .visible_aliases(noun.aliases.iter().filter(|alias| alias.len() <= 3).copied())
        .aliases(noun.aliases.iter().filter(|alias| alias.len() > 3).copied())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .hide(!noun.is_visible());
    if !branches.wanted(noun) {
        return Some(command);
    }
    // `bmc command` and `bmc list` share the word `bmc`.
    let mut groups = BTreeSet::new();
    for verb in &verbs {
        match verb.words {
            [_] => command = command.subcommand(generic::command(verb)),
            [first, ..] => drop(groups.insert(*first)),
            [] => {}
        }
    }
    let own = if group == Group::Admin { 2 } else { 1 };
    for special in &specials {
        match &special.path[own..] {
            [name] => command = command.subcommand((special.command)(name)),
            [first, ..] => drop(groups.insert(*first)),
            [] => {}
        }
    }
    for first in groups {
        let mut inner = Command::new(first)
            .about(match first {
                "bmc" => "The baseboard management controller",
                "member" => "Who belongs to it",
                "rules" => "What it lets pass",
                "invite" => "Invitations by link",
                _ => "More verbs",
            })
            .subcommand_required(true)
            .arg_required_else_help(true);
        for verb in verbs.iter().filter(|verb| verb.words.len() == 2 && verb.words[0] == first) {
            inner = inner.subcommand(generic::command(verb));
        }
        for special in &specials {
            if let [word, name] = &special.path[own..]
                && *word == first
            {
                inner = inner.subcommand((special.command)(name));
            }
        }
        command = command.subcommand(inner);
    }
    Some(command)
}

/// Whether a word is a flag that commands have by themselves, so that no field may take it.
pub(crate) fn is_global(word: &str) -> bool {
    const OWN: [&str; 24] = [
        "all",
        "api-token",
        "api-token-file",
        "api-url",
        "columns",
        "config",
        "context",
        "debug",
        "file",
        "filter",
        "firewall-rules-file",
        "help",
        "metal-project",
        "no-headers",
        "output",
        "selector",
        "sort-by",
        "template",
        "timeout",
        "wait",
        "wait-timeout",
        "watch",
        "version",
        "yes",
    ];
    OWN.contains(&word)
}

fn globals() -> Vec<Arg> {
    let global = |name: &'static str, value: &'static str, help: &'static str| {
        flag(name, value, help).global(true).help_heading("Everywhere")
    };
    vec![
        global(
            "output",
            "FORMAT",
            "table, wide, markdown, json, yaml, manifest, name, template=…, jsonpath=…",
        )
        .short('o')
        .env("METAL_OUTPUT"),
        global("template", "TEMPLATE", "Template for -o template").hide_short_help(true),
        global("context", "NAME", "Context instead of the current one").env("METAL_CONTEXT"),
        global("api-url", "URL", "Where the API is").env("METAL_API_URL"),
        global("api-token", "TOKEN", "Token; better in a file or the environment")
            .env("METAL_TOKEN")
            .hide_env_values(true)
            .hide_short_help(true),
        global("api-token-file", "FILE", "File that holds the token")
            .env("METAL_TOKEN_FILE")
            .hide_short_help(true),
        Arg::new("default-project")
            .long("metal-project")
            .env("METAL_PROJECT")
            .hide(true)
            .global(true),
        global("timeout", "DURATION", "How long a call may take").hide_short_help(true),
        global("config", "FILE", "Configuration file").hide_short_help(true),
        flag_without_value("debug", "Say what is called")
            .global(true)
            .help_heading("Everywhere")
            .hide_short_help(true),
    ]
}

/// A flag with a value.
pub(crate) fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// A flag that is there or not.
pub(crate) fn flag_without_value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

/// An argument without a flag.
pub(crate) fn position(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(name).help(help)
}

/// A command.
pub(crate) fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about)
}

/// The words of the command that was typed, and what belongs to the last one.
fn words(matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let mut words = Vec::new();
    let mut matches = matches;
    while let Some((word, inner)) = matches.subcommand() {
        words.push(word);
        matches = inner;
    }
    (words, matches)
}

/// Does what was typed.
pub(crate) async fn dispatch(root: &ArgMatches) -> Result<()> {
    let (words, matches) = words(root);
    let mut session = Session::new(matches)?;
    // A misspelled output is said before anything is done.
    session.format("table")?;
    session.renew(&words).await;
    match run(&session, root, &words, matches).await {
        Err(error) => Err(crate::suggest::improved(&session, error).await),
        done => done,
    }
}

async fn run(
    session: &Session,
    root: &ArgMatches,
    words: &[&str],
    matches: &ArgMatches,
) -> Result<()> {
    if let Some(special) = Special::find(words) {
        // Verbs below a command of its own file are its own affair.
        let mut matches = root;
        for word in special.path {
            matches = matches.subcommand_matches(word).unwrap_or(matches);
        }
        return (special.run)(session, matches).await;
    }
    let (group, words) = match words.split_first() {
        Some((&"admin", rest)) => (Group::Admin, rest),
        Some((&"infra", rest)) => (Group::Infra, rest),
        _ => (Group::User, words),
    };
    let found = words.split_first().and_then(|(noun, rest)| {
        let noun = Noun::find(noun)?;
        verb::of_group(group).into_iter().find(|v| v.noun.name == noun.name && v.words == rest)
    });
    match found {
        Some(verb) => generic::run(session, &verb, matches).await,
        None => Err(Error::usage(format!("'{}' is no command", words.join(" ")))
            .hint("`metalctl --help` shows all of them")),
    }
}

/// The verb whose words were typed, in the group that was typed.
fn typed_verb(typed: &[String]) -> Option<Verb> {
    let words: Vec<&str> = typed.iter().skip(1).map(String::as_str).collect();
    let (group, words) = match words.split_first() {
        Some((&"admin", rest)) => (Group::Admin, rest),
        Some((&"infra", rest)) => (Group::Infra, rest),
        _ => (Group::User, &words[..]),
    };
    let (noun, rest) = words.split_first()?;
    let noun = Noun::find(noun)?;
    verb::of_group(group)
        .into_iter()
        .find(|verb| verb.noun.name == noun.name && rest.starts_with(verb.words))
}

/// What is wrong with the words, with the nearest right ones.
pub(crate) fn unknown(error: &clap::Error, typed: &[String]) -> Option<Error> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let wrong = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = wrong(ContextKind::InvalidSubcommand)?;
            let nouns: Vec<&Noun> = NOUNS.iter().filter(|noun| noun.is_visible()).collect();
            let verbs: Vec<Verb> = typed
                .iter()
                .find_map(|word| Noun::find(word))
                .map(|noun| {
                    verb::VERBS.iter().filter(|v| v.noun.name == noun.name).cloned().collect()
                })
                .unwrap_or_default();
            // Main words are listed, other words for the same are only guessed.
            let (words, more): (Vec<&str>, Vec<&str>) = if verbs.is_empty() {
                let specials = SPECIALS.iter().filter(|s| s.path.len() == 1).map(|s| s.path[0]);
                let specials = specials.filter(|word| !word.starts_with('_'));
                let words = nouns.iter().map(|noun| noun.name).chain(specials).chain(["admin"]);
                (words.collect(), nouns.iter().flat_map(|noun| noun.aliases).copied().collect())
            } else {
                let noun = verbs[0].noun.name;
                let specials = SPECIALS.iter().filter(|s| s.path.contains(&noun));
                let specials = specials.filter_map(|s| s.path.last().copied());
                (verbs.iter().map(|v| v.words[0]).chain(specials).collect(), Vec::new())
            };
            let what = if verbs.is_empty() { "command" } else { "verb" };
            let answer = Error::usage(format!("there is no {what} '{word}'"));
            Some(match nearest(&word, words.iter().chain(&more).copied()) {
                Some(near) => answer.hint(format!("did you mean '{near}'?")),
                None => {
                    let words: BTreeSet<&str> = words.into_iter().collect();
                    answer.hint(format!("there are {}", Vec::from_iter(words).join(", ")))
                }
            })
        }
        ErrorKind::UnknownArgument => {
            let flag = wrong(ContextKind::InvalidArg)?;
            let answer = Error::usage(format!("there is no flag '{flag}' here"));
            let operators = typed.iter().find_map(|word| Noun::find(word)).and_then(|noun| {
                verb::VERBS.iter().find(|verb| {
                    verb.group == Group::Admin
                        && verb.noun.name == noun.name
                        && typed.iter().any(|word| word == verb.name())
                        && crate::flag::of_verb(verb).iter().any(|known| {
                            flag.trim_start_matches('-').split('=').next() == Some(known.name)
                        })
                })
            });
            if let Some(verb) = operators.filter(|_| !typed.iter().any(|word| word == "admin")) {
                return Some(
                    answer.hint(format!("operators have it: metalctl {}", verb.spelled())),
                );
            }
            if let Some(verb) = typed_verb(typed)
                && let Some(field) = verb.argument
                && field.name.replace('_', "-")
                    == flag.trim_start_matches('-').split('=').next().unwrap_or_default()
            {
                return Some(answer.hint(format!(
                    "it stands without a flag: metalctl {} {}",
                    verb.spelled(),
                    field.name.to_uppercase()
                )));
            }
            Some(match wrong(ContextKind::SuggestedArg) {
                Some(near) => answer.hint(format!("did you mean {near}?")),
                None => answer.hint("--help shows the flags of a command"),
            })
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let arg = wrong(ContextKind::InvalidArg)?;
            let flag = arg.split_whitespace().next().unwrap_or(&arg).to_owned();
            let value = wrong(ContextKind::InvalidValue).unwrap_or_default();
            let known = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(known)) => known.clone(),
                _ => Vec::new(),
            };
            if value.is_empty() {
                return Some(
                    Error::usage(format!("{flag} needs a value"))
                        .hint("--help shows what it takes"),
                );
            }
            let answer = Error::usage(format!("{flag} does not take '{value}'"));
            Some(match (nearest(&value, known.iter().map(String::as_str)), known.is_empty()) {
                (Some(near), _) => answer.hint(format!("did you mean '{near}'?")),
                (None, false) => answer.hint(format!("it takes {}", known.join(", "))),
                (None, true) => answer.hint("--help shows what it takes"),
            })
        }
        ErrorKind::MissingRequiredArgument => {
            let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
                return None;
            };
            Some(
                Error::usage(format!("{} is missing", missing.join(", ")))
                    .hint("--help shows an example"),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        command(&Branches::All).debug_assert();
    }

    #[test]
    fn every_verb_can_be_typed() {
        let root = command(&Branches::All);
        for verb in verb::VERBS.iter() {
            let spelled = verb.spelled();
            let mut at = &root;
            for word in spelled.split(' ') {
                at = at.find_subcommand(word).unwrap_or_else(|| panic!("{spelled}: {word}"));
            }
        }
    }

    #[test]
    fn a_typed_branch_is_enough() {
        let words: Vec<String> =
            "metalctl image ls -o json".split(' ').map(str::to_owned).collect();
        let matches = command(&Branches::Typed(&words)).try_get_matches_from(&words).unwrap();
        assert_eq!(super::words(&matches).0, ["image", "list"]);
    }

    #[test]
    fn firewalls_are_machines() {
        let check = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            spelled_out(&words).join(" ")
        };
        assert_eq!(
            check("m firewall list -o wide"),
            "m machine list -o wide --allocation-allocation-type=firewall"
        );
        assert_eq!(check("m admin fw describe x"), "m admin machine describe x");
        assert_eq!(check("m image list --feature firewall"), "m image list --feature firewall");
    }
}
