//! Machines in the database: made at first contact, loaded, saved with their columns.

use buffa::Message;
use jiff::Timestamp;
use proto::api;
use store::machine::{ENCODED, TABLE};
use store::{Entity, Tx, Value};

use crate::rpc::{App, Error};
use crate::wire;

/// Size of a machine whose hardware fits none or several sizes.
pub(crate) const UNKNOWN_SIZE: &str = "unknown";

/// A machine with its row.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What optimistic locking needs.
    pub(crate) row: Entity,
    /// The machine; references hold nothing but their id.
    pub(crate) machine: api::Machine,
}

impl Record {
    fn new(row: Entity) -> Result<Self, Error> {
        Ok(Self { machine: wire::decode(&row)?, row })
    }

    /// Id of the partition, empty when not known.
    pub(crate) fn partition(&self) -> &str {
        self.machine.partition.as_option().map_or("", |partition| &partition.id)
    }

    /// Id of the size, empty when not known.
    pub(crate) fn size(&self) -> &str {
        self.machine.size.as_option().map_or("", |size| &size.id)
    }

    /// Whether operators hold it back.
    pub(crate) fn state(&self) -> api::MachineState {
        let condition = self.machine.status.as_option().and_then(|s| s.condition.as_option());
        match condition.and_then(|condition| condition.state.as_known()) {
            Some(api::MachineState::Unspecified) | None => api::MachineState::Available,
            Some(state) => state,
        }
    }

    /// The allocation.
    pub(crate) fn allocation(&self) -> Option<&api::MachineAllocation> {
        self.machine.allocation.as_option()
    }

    /// Whether the release has begun and waits for the fabric.
    pub(crate) fn is_releasing(&self) -> bool {
        self.machine.meta.as_option().is_some_and(|meta| meta.deletion_task_id.is_some())
    }

    /// Sets a label of the system.
    pub(crate) fn set_label(&mut self, key: &str, value: Option<String>) {
        let labels = self.machine.meta.get_or_insert_default().labels.get_or_insert_default();
        match value {
            Some(value) => labels.labels.insert(key.to_owned(), value),
            None => labels.labels.remove(key),
        };
    }

    /// The columns of [`ENCODED`] for the machine as it becomes with `generation`.
    fn columns(&self, generation: i64) -> [Value; 8] {
        [
            self.partition().into(),
            (&self.machine.rack).into(),
            self.size().into(),
            self.allocation().map(|allocation| allocation.project.as_str()).into(),
            self.allocation().map(|allocation| allocation.uuid.as_str()).into(),
            (self.state() as i64).into(),
            self.machine.encode_to_vec().into(),
            generation.into(),
        ]
    }
}

/// The machine with this id.
pub(crate) async fn get(tx: &mut Tx, uuid: &str) -> Result<Option<Record>, Error> {
    TABLE.get(tx, &uuid.to_lowercase()).await?.map(Record::new).transpose()
}

/// As [`get`]; the machine stays as it is until the transaction ends.
pub(crate) async fn get_for_update(tx: &mut Tx, uuid: &str) -> Result<Option<Record>, Error> {
    TABLE.get_for_update(tx, &uuid.to_lowercase()).await?.map(Record::new).transpose()
}

/// As [`get_for_update`]; none also when somebody else holds it.
pub(crate) async fn seize(tx: &mut Tx, uuid: &str) -> Result<Option<Record>, Error> {
    TABLE.seize(tx, uuid).await?.map(Record::new).transpose()
}

/// As [`get_for_update`], `not_found` when there is none.
pub(crate) async fn require_for_update(tx: &mut Tx, uuid: &str) -> Result<Record, Error> {
    get_for_update(tx, uuid).await?.ok_or_else(|| Error::not_found("machine", uuid))
}

/// The machines of a size that are not allocated; they stay as they are until the transaction ends.
pub(crate) async fn free_of_size(tx: &mut Tx, size: &str) -> Result<Vec<Record>, Error> {
    let select = TABLE.select().eq("size", size).is_null("allocation", true);
    select.for_update().all(tx).await?.into_iter().map(Record::new).collect()
}

/// The machine of a project; those of others do not exist for the caller.
pub(crate) async fn of_project(tx: &mut Tx, uuid: &str, project: &str) -> Result<Record, Error> {
    get_for_update(tx, uuid)
        .await?
        .filter(|record| record.allocation().is_some_and(|a| a.project == project))
        .ok_or_else(|| Error::not_found("machine", uuid))
}

/// The machine with this id, made if it is new: at first contact nothing but the id is known. Who says where it stands is believed
/// as long as nobody said so before.
pub(crate) async fn ensure(
    tx: &mut Tx,
    uuid: &str,
    partition: Option<&str>,
    now: Timestamp,
) -> Result<Record, Error> {
    let reference = |id: &str| api::Partition { id: id.to_owned(), ..Default::default() };
    if let Some(mut record) = get_for_update(tx, uuid).await? {
        if let Some(id) = partition.filter(|_| record.partition().is_empty()) {
            record.machine.partition = reference(id).into();
            save(tx, &mut record, now).await?;
        }
        return Ok(record);
    }
    let uuid = uuid::Uuid::parse_str(uuid)
        .map_err(|_| Error::invalid(format!("\"{uuid}\" is not a UUID")))?
        .hyphenated()
        .to_string();
    let mut machine = api::Machine { uuid: uuid.clone(), ..Default::default() };
    machine.partition = partition.map(reference).into();
    let status = machine.status.get_or_insert_default();
    status.condition.get_or_insert_default().state = api::MachineState::Available.into();
    let row = Entity::new(&uuid, wire::encode(&machine)?, now.as_microsecond());
    let record = Record { row, machine };
    let columns = record.columns(record.row.generation);
    if ENCODED.insert_if_absent(tx, &record.row, &columns).await? {
        return Ok(record);
    }
    // somebody else heard of it at the same time, for instance through its other network card
    require_for_update(tx, &uuid).await
}

/// Stores a changed machine and wakes who watches it.
pub(crate) async fn save(tx: &mut Tx, record: &mut Record, now: Timestamp) -> Result<(), Error> {
    let next = record.row.next(wire::encode(&record.machine)?, now.as_microsecond());
    if !ENCODED.update(tx, &next, &record.columns(next.generation)).await? {
        return Err(Error::aborted(format!("machine {} was changed meanwhile: retry", next.id)));
    }
    record.row = next;
    tx.nudge(format!("machine/{}", record.row.id));
    Ok(())
}

/// Machines whose binary form is added in one transaction.
const BATCH: u32 = 100;

/// Adds the binary form of all machines that an older version wrote.
pub(crate) async fn encode_all(app: &App) -> Result<(), Error> {
    let mut last = String::new();
    while !app.shutdown.is_set() {
        let mut tx = app.db.begin_write().await?;
        let rows = store::machine::unencoded(&mut tx, &last, BATCH).await?;
        let Some(row) = rows.last() else { break };
        last.clone_from(&row.id);
        for row in &rows {
            match serde_json::from_str::<api::Machine>(&row.body) {
                Ok(machine) => {
                    store::machine::encode(&mut tx, row, machine.encode_to_vec()).await?;
                }
                // whoever asks for it is told
                Err(error) => tracing::warn!(machine = row.id, %error, "is damaged"),
            }
        }
        tx.commit().await?;
        tracing::debug!(machines = rows.len(), "stored in binary form as well");
    }
    Ok(())
}
