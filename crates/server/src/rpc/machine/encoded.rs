//! Machines as users see them, in binary form and without reading them: what is stored in that form is copied, and what columns
//! and other tables know takes its place (docs/adr/0010). It says what `view` says.

use std::collections::HashMap;

use buffa::Message;
use buffa::encoding::{Tag, WireType, decode_varint, encode_varint, skip_field};
use proto::api;
use store::machine::Whole;

use super::record::UNKNOWN_SIZE;
use super::view::{self, Shared};
use crate::rpc::{Error, event};
use crate::wire;

/// The list of machines in an answer.
const MACHINES: u32 = 1;

// of `Machine`
const META: u32 = 2;
const PARTITION: u32 = 3;
const SIZE: u32 = 6;
const STATUS: u32 = 9;
const EVENTS: u32 = 10;

// of `Meta`
const CREATED_AT: u32 = 2;
const UPDATED_AT: u32 = 3;
const GENERATION: u32 = 4;

// of `MachineStatus`
const LED_STATE: u32 = 2;
const LIVELINESS: u32 = 3;

/// What many machines share, as fields of a machine.
#[derive(Debug)]
pub(super) struct Parts {
    partitions: HashMap<String, Vec<u8>>,
    sizes: HashMap<String, Vec<u8>>,
}

impl Parts {
    pub(super) fn new(shared: &Shared) -> Self {
        fn field(number: u32, message: &impl Message) -> Vec<u8> {
            let mut bytes = Vec::new();
            push_message(number, message, &mut bytes);
            bytes
        }
        let unknown = api::Size { id: UNKNOWN_SIZE.to_owned(), ..Default::default() };
        let sizes = shared.sizes.iter().map(|(id, size)| (id.clone(), field(SIZE, size)));
        Self {
            partitions: shared
                .partitions
                .iter()
                .map(|(id, partition)| (id.clone(), field(PARTITION, partition)))
                .collect(),
            sizes: sizes.chain([(String::new(), field(SIZE, &unknown))]).collect(),
        }
    }

    /// Adds a machine to the list of an answer; `stored` is the binary form that the row of `whole` holds.
    pub(super) fn push(
        &self,
        whole: &Whole,
        stored: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let damaged = |e| wire::damaged(&whole.row, &e);
        let mut machine = Vec::with_capacity(stored.len() + 2048);
        let mut meta = Vec::with_capacity(128);
        let mut status = Vec::with_capacity(64);
        for field in fields(stored) {
            let field = field.map_err(damaged)?;
            let bytes = match field.number {
                META => {
                    let stale = [CREATED_AT, UPDATED_AT, GENERATION];
                    copy_without(&stale, field.content, &mut meta).map_err(damaged)?;
                    continue;
                }
                STATUS => {
                    let stale = if whole.bmc.is_some() { LED_STATE } else { LIVELINESS };
                    copy_without(&[stale, LIVELINESS], field.content, &mut status)
                        .map_err(damaged)?;
                    continue;
                }
                EVENTS if whole.events.is_some() => continue,
                PARTITION => {
                    self.partitions.get(&whole.partition).map_or(field.bytes, Vec::as_slice)
                }
                SIZE => self.sizes.get(&whole.size).map_or(field.bytes, Vec::as_slice),
                _ => field.bytes,
            };
            machine.extend_from_slice(bytes);
        }
        let mut dates = api::Meta::default();
        wire::date(&mut dates, &whole.row);
        dates.encode(&mut meta);
        push_bytes(META, &meta, &mut machine);
        view::seen(whole)?.encode(&mut status);
        push_bytes(STATUS, &status, &mut machine);
        if let Some(events) = &whole.events {
            push_message(EVENTS, &event::view(events)?, &mut machine);
        }
        push_bytes(MACHINES, &machine, answer);
        Ok(())
    }
}

/// Adds a machine that was read to the list of an answer.
pub(super) fn push(machine: &api::Machine, answer: &mut Vec<u8>) {
    push_message(MACHINES, machine, answer);
}

fn push_message(number: u32, message: &impl Message, out: &mut Vec<u8>) {
    Tag::new(number, WireType::LengthDelimited).encode(out);
    message.encode_length_delimited(out);
}

