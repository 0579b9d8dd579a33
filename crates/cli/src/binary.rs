//! The binary form of messages, read and written with the tables of the contract. A list of a whole data center is half
//! as long as in JSON, and what no table shows is stepped over instead of read.

use base64::Engine as _;
use buffa::encoding::{decode_varint, encode_varint};
use serde_json::{Map, Value, json};

use crate::contract::{Field, Kind, Message};

/// What tables of machines show, by the names of the JSON. Hardware, layouts, user data and all but the newest event are stepped over.
pub(crate) const OF_MACHINES: &[&str] = &[
    "machines.uuid",
    "machines.rack",
    "machines.meta.labels",
    "machines.partition.id",
    "machines.size.id",
    "machines.status.condition.state",
    "machines.status.liveliness",
    "machines.recentProvisioningEvents.state",
    "machines.recentProvisioningEvents.lastEventTime",
    "machines.recentProvisioningEvents.events.time",
    "machines.recentProvisioningEvents.events.event",
    "machines.allocation.name",
    "machines.allocation.hostname",
    "machines.allocation.description",
    "machines.allocation.project",
    "machines.allocation.allocationType",
    "machines.allocation.meta.createdAt",
    "machines.allocation.meta.labels",
    "machines.allocation.image.id",
    "machines.allocation.networks.ips",
    "machines.allocation.vpn.connected",
];

/// Of a list of these messages only the one with the latest `time` is read.
const NEWEST: &str = "metalstack.api.v2.MachineProvisioningEvent";

/// The fields of a message that are read, each with those of its own that are, all of them if it does not say.
#[derive(Debug)]
pub(crate) struct Shown(Vec<(&'static Field, Option<Self>)>);

impl Shown {
    /// What these paths lead to, beginning at a message; a path that leads nowhere shows nothing.
    pub(crate) fn new(message: &'static Message, paths: &[&str]) -> Self {
        let mut shown: Vec<(&'static Field, Option<Self>)> = Vec::new();
        for path in paths {
            let name = path.split('.').next().unwrap_or_default();
            let Some(field) = message.field(name) else { continue };
            if shown.iter().any(|(known, _)| known.number == field.number) {
                continue;
            }
            let below: Vec<&str> = paths
                .iter()
                .filter_map(|path| path.strip_prefix(name)?.strip_prefix('.'))
                .collect();
            let inner = field.message().filter(|_| !below.is_empty());
            shown.push((field, inner.map(|inner| Self::new(inner, &below))));
        }
        Self(shown)
    }
}

/// Reads a message as the JSON of the contract has it, only what is shown if that is said; nothing when it is malformed.
pub(crate) fn decode(
    message: &'static Message,
    bytes: &[u8],
    shown: Option<&Shown>,
) -> Option<Value> {
    let mut fields = Map::new();
    let mut newest = (i64::MIN, i32::MIN);
    let mut rest = bytes;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let (number, part) = (u32::try_from(tag >> 3).ok()?, part(&mut rest, tag & 7)?);
        let (field, shown) = match shown {
            Some(Shown(shown)) => {
                let Some((field, inner)) = shown.iter().find(|(field, _)| field.number == number)
                else {
                    continue;
                };
                (*field, inner.as_ref())
            }
            None => {
                let Some(field) = message.fields.iter().find(|field| field.number == number) else {
                    continue;
                };
                (field, None)
            }
        };
        if field.map {
            let Part::Bytes(entry) = part else { return None };
            let (key, value) = entry_of(field, entry, shown)?;
            let map = fields.entry(field.json).or_insert_with(|| json!({}));
            map.as_object_mut()?.insert(key, value);
        } else if field.repeated {
            if let (Part::Bytes(event), Some(_)) = (part, shown)
                && field.message().is_some_and(|message| message.name == NEWEST)
            {
                let time = time_of(event)?;
                if time >= newest {
                    newest = time;
                    fields.insert(field.json.to_owned(), json!([value(field, part, shown)?]));
                }
                continue;
            }
            let list = fields.entry(field.json).or_insert_with(|| json!([])).as_array_mut()?;
            match part {
                // Numbers of a list stand in one piece.
                Part::Bytes(mut packed) if is_number(field.kind) => {
                    while !packed.is_empty() {
                        list.push(value(field, Part::Number(varint(&mut packed)?), shown)?);
                    }
                }
                part => list.push(value(field, part, shown)?),
            }
        } else {
            fields.insert(field.json.to_owned(), value(field, part, shown)?);
        }
    }
    Some(Value::Object(fields))
}

/// When an event was: its first field.
fn time_of(event: &[u8]) -> Option<(i64, i32)> {
    let (mut time, mut rest) = ((0, 0), event);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        if let (1, Part::Bytes(bytes)) = (tag >> 3, part(&mut rest, tag & 7)?) {
            time = moment(bytes)?;
        }
    }
    Some(time)
}

/// What follows a tag.
#[derive(Clone, Copy)]
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

fn part<'a>(rest: &mut &'a [u8], kind: u64) -> Option<Part<'a>> {
    Some(match kind {
        0 => Part::Number(varint(rest)?),
        1 => Part::Number(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Part::Bytes(take(rest, length)?)
        }
        5 => Part::Four(take(rest, 4)?.try_into().ok()?),
        _ => return None,
    })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    decode_varint(rest).ok()
}

fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Bool | Kind::Int | Kind::Long | Kind::Enum(_))
}

fn value(field: &'static Field, part: Part<'_>, shown: Option<&Shown>) -> Option<Value> {
    Some(match (field.kind, part) {
        (Kind::Text, Part::Bytes(bytes)) => json!(std::str::from_utf8(bytes).ok()?),
        (Kind::Bytes, Part::Bytes(bytes)) => {
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        (Kind::Bool, Part::Number(number)) => json!(number != 0),
        (Kind::Int, Part::Number(number)) => json!(number.cast_signed()),
        (Kind::Long, Part::Number(number)) if field.unsigned => json!(number.to_string()),
        (Kind::Long, Part::Number(number)) => json!(number.cast_signed().to_string()),
        // Read as a decimal, so that 0.1 stays 0.1.
        (Kind::Float, Part::Four(bytes)) => {
            json!(f32::from_le_bytes(bytes).to_string().parse::<f64>().ok()?)
        }
        (Kind::Float, Part::Number(bits)) => json!(f64::from_bits(bits)),
        (Kind::Enum(_), Part::Number(number)) => {
            let number = i32::try_from(number.cast_signed()).ok()?;
            let known = field.choice()?.values.iter().find(|value| value.number == number);
            known.map_or(json!(number), |value| json!(value.name))
        }
        (Kind::Timestamp, Part::Bytes(bytes)) => {
            let (seconds, nanos) = moment(bytes)?;
            let time = jiff::Timestamp::new(seconds, nanos).ok()?;
            let time = jiff::tz::Offset::UTC.to_datetime(time);
            let (date, time) = (time.date(), time.time());
            let day = format_args!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
            let hour = format_args!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
            json!(format!("{day}T{hour}{}Z", fraction(nanos)))
        }
        (Kind::Duration, Part::Bytes(bytes)) => {
            let (seconds, nanos) = moment(bytes)?;
            let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
            json!(format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos)))
        }
        (Kind::Message(_), Part::Bytes(bytes)) => decode(field.message()?, bytes, shown)?,
        _ => return None,
    })
}

/// Seconds and nanoseconds.
fn moment(bytes: &[u8]) -> Option<(i64, i32)> {
    let (mut seconds, mut nanos, mut rest) = (0, 0, bytes);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, part(&mut rest, tag & 7)?) {
            (1, Part::Number(number)) => seconds = number.cast_signed(),
            (2, Part::Number(number)) => nanos = i32::try_from(number.cast_signed()).ok()?,
            _ => {}
        }
    }
    Some((seconds, nanos))
}

