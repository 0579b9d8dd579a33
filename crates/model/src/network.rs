//! What networks may be made and used for.

use ipnet::IpNet;

use crate::prefix::{Family, families, family};

/// What a network is for; the numbers are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Type {
    /// Reaches something outside.
    External = 1,
    /// Addresses of the fabric.
    Underlay = 2,
    /// Pool of child networks.
    Super = 3,
    /// Pool of which each project sees the whole.
    SuperNamespaced = 4,
    /// Private network of a project.
    Child = 5,
    /// Private network of a project to which others may attach machines.
    ChildShared = 6,
}

impl Type {
    /// From the number of the contract.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::External,
            2 => Self::Underlay,
            3 => Self::Super,
            4 => Self::SuperNamespaced,
            5 => Self::Child,
            6 => Self::ChildShared,
            _ => return None,
        })
    }

    /// Number of the contract.
    #[must_use]
    pub fn number(self) -> i64 {
        self as i64
    }

    /// Whether child networks come out of it.
    #[must_use]
    pub fn is_super(self) -> bool {
        matches!(self, Self::Super | Self::SuperNamespaced)
    }

    /// Whether its prefixes come from a super network.
    #[must_use]
    pub fn is_child(self) -> bool {
        matches!(self, Self::Child | Self::ChildShared)
    }
}

/// A prefix length for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// For IPv4.
    pub v4: Option<u8>,
    /// For IPv6.
    pub v6: Option<u8>,
}

impl Lengths {
    /// For a family.
    #[must_use]
    pub fn of(&self, family: Family) -> Option<u8> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The families that it names.
    pub fn iter(&self) -> impl Iterator<Item = (Family, u8)> + use<> {
        [(Family::V4, self.v4), (Family::V6, self.v6)]
            .into_iter()
            .filter_map(|(family, length)| Some((family, length?)))
    }
}

/// A network that is wanted, as far as the rules of its type ask.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// What for.
    pub kind: Type,
    /// Whether a field of [`FIELDS`] is given, in that order.
    pub given: [bool; FIELDS.len()],
    /// Address ranges.
    pub prefixes: &'a [IpNet],
    /// What can be reached.
    pub destinations: &'a [IpNet],
    /// For children.
    pub default_length: Lengths,
    /// For children.
    pub min_length: Lengths,
    /// Whether firewalls hide addresses behind their own.
    pub masquerade: bool,
}

/// Fields that depend on the type of the network.
pub const FIELDS: [&str; 12] = [
    "id",
    "project",
    "partition",
    "prefixes",
    "destination_prefixes",
    "default_child_prefix_length",
    "min_child_prefix_length",
    "length",
    "address_family",
    "additional_announcable_cidrs",
    "vrf",
    "parent_network",
];

/// For each of [`FIELDS`]: `!` required, `-` forbidden, `.` as one likes.
fn rules(kind: Type) -> [u8; FIELDS.len()] {
    *match kind {
        Type::Super => b"!..!.!.--..-",
        Type::SuperNamespaced => b"!.-!.!.--..-",
        Type::Child | Type::ChildShared => b"-!.----..-..",
        Type::External => b"!..!.-----!-",
        Type::Underlay => b"!-!!--------",
    }
}

