//! Which words call which method. Most follow from the method's name; the others stand in a table.

use std::sync::LazyLock;

use crate::contract::{Field, Kind, METHODS, Method};
use crate::noun::Noun;

/// Where a verb stands on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// `metalctl NOUN VERB`
    User,
    /// `metalctl admin NOUN VERB`
    Admin,
    /// `metalctl infra NOUN VERB`, hidden: for agents and for those who debug them.
    Infra,
}

/// A verb of a noun.
#[derive(Clone, Debug)]
pub(crate) struct Verb {
    pub(crate) group: Group,
    pub(crate) noun: &'static Noun,
    /// `["list"]`, `["bmc", "command"]`.
    pub(crate) words: &'static [&'static str],
    pub(crate) method: &'static Method,
    /// Field of the request that is given without a flag.
    pub(crate) argument: Option<&'static Field>,
}

/// Methods whose words are not the kebab-case of their name.
const WORDS: &[(&str, &[&str])] = &[
    ("Get", &["describe"]),
    ("InviteGet", &["invite", "describe"]),
    ("InviteAccept", &["join"]),
    ("InviteDelete", &["invite", "delete"]),
    ("InvitesList", &["invite", "list"]),
    ("Invite", &["invite", "create"]),
    ("AddMember", &["member", "add"]),
    ("RemoveMember", &["member", "remove"]),
    ("UpdateMember", &["member", "update"]),
    ("BMCCommand", &["bmc", "command"]),
    ("GetBMC", &["bmc", "describe"]),
    ("ListBMC", &["bmc", "list"]),
    ("Revoke", &["delete"]),
    ("ListNodes", &["list"]),
    ("TokenScopedList", &["scoped"]),
    ("AdminGet", &["describe"]),
    ("UpdateBMCInfo", &["update-bmc-info"]),
    ("WaitForBMCCommand", &["wait-for-bmc-command"]),
    ("BMCCommandDone", &["bmc-command-done"]),
];

/// The same of a service whose verbs are about a part of its noun.
const RULES: &[(&str, &[&str])] = &[
    ("Get", &["rules", "describe"]),
    ("Update", &["rules", "update"]),
    ("Status", &["rules", "status"]),
];

/// Verbs as their methods stand in the contract.
pub(crate) static VERBS: LazyLock<Vec<Verb>> = LazyLock::new(|| {
    METHODS.iter().filter(|method| !method.streaming).filter_map(Verb::of).collect()
});

impl Verb {
    fn of(method: &'static Method) -> Option<Self> {
        let noun = Noun::of_service(method.short_service())?;
        let group = match (method.package(), noun.name) {
            ("api", _) => Group::User,
            ("ext", "timeline") if method.name == "Get" => Group::User,
            ("ext", "firewall") if !matches!(method.name, "Report" | "Token") => Group::User,
            ("admin", _) | ("ext", "timeline") => Group::Admin,
            _ => Group::Infra,
        };
        let table = if noun.name == "firewall" { RULES } else { WORDS };
        let known = table.iter().find(|(name, _)| *name == method.name).map(|(_, words)| *words);
        // Few and made once, at the first look at the table.
        let words =
            known.unwrap_or_else(|| Box::leak(Box::new([&*Box::leak(kebab(method.name).into())])));
        Some(Self { group, noun, words, method, argument: argument(method, noun) })
    }

    /// The last word.
    pub(crate) fn name(&self) -> &'static str {
        self.words.last().copied().unwrap_or_default()
    }

    /// Whether it changes nothing.
    pub(crate) fn only_reads(&self) -> bool {
        client::only_reads(self.method.name)
    }

    /// Whether the answer is a list of things.
    pub(crate) fn lists(&self) -> bool {
        self.method.response().fields.first().is_some_and(|field| field.repeated)
            && self.method.response().fields.len() <= 2
            && !matches!(self.method.name, "Get" | "TokenScopedList")
    }

    /// The words after `metalctl`.
    pub(crate) fn spelled(&self) -> String {
        let group = match self.group {
            Group::User => "",
            Group::Admin => "admin ",
            Group::Infra => "infra ",
        };
        format!("{group}{} {}", self.noun.name, self.words.join(" "))
    }
}