/// Three, six or nine digits, as the JSON of the contract has it.
fn fraction(nanos: i32) -> String {
    match nanos.unsigned_abs() {
        0 => String::new(),
        nanos if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

fn entry_of(field: &'static Field, entry: &[u8], shown: Option<&Shown>) -> Option<(String, Value)> {
    let (mut key, mut found, mut rest) = (String::new(), None, entry);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, part(&mut rest, tag & 7)?) {
            (1, Part::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?.to_owned(),
            (2, part) => found = Some(value(field, part, shown)?),
            _ => {}
        }
    }
    let absent = match field.kind {
        Kind::Text => json!(""),
        Kind::Message(_) => json!({}),
        _ => value(field, Part::Number(0), shown).unwrap_or_default(),
    };
    Some((key, found.unwrap_or(absent)))
}

/// Writes a message; nothing when it holds what only JSON is used for here.
pub(crate) fn encode(message: &'static Message, content: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, value) in content.as_object()? {
        let field = message.field(name)?;
        match value {
            Value::Object(entries) if field.map => {
                for (key, value) in entries {
                    let mut entry = Vec::new();
                    push_bytes(&mut entry, 1, key.as_bytes());
                    push(&mut entry, 2, field, value)?;
                    push_bytes(&mut bytes, field.number, &entry);
                }
            }
            Value::Array(items) if field.repeated => {
                for item in items {
                    push(&mut bytes, field.number, field, item)?;
                }
            }
            value => push(&mut bytes, field.number, field, value)?,
        }
    }
    Some(bytes)
}

fn push(bytes: &mut Vec<u8>, number: u32, field: &'static Field, value: &Value) -> Option<()> {
    let varint = match field.kind {
        Kind::Text => {
            push_bytes(bytes, number, value.as_str()?.as_bytes());
            return Some(());
        }
        Kind::Message(_) => {
            push_bytes(bytes, number, &encode(field.message()?, value)?);
            return Some(());
        }
        Kind::Bool => u64::from(value.as_bool()?),
        Kind::Enum(_) => {
            let number = field.choice()?.value(value.as_str()?)?.number;
            i64::from(number).cast_unsigned()
        }
        Kind::Int => value.as_i64()?.cast_unsigned(),
        Kind::Long => match (value, field.unsigned) {
            (Value::String(text), true) => text.parse().ok()?,
            (Value::String(text), false) => text.parse::<i64>().ok()?.cast_unsigned(),
            (value, _) => value.as_i64()?.cast_unsigned(),
        },
        Kind::Bytes | Kind::Float | Kind::Timestamp | Kind::Duration => return None,
    };
    encode_varint(u64::from(number) << 3, bytes);
    encode_varint(varint, bytes);
    Some(())
}