/// Checks what a network of this type may be made of.
///
/// # Errors
/// All problems, one a line.
pub fn check(wanted: &Wanted<'_>) -> Result<(), String> {
    let mut problems = Vec::new();
    for ((field, given), rule) in FIELDS.iter().zip(wanted.given).zip(rules(wanted.kind)) {
        match rule {
            b'!' if !given => problems.push(format!("{field} must not be empty")),
            b'-' if given => problems.push(format!("{field} must not be given for this type")),
            _ => {}
        }
    }
    if wanted.kind.is_child() && wanted.given[2] == wanted.given[11] {
        problems.push("give either partition or parent_network, but not both".to_owned());
    }
    if wanted.kind == Type::Underlay {
        if wanted.masquerade {
            problems.push("an underlay network does no nat".to_owned());
        }
        if wanted.prefixes.iter().any(|net| family(net) == Family::V6) {
            problems.push("an underlay network has ipv4 prefixes only".to_owned());
        }
    }
    problems.extend(check_destinations(wanted.prefixes, wanted.destinations).err());
    if wanted.kind.is_super() && problems.is_empty() {
        for (name, lengths) in [("default", &wanted.default_length), ("min", &wanted.min_length)] {
            problems.extend(check_lengths(name, wanted.prefixes, lengths).err());
        }
        for family in families(wanted.prefixes) {
            if wanted.default_length.of(family).is_none() {
                problems.push(format!(
                    "default_child_prefix_length must be given for every family of the prefixes, {} is missing",
                    name_of(family)
                ));
            }
        }
        problems.extend(check_default(&wanted.default_length, &wanted.min_length).err());
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Destinations can only be reached from addresses of their own family.
///
/// # Errors
/// A sentence.
pub fn check_destinations(prefixes: &[IpNet], destinations: &[IpNet]) -> Result<(), String> {
    let have = families(prefixes);
    match families(destinations).into_iter().find(|family| !have.contains(family)) {
        Some(family) => Err(format!(
            "destination_prefixes contain {}, but the prefixes do not",
            name_of(family)
        )),
        None => Ok(()),
    }
}

/// Children are smaller than every prefix of their family that they may come from.
///
/// # Errors
/// All problems, one a line.
pub fn check_lengths(name: &str, prefixes: &[IpNet], lengths: &Lengths) -> Result<(), String> {
    let mut problems = Vec::new();
    for (family, length) in lengths.iter() {
        let mut own = prefixes.iter().filter(|net| crate::prefix::family(net) == family).peekable();
        if own.peek().is_none() {
            problems.push(format!(
                "{name} child prefix length names {}, but there is no such prefix",
                name_of(family)
            ));
        }
        problems.extend(own.filter(|net| length <= net.prefix_len()).map(|net| {
            format!("{name} child prefix length {length} must be greater than the length of {net}")
        }));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// The default must be one that a request may ask for.
///
/// # Errors
/// A sentence.
pub fn check_default(default: &Lengths, min: &Lengths) -> Result<(), String> {
    for (family, length) in default.iter() {
        if let Some(min) = min.of(family).filter(|min| length < *min) {
            return Err(format!(
                "default child prefix length {length} is smaller than the minimum {min} of {}",
                name_of(family)
            ));
        }
    }
    Ok(())
}

/// Which families a child network is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stack {
    /// All that lengths are known for.
    #[default]
    Any,
    /// One.
    Only(Family),
    /// Both, or nothing.
    Dual,
}

/// The prefixes that a child network gets: a length for each family.
///
/// # Errors
/// A sentence.
pub fn child_lengths(
    parent: &[IpNet],
    default: &Lengths,
    min: &Lengths,
    asked: Option<Lengths>,
    stack: Stack,
) -> Result<Vec<(Family, u8)>, String> {
    let lengths = asked.unwrap_or(*default);
    if lengths == Lengths::default() {
        return Err("the parent network has no default child prefix length, give a length".into());
    }
    let wanted: Vec<(Family, u8)> = match stack {
        Stack::Any => lengths.iter().collect(),
        Stack::Only(family) => {
            let length = lengths.of(family).ok_or_else(|| no_length(family))?;
            vec![(family, length)]
        }
        Stack::Dual => [Family::V4, Family::V6]
            .into_iter()
            .map(|family| Ok((family, lengths.of(family).ok_or_else(|| no_length(family))?)))
            .collect::<Result<_, String>>()?,
    };
    for (family, length) in &wanted {
        if let Some(min) = min.of(*family).filter(|min| length < min) {
            return Err(format!(
                "requested {} prefix length {length} is smaller than allowed {min}",
                name_of(*family)
            ));
        }
    }
    let mut only = Lengths::default();
    for (family, length) in &wanted {
        match family {
            Family::V4 => only.v4 = Some(*length),
            Family::V6 => only.v6 = Some(*length),
        }
    }
    check_lengths("requested", parent, &only)?;
    Ok(wanted)
}

fn no_length(family: Family) -> String {
    let name = name_of(family);
    format!("{name} is asked for, but neither the request nor the parent names a length for it")
}

/// As users write it.
#[must_use]
pub fn name_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// Whether a machine of a project may be attached to a network.
#[must_use]
pub fn attachable(kind: Type, owner: Option<&str>, project: &str) -> bool {
    match owner {
        Some(owner) => owner == project || kind == Type::ChildShared,
        None => true,
    }
}

/// Whether a machine may be attached to a network of this type at all.
///
/// # Errors
/// A sentence.
pub fn check_kind(id: &str, kind: Type) -> Result<(), String> {
    match kind {
        Type::Underlay => Err(format!(
            "network {id} is the underlay: firewalls get it by themselves, machines never"
        )),
        Type::Super | Type::SuperNamespaced => {
            Err(format!("network {id} is a super network: create a network of the project in it"))
        }
        Type::External | Type::Child | Type::ChildShared => Ok(()),
    }
}

/// Whether a machine may be attached to this set of networks, each by its id and type.
///
/// # Errors
/// A sentence.
pub fn check_attachment(firewall: bool, networks: &[(&str, Type)]) -> Result<(), String> {
    networks.iter().try_for_each(|(id, kind)| check_kind(id, *kind))?;
    let count =
        |wanted: fn(Type) -> bool| networks.iter().filter(|(_, kind)| wanted(*kind)).count();
    let private = count(Type::is_child);
    let external = count(|kind| kind == Type::External);
    let refused = |sentence: &str| Err(sentence.to_owned());
    if count(|kind| kind == Type::ChildShared) > 1 {
        return refused("at most one shared network can be given");
    }
    match (firewall, private, external) {
        (true, _, 0) => {
            refused("a firewall needs at least one external network, for instance the internet")
        }
        (true, 0, _) => refused("a firewall needs at least one network of the project"),
        (false, 1, _) | (true, ..) => Ok(()),
        (false, ..) => Err(format!(
            "a machine lives in exactly one network of its project, {private} are given"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("prefix")).collect()
    }

    fn given(names: &[&str]) -> [bool; FIELDS.len()] {
        assert!(names.iter().all(|name| FIELDS.contains(name)));
        FIELDS.map(|field| names.contains(&field))
    }

    const NONE: Lengths = Lengths { v4: None, v6: None };

    fn verdict(kind: Type, names: &[&str], prefixes: &[&str], default: Lengths) -> String {
        let prefixes = nets(prefixes);
        check(&Wanted {
            kind,
            given: given(names),
            prefixes: &prefixes,
            destinations: &[],
            default_length: default,
            min_length: NONE,
            masquerade: false,
        })
        .err()
        .unwrap_or_default()
    }

    #[test]
    fn each_type_says_what_it_needs_and_what_it_refuses() {
        let all = [
            Type::Super,
            Type::SuperNamespaced,
            Type::Child,
            Type::ChildShared,
            Type::External,
            Type::Underlay,
        ];
        let mut text = String::new();
        for kind in all {
            let nothing = verdict(kind, &[], &[], NONE);
            let everything =
                verdict(kind, &FIELDS, &["10.0.0.0/8"], Lengths { v4: Some(22), v6: None });
            text += &format!(
                "{kind:?} with nothing:\n{nothing}\n{kind:?} with everything:\n{everything}\n\n"
            );
        }
        expect_test::expect_file!["../tests/golden/network_types.txt"].assert_eq(&text);
    }

    #[test]
    fn a_super_network_names_lengths_for_all_its_families_and_no_other() {
        let lengths = |v4, v6| Lengths { v4, v6 };
        let names = ["id", "prefixes", "default_child_prefix_length"];
        let of = |prefixes: &[&str], default| verdict(Type::Super, &names, prefixes, default);
        assert_eq!(of(&["10.0.0.0/8", "fd00::/48"], lengths(Some(22), Some(64))), "");
        assert!(
            of(&["10.0.0.0/8", "fd00::/48"], lengths(Some(22), None)).contains("ipv6 is missing")
        );
        assert!(of(&["10.0.0.0/8"], lengths(Some(22), Some(64))).contains("no such prefix"));
        assert!(of(&["10.0.0.0/22"], lengths(Some(22), None)).contains("greater than"));
    }

    #[test]
    fn children_get_the_families_that_lengths_are_known_for() {
        let parent = nets(&["10.0.0.0/8", "fd00::/48"]);
        let default = Lengths { v4: Some(22), v6: Some(64) };
        let min = Lengths { v4: Some(20), v6: None };
        let get = |asked, stack| child_lengths(&parent, &default, &min, asked, stack);
        let (v4, v6) = (Family::V4, Family::V6);
        assert_eq!(get(None, Stack::Any), Ok(vec![(v4, 22), (v6, 64)]));
        assert_eq!(get(None, Stack::Dual), Ok(vec![(v4, 22), (v6, 64)]));
        assert_eq!(get(None, Stack::Only(v6)), Ok(vec![(v6, 64)]));
        let asked = Some(Lengths { v4: Some(24), v6: None });
        assert_eq!(get(asked, Stack::Any), Ok(vec![(v4, 24)]), "what the request names, only");
        assert!(get(asked, Stack::Only(v6)).is_err(), "no length for it");
        assert!(get(asked, Stack::Dual).is_err());
        let below = get(Some(Lengths { v4: Some(19), v6: None }), Stack::Any);
        assert!(below.is_err_and(|e| e.contains("smaller than allowed")));
        let big = get(Some(Lengths { v4: None, v6: Some(48) }), Stack::Any);
        assert!(big.is_err_and(|e| e.contains("greater than")));
        assert!(child_lengths(&parent, &NONE, &min, None, Stack::Any).is_err());
        let v4_only = child_lengths(
            &nets(&["10.0.0.0/8"]),
            &Lengths { v4: Some(22), v6: None },
            &NONE,
            None,
            Stack::Any,
        );
        assert_eq!(v4_only, Ok(vec![(v4, 22)]));
    }

    #[test]
    fn destinations_have_the_families_of_the_prefixes() {
        assert!(check_destinations(&nets(&["10.0.0.0/8"]), &nets(&["0.0.0.0/0"])).is_ok());
        assert!(check_destinations(&nets(&["10.0.0.0/8"]), &nets(&["::/0"])).is_err());
        assert!(check_destinations(&[], &[]).is_ok());
    }

    #[test]
    fn machines_have_one_private_network_firewalls_a_private_and_an_external_one() {
        use Type::{Child, ChildShared, External, Super, Underlay};
        let ok = |firewall, kinds: &[Type]| {
            let networks: Vec<_> = kinds.iter().map(|kind| ("n", *kind)).collect();
            check_attachment(firewall, &networks).is_ok()
        };
        assert!(ok(false, &[Child]));
        assert!(ok(false, &[ChildShared, External, External]));
        assert!(!ok(false, &[]));
        assert!(!ok(false, &[External]));
        assert!(!ok(false, &[Child, ChildShared]));
        assert!(!ok(false, &[Child, Underlay]));
        assert!(!ok(false, &[Super]));
        assert!(ok(true, &[Child, Child, ChildShared, External]));
        assert!(!ok(true, &[Child]));
        assert!(!ok(true, &[External]));
        assert!(!ok(true, &[External, ChildShared, ChildShared]));
    }

    #[test]
    fn only_shared_networks_of_others_can_be_used() {
        assert!(attachable(Type::Child, Some("a"), "a"));
        assert!(!attachable(Type::Child, Some("a"), "b"));
        assert!(attachable(Type::ChildShared, Some("a"), "b"));
        assert!(!attachable(Type::External, Some("a"), "b"));
        assert!(attachable(Type::External, None, "b"));
    }
}
