//! The contract as static tables, made by `build.rs` from the `.proto` files.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A call that the server answers.
#[derive(Debug)]
pub(crate) struct Method {
    /// Procedure with a leading slash, as it stands in the URL.
    pub(crate) path: &'static str,
    /// Full name of the service, for instance `metalstack.api.v2.IPService`.
    pub(crate) service: &'static str,
    /// Name of the method, for instance `Create`.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) doc: &'static str,
    request: usize,
    response: usize,
    /// Whether either side streams.
    pub(crate) streaming: bool,
}

/// A message with its fields.
#[derive(Debug)]
pub(crate) struct Message {
    /// Full name.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) doc: &'static str,
    /// In the order of the contract.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    /// Name in the contract, `snake_case`.
    pub(crate) name: &'static str,
    /// Name in JSON, `camelCase`.
    pub(crate) json: &'static str,
    /// What it means.
    pub(crate) doc: &'static str,
    /// What it holds; of a map, what its values are.
    pub(crate) kind: Kind,
    /// A list.
    pub(crate) repeated: bool,
    /// A map from text.
    pub(crate) map: bool,
    /// Absent differs from empty.
    pub(crate) optional: bool,
    /// Number on the wire.
    pub(crate) number: u32,
    /// A number that is never negative.
    pub(crate) unsigned: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bool,
    /// A number that JSON writes as one.
    Int,
    /// A number that JSON writes as text, because it may be too long for JavaScript.
    Long,
    Float,
    /// Base64 in JSON.
    Bytes,
    Timestamp,
    Duration,
    Enum(usize),
    Message(usize),
}

/// A choice.
#[derive(Debug)]
pub(crate) struct Enum {
    /// The choices in the order of the contract; the first one means "not given".
    pub(crate) values: &'static [Value],
}

/// One choice.
#[derive(Debug)]
pub(crate) struct Value {
    /// Name on the wire, `IP_TYPE_STATIC`.
    pub(crate) name: &'static str,
    /// Name for people, `static`.
    pub(crate) short: &'static str,
    /// What it means.
    pub(crate) doc: &'static str,
    /// Number on the wire.
    pub(crate) number: i32,
}

include!(concat!(env!("OUT_DIR"), "/contract.rs"));

impl Method {
    /// The method with this path.
    #[must_use]
    pub(crate) fn find(path: &str) -> Option<&'static Self> {
        METHODS.binary_search_by(|method| method.path.cmp(path)).ok().map(|i| &METHODS[i])
    }

    /// What is sent.
    #[must_use]
    pub(crate) fn request(&self) -> &'static Message {
        &MESSAGES[self.request]
    }

    /// What is answered.
    #[must_use]
    pub(crate) fn response(&self) -> &'static Message {
        &MESSAGES[self.response]
    }

    /// `api`, `admin`, `infra` or `ext`.
    #[must_use]
    pub(crate) fn package(&self) -> &'static str {
        if self.service.starts_with("metal.v1.") {
            return "ext";
        }
        self.service.split('.').nth(1).unwrap_or_default()
    }

    /// `IPService`.
    #[must_use]
    pub(crate) fn short_service(&self) -> &'static str {
        self.service.rsplit('.').next().unwrap_or_default()
    }
}

impl Message {
    /// The field with this name, as the contract or as JSON writes it.
    #[must_use]
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name || field.json == name)
    }

    /// `Labels`.
    #[must_use]
    pub(crate) fn short(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The message with this full name.
    #[must_use]
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        MESSAGES.iter().find(|message| message.name == name)
    }
}

impl Field {
    /// The message it holds.
    #[must_use]
    pub(crate) fn message(&self) -> Option<&'static Message> {
        match self.kind {
            Kind::Message(number) => Some(&MESSAGES[number]),
            _ => None,
        }
    }

    /// The choice it holds.
    #[must_use]
    pub(crate) fn choice(&self) -> Option<&'static Enum> {
        match self.kind {
            Kind::Enum(number) => Some(&ENUMS[number]),
            _ => None,
        }
    }
}

impl Enum {
    /// The choice a human or the wire names so.
    #[must_use]
    pub(crate) fn value(&self, text: &str) -> Option<&'static Value> {
        self.values
            .iter()
            .find(|value| value.name == text || value.short.eq_ignore_ascii_case(text))
    }
}

/// The name for people of an enum value from the wire; other text stays.
#[must_use]
pub(crate) fn short(text: &str) -> &str {
    let known = text.len() > 4
        && text.contains('_')
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !known {
        return text;
    }
    CHOICES.get(text).map_or(text, |value| if value.number == 0 { "" } else { value.short })
}

/// All choices by their name on the wire: long tables ask for the same few again and again.
static CHOICES: LazyLock<HashMap<&str, &Value>> = LazyLock::new(|| {
    ENUMS.iter().flat_map(|kind| kind.values).map(|value| (value.name, value)).rev().collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_hold_what_the_server_knows() {
        let here: Vec<_> = METHODS.iter().map(|method| method.path).collect();
        let there: Vec<_> = proto::method::METHODS.iter().map(|method| method.path).collect();
        assert_eq!(here, there);
    }

    #[test]
    fn names_for_people() {
        assert_eq!(short("IP_TYPE_STATIC"), "static");
        assert_eq!(short("PROJECT_ROLE_OWNER"), "owner");
        assert_eq!(short("TOKEN_TYPE_API"), "api");
        assert_eq!(short("IP_TYPE_UNSPECIFIED"), "");
        assert_eq!(short("NOT_AN_ENUM"), "NOT_AN_ENUM");
    }

    #[test]
    fn fields_know_their_place() {
        let method = Method::find("/metalstack.api.v2.IPService/Create").unwrap();
        assert_eq!(method.package(), "api");
        assert_eq!(method.short_service(), "IPService");
        let family = method.request().field("addressFamily").unwrap();
        assert_eq!(family.choice().unwrap().value("ipv6").unwrap().name, "IP_ADDRESS_FAMILY_V6");
        assert!(method.doc.len() > 10 && family.optional);
    }
}