fn push_bytes(bytes: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_varint(u64::from(number) << 3 | 2, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use buffa::Message as _;
    use proptest::prelude::*;

    use super::*;

    fn message(name: &str) -> &'static Message {
        Message::find(name).expect(name)
    }

    fn machine() -> Value {
        json!({
            "uuid": "00000000-0000-4000-0001-000000000001", "rack": "rack1",
            "meta": {"labels": {"labels": {"a": "1", "b": ""}}, "createdAt": "2026-01-01T00:00:00.705010Z", "generation": "7"},
            "partition": {"id": "p1", "bootConfiguration": {"kernelUrl": "http://k"}},
            "size": {"id": "c1", "constraints": [{"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "4", "max": "4"}]},
            "hardware": {"memory": "18446744073709551615", "cpus": [{"cores": 4}]},
            "status": {"liveliness": "MACHINE_LIVELINESS_DEAD", "condition": {"state": "MACHINE_STATE_LOCKED"}},
            "allocation": {"hostname": "web01", "name": "web", "description": "d", "project": "p", "image": {"id": "debian-12", "url": "http://i"},
                "meta": {"createdAt": "2025-12-31T00:00:00Z", "labels": {"labels": {"x": "y"}}}, "allocationType": "MACHINE_ALLOCATION_TYPE_MACHINE", "userdata": "x",
                "networks": [{"network": "n", "ips": ["10.0.0.1", "::1"], "vrf": "104", "asn": 4_200_000_001_u32}],
                "vpn": {"connected": true}},
            "recentProvisioningEvents": {"lastEventTime": "2026-01-01T00:00:00Z", "state": "MACHINE_PROVISIONING_EVENT_STATE_CRASHLOOP", "events": [
                {"time": "2025-12-31T23:59:59Z", "event": "MACHINE_PROVISIONING_EVENT_TYPE_WAITING"},
                {"time": "2026-01-01T00:00:00.000000001Z", "event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME", "message": "ü"}]},
        })
    }

    #[test]
    fn what_is_read_is_what_json_says() {
        let typed: proto::api::Machine = serde_json::from_value(machine()).unwrap();
        let table = message("metalstack.api.v2.Machine");
        let read = decode(table, &typed.encode_to_vec(), None).unwrap();
        assert_eq!(read, serde_json::to_value(&typed).unwrap());
    }

    #[test]
    fn tables_need_no_more_than_is_read_for_them() {
        let list = json!({ "machines": [machine(), {"uuid": "u"}, {}] });
        let typed: proto::api::MachineServiceListResponse = serde_json::from_value(list).unwrap();
        let bytes = typed.encode_to_vec();
        let table = message("metalstack.api.v2.MachineServiceListResponse");
        let all = decode(table, &bytes, None).unwrap();
        let less = decode(table, &bytes, Some(&Shown::new(table, OF_MACHINES))).unwrap();
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        for (at, less) in less["machines"].as_array().unwrap().iter().enumerate() {
            for column in crate::column::MACHINE {
                let wanted = column.cell(&all["machines"][at], now);
                assert_eq!(column.cell(less, now), wanted, "{}", column.title);
            }
        }
        // none of them was empty in both
        for column in crate::column::MACHINE {
            assert_ne!(column.cell(&less["machines"][0], now), "", "{}", column.title);
        }
        let less = &less["machines"][0];
        assert_eq!(less["meta"]["labels"], machine()["meta"]["labels"]);
        assert_eq!(less["recentProvisioningEvents"]["events"].as_array().unwrap().len(), 1);
        for at in [
            "/hardware",
            "/allocation/userdata",
            "/partition/bootConfiguration",
            "/size/constraints",
        ] {
            assert_eq!(less.pointer(at), None, "{at}");
        }
    }

    #[test]
    fn every_path_leads_somewhere() {
        for path in OF_MACHINES {
            let mut at = Some(message("metalstack.api.v2.MachineServiceListResponse"));
            for name in path.split('.') {
                let field = at.and_then(|message| message.field(name));
                at = field.unwrap_or_else(|| panic!("{path}: {name}")).message();
            }
        }
    }

    #[test]
    fn durations_and_roles() {
        let phase =
            json!({"name": "image", "duration": "1.500s", "startedAt": "2026-01-01T00:00:00Z"});
        let typed: proto::ext::Phase = serde_json::from_value(phase).unwrap();
        let read = decode(message("metal.v1.Phase"), &typed.encode_to_vec(), None).unwrap();
        assert_eq!(read, serde_json::to_value(&typed).unwrap());
        let token = json!({"uuid": "u", "projectRoles": {"p": "PROJECT_ROLE_EDITOR"}, "adminRole": "ADMIN_ROLE_VIEWER"});
        let typed: proto::api::Token = serde_json::from_value(token).unwrap();
        let read =
            decode(message("metalstack.api.v2.Token"), &typed.encode_to_vec(), None).unwrap();
        assert_eq!(read, serde_json::to_value(&typed).unwrap());
    }

    #[test]
    fn requests_are_understood() {
        let request = json!({"query": {"partition": "p1", "waiting": true, "state": "MACHINE_STATE_LOCKED",
            "network": {"ips": ["10.0.0.1"], "vrfs": ["104"], "asns": [4_200_000_001_u32]},
            "allocation": {"labels": {"labels": {"a": "1"}}}, "hardware": {"memory": "1024", "cpuCores": 4}}});
        let table = message("metalstack.admin.v2.MachineServiceListRequest");
        let bytes = encode(table, &request).unwrap();
        let typed = proto::admin::MachineServiceListRequest::decode_from_slice(&bytes).unwrap();
        assert_eq!(serde_json::to_value(&typed).unwrap(), request);
        assert_eq!(encode(table, &json!({"querry": {}})), None);
    }

    proptest! {
        #[test]
        fn nonsense_is_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let list = message("metalstack.api.v2.MachineServiceListResponse");
            let _ = decode(list, &bytes, None);
            let _ = decode(list, &bytes, Some(&Shown::new(list, OF_MACHINES)));
        }
    }
}