/// All verbs that people reach through `group`: operators' verbs need no `admin` where users have none.
pub(crate) fn of_group(group: Group) -> Vec<Verb> {
    let mut verbs: Vec<Verb> = VERBS.iter().filter(|verb| verb.group == group).cloned().collect();
    if group == Group::User {
        let borrowed: Vec<Verb> = VERBS
            .iter()
            .filter(|verb| verb.group == Group::Admin && verb.noun.name != "timeline")
            .filter(|verb| {
                !verbs.iter().any(|v| v.noun.name == verb.noun.name && v.words == verb.words)
            })
            .cloned()
            .collect();
        verbs.extend(borrowed);
    }
    verbs
}

/// The verb of a noun; a user's before an operator's.
pub(crate) fn find(noun: &Noun, method: &str, group: Group) -> Option<Verb> {
    let groups = match group {
        Group::Admin => [Group::Admin, Group::User],
        _ => [Group::User, Group::Admin],
    };
    groups.into_iter().find_map(|group| {
        VERBS
            .iter()
            .find(|v| v.group == group && v.noun.name == noun.name && v.method.name == method)
            .cloned()
    })
}

/// What a method is about comes without a flag, unless the method makes it.
fn argument(method: &'static Method, noun: &Noun) -> Option<&'static Field> {
    if matches!(method.name, "Create" | "List" | "Try" | "Dhcp" | "ListNodes" | "AuthKey") {
        return None;
    }
    let named: &[&str] = match method.name {
        "AddMember" | "RemoveMember" | "UpdateMember" => &["member"],
        "InviteAccept" | "InviteDelete" | "InviteGet" => &["secret"],
        "Invite" | "InvitesList" => &[],
        "Latest" => &["os"],
        "Migrate" => &["old_switch"],
        _ if noun.name == "project" => &["project"],
        _ if noun.name == "tenant" => &["login"],
        _ if noun.name == "ip" => &["ip"],
        _ => &["uuid", "id", "task_id", "size"],
    };
    named
        .iter()
        .find_map(|name| method.request().field(name))
        .filter(|field| field.kind == Kind::Text && !field.optional && !field.repeated)
}

/// `ConnectedMachines` is `connected-machines`, `BMCCommand` is `bmc-command`.
fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let after_lower = i > 0 && letters[i - 1].is_lowercase();
        let before_lower = letters.get(i + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && i > 0 && (after_lower || before_lower) {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_has_a_verb() {
        let verbs: BTreeSet<_> = VERBS.iter().map(|verb| verb.method.path).collect();
        let missing: Vec<_> =
            METHODS.iter().map(|m| m.path).filter(|path| !verbs.contains(path)).collect();
        // Streams are for agents; `machine wait` and `watch` follow machines for people.
        assert_eq!(
            missing,
            [
                "/metal.v1.FirewallService/Watch",
                "/metal.v1.SwitchWatchService/Watch",
                "/metalstack.infra.v2.BMCService/WaitForBMCCommand",
                "/metalstack.infra.v2.BootService/Wait",
            ]
        );
    }

    #[test]
    fn no_words_mean_two_things() {
        let mut seen = BTreeSet::new();
        for verb in VERBS.iter() {
            assert!(seen.insert(verb.spelled()), "{}", verb.spelled());
        }
    }

    #[test]
    fn arguments() {
        for (words, argument) in [
            ("machine describe", Some("uuid")),
            ("project member add", Some("member")),
            ("ip delete", Some("ip")),
            ("tenant describe", Some("login")),
            ("admin switch port", Some("id")),
            ("admin image create", None),
            ("machine list", None),
        ] {
            let verb = VERBS.iter().find(|verb| verb.spelled() == words).expect(words);
            assert_eq!(verb.argument.map(|field| field.name), argument, "{words}");
        }
    }

    #[test]
    fn words_of_names() {
        assert_eq!(kebab("ListBaseNetworks"), "list-base-networks");
        assert_eq!(kebab("ConsolePassword"), "console-password");
        assert_eq!(kebab("BMCCommand"), "bmc-command");
    }
}