fn push_bytes(number: u32, content: &[u8], out: &mut Vec<u8>) {
    Tag::new(number, WireType::LengthDelimited).encode(out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// A field of a message.
struct Field<'a> {
    number: u32,
    /// All of it.
    bytes: &'a [u8],
    /// What it holds, if that is a message, text or list; else nothing.
    content: &'a [u8],
}

/// The fields of a message.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<Field<'_>, buffa::DecodeError>> {
    std::iter::from_fn(move || (!rest.is_empty()).then(|| field(&mut rest)))
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, buffa::DecodeError> {
    let begin = *rest;
    let tag = Tag::decode(rest)?;
    let mut content = &[][..];
    if tag.wire_type() == WireType::LengthDelimited {
        let length = usize::try_from(decode_varint(rest)?).unwrap_or(usize::MAX);
        (content, *rest) =
            rest.split_at_checked(length).ok_or(buffa::DecodeError::UnexpectedEof)?;
    } else {
        skip_field(tag, rest)?;
    }
    let bytes = &begin[..begin.len() - rest.len()];
    Ok(Field { number: tag.field_number(), bytes, content })
}

fn copy_without(
    numbers: &[u32],
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), buffa::DecodeError> {
    for field in fields(message) {
        let field = field?;
        if !numbers.contains(&field.number) {
            out.extend_from_slice(field.bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use store::Entity;
    use store::event::Events;
    use store::machine::Bmc;

    use super::*;

    fn shared() -> Shared {
        let partition =
            json!({"id": "p1", "description": "here", "dnsServers": [{"ip": "1.1.1.1"}]});
        let size = json!({"id": "c1", "meta": {"generation": "3"}, "constraints": [{"type": "SIZE_CONSTRAINT_TYPE_CORES", "max": "4"}]});
        let mut shared = Shared::default();
        shared.partitions.insert("p1".to_owned(), serde_json::from_value(partition).unwrap());
        shared.sizes.insert("c1".to_owned(), serde_json::from_value(size).unwrap());
        shared
    }

    fn whole(machine: &Value) -> Whole {
        let id = |of: &str| machine[of]["id"].as_str().unwrap_or_default().to_owned();
        let message: api::Machine = serde_json::from_value(machine.clone()).unwrap();
        let mut row = Entity::new("m", String::new(), 1_790_000_000_000_001);
        (row.generation, row.updated_at_us) = (7, row.updated_at_us + 5);
        Whole {
            row,
            encoded: Some(message.encode_to_vec()),
            events: None,
            bmc: None,
            waits: false,
            partition: id("partition"),
            size: id("size"),
        }
    }

    /// Both views of the same machine, twice, as the only ones of a list.
    fn check(whole: &Whole) {
        let shared = shared();
        let read = shared.machine(view::stored(whole).unwrap(), whole).unwrap();
        let mut answer = Vec::new();
        Parts::new(&shared).push(whole, whole.encoded.as_deref().unwrap(), &mut answer).unwrap();
        push(&read, &mut answer);
        let answer = api::MachineServiceListResponse::decode_from_slice(&answer).unwrap();
        assert_eq!(answer.machines, [read.clone(), read]);
    }

    #[test]
    fn what_is_put_together_is_what_is_read() {
        let machine = json!({"uuid": "m", "rack": "r1", "room": "here", "partition": {"id": "p1"}, "size": {"id": "c1"},
            // what only columns know was part of the message once
            "meta": {"labels": {"labels": {"a": "1", "b": ""}}, "createdAt": "2020-01-01T00:00:00.5Z", "generation": "2", "deletionTaskId": "t"},
            "status": {"condition": {"state": "MACHINE_STATE_LOCKED", "description": "d"}, "metalHammerVersion": "v1",
                "liveliness": "MACHINE_LIVELINESS_DEAD", "ledState": {"value": "old"}},
            "hardware": {"memory": "18446744073709551615", "cpus": [{"cores": 4}, {}], "disks": [{"name": "/dev/a", "size": "1"}]},
            "recentProvisioningEvents": {"lastErrorEvent": {"message": "stored"}},
            "allocation": {"uuid": "a", "userdata": "x", "networks": [{"network": "n", "ips": ["::1"], "asn": 4_200_000_000_u32}]}});
        let mut of_a_machine = whole(&machine);
        check(&of_a_machine);
        let body = json!({"events": [{"time": "2026-01-01T00:00:00Z", "event": "MACHINE_PROVISIONING_EVENT_TYPE_WAITING", "message": "ü"}]});
        of_a_machine.events = Some(Events {
            machine: "m".to_owned(),
            body: body.to_string(),
            last_event_at_us: 1_790_000_000_000_003,
            liveliness: 1,
            crash_loop: true,
            failed_reclaim: false,
        });
        check(&of_a_machine);
        for body in [json!({"bmc": {"address": "::1"}, "ledState": {"value": "LED-ON"}}), json!({})]
        {
            of_a_machine.bmc = Some(Bmc {
                machine: "m".to_owned(),
                address: String::new(),
                body: body.to_string(),
                updated_at_us: 1,
            });
            check(&of_a_machine);
        }
        check(&whole(&json!({"uuid": "m"})));
        check(&whole(&json!({"uuid": "m", "partition": {"id": "p2"}, "size": {"id": "gone"}})));
        check(&whole(&json!({"uuid": "m", "partition": {}, "size": {}})));
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let mut of_a_machine = whole(&json!({"uuid": "m", "rack": "r"}));
        of_a_machine.encoded.as_mut().unwrap().pop();
        let stored = of_a_machine.encoded.as_deref().unwrap();
        let error = Parts::new(&shared()).push(&of_a_machine, stored, &mut Vec::new());
        assert!(error.unwrap_err().to_string().contains("damaged"));
    }
}
