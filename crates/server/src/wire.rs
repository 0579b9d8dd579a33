//! Between rows and the contract's messages. The stored body is the message itself as JSON (docs/adr/0004); what optimistic
//! locking needs lives in columns and is put into the message's meta when it is read.

use buffa::Message;
use buffa_types::google::protobuf::{Duration, Timestamp};
use proto::api::{self, update_labels::Strategy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::Entity;

use crate::rpc::Error;

/// A message that is stored as the body of an entity.
pub trait Stored: Serialize + DeserializeOwned {
    /// Its meta.
    fn meta(&mut self) -> &mut api::Meta;
}

macro_rules! stored {
    ($($message:ident),*) => {
        $(impl Stored for api::$message {
            fn meta(&mut self) -> &mut api::Meta {
                self.meta.get_or_insert_default()
            }
        })*
    };
}

stored!(
    Component,
    FilesystemLayout,
    Image,
    Machine,
    Network,
    Partition,
    Project,
    Size,
    SizeImageConstraint,
    SizeReservation,
    Switch,
    Tenant,
    Token
);

impl Stored for api::IP {
    fn meta(&mut self) -> &mut api::Meta {
        self.meta.get_or_insert_default()
    }
}

/// The body of a message.
///
/// # Errors
/// A message that cannot be written as JSON, which the contract's never are.
pub fn encode(message: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(message).map_err(|e| Error::internal(format!("cannot encode: {e}")))
}

/// The message of a row, with the times and the generation of its meta.
///
/// # Errors
/// The row was written by a newer version or damaged.
pub fn decode<M: Stored>(row: &Entity) -> Result<M, Error> {
    let mut message: M = serde_json::from_str(&row.body).map_err(|e| damaged(row, &e))?;
    stamp(&mut message, row);
    Ok(message)
}

/// As [`decode`], of a row whose message is there in binary form.
///
/// # Errors
/// As [`decode`].
pub fn decode_binary<M: Stored + Message>(row: &Entity, encoded: &[u8]) -> Result<M, Error> {
    let mut message = M::decode_from_slice(encoded).map_err(|e| damaged(row, &e))?;
    stamp(&mut message, row);
    Ok(message)
}

/// What is stored cannot be read.
pub(crate) fn damaged(row: &Entity, error: &dyn std::error::Error) -> Error {
    Error::internal(format!("stored entity {} is damaged: {error}", row.id))
}

/// Sets the times and the generation of a message to those of its row.
pub fn stamp(message: &mut impl Stored, row: &Entity) {
    date(message.meta(), row);
}

/// As [`stamp`], of a meta alone.
pub(crate) fn date(meta: &mut api::Meta, row: &Entity) {
    meta.created_at = timestamp_us(row.created_at_us).into();
    meta.updated_at = timestamp_us(row.updated_at_us).into();
    meta.generation = u64::try_from(row.generation).unwrap_or_default();
}

/// A time of the database.
#[must_use]
pub fn timestamp_us(us: i64) -> Timestamp {
    let nanos = i32::try_from(us.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Timestamp::from_unix(us.div_euclid(1_000_000), nanos)
}

/// A time for the database.
#[must_use]
pub fn micros(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}

/// A duration of the database; negative ones count as none.
#[must_use]
pub fn duration(us: i64) -> Duration {
    let nanos = i32::try_from(us.max(0) % 1_000_000 * 1_000).unwrap_or_default();
    Duration { seconds: us.max(0) / 1_000_000, nanos, ..Default::default() }
}

/// A duration for the database; negative ones count as none.
#[must_use]
pub fn duration_us(duration: &Duration) -> i64 {
    let us = duration.seconds.saturating_mul(1_000_000) + i64::from(duration.nanos) / 1_000;
    us.max(0)
}

/// Refuses an update that was made of an older state than the stored one.
///
/// # Errors
/// `aborted`, with the hint to read again.
pub fn check_lock(update: &api::UpdateMeta, row: &Entity) -> Result<(), Error> {
    if update.locking_strategy == api::OptimisticLockingStrategy::Server {
        return Ok(());
    }
    let Some(seen) = update.updated_at.as_option() else {
        return Err(Error::invalid(
            "update_meta.updated_at is missing: send the value of the entity's meta, or the locking strategy SERVER",
        ));
    };
    if micros(seen) == row.updated_at_us {
        Ok(())
    } else {
        Err(Error::aborted(format!("{} was changed meanwhile: read it again and retry", row.id)))
    }
}

/// Labels after an update; absent means unchanged.
pub fn update_labels(meta: &mut api::Meta, update: Option<&api::UpdateLabels>) {
    match update.and_then(|update| update.strategy.as_ref()) {
        Some(Strategy::Replace(labels)) => meta.labels = (**labels).clone().into(),
        Some(Strategy::Patch(patch)) => {
            let labels = &mut meta.labels.get_or_insert_default().labels;
            for key in &patch.remove {
                labels.remove(key);
            }
            if let Some(update) = patch.update.as_option() {
                labels.extend(update.labels.clone());
            }
        }
        None => {}
    }
}

/// Whether all labels asked for are there, with the same values.
#[must_use]
pub fn has_labels(meta: Option<&api::Meta>, wanted: Option<&api::Labels>) -> bool {
    let Some(wanted) = wanted else { return true };
    let have = meta.and_then(|meta| meta.labels.as_option());
    wanted
        .labels
        .iter()
        .all(|(key, value)| have.is_some_and(|have| have.labels.get(key) == Some(value)))
}

/// Whether a query's field, if it asks for something, asks for this.
#[must_use]
pub fn asks<T: PartialEq + ?Sized, U: AsRef<T>>(wanted: Option<&U>, have: &T) -> bool {
    wanted.is_none_or(|wanted| wanted.as_ref() == have)
}
