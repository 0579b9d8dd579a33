//! `BMCService`, and commands to BMCs as jobs: first in, first out for each machine, at least once, with a deadline.

use std::sync::Arc;
use std::time::Duration;

use connectrpc::{Router, ServiceStream};
use jiff::Timestamp;
use proto::api;
use proto::infra::{self, BmcServiceExt};
use serde::{Deserialize, Serialize};
use store::Tx;
use store::job::{self, Job, State};
use store::machine::Bmc;

use super::machine::record::{self, Record};
use super::{App, Call, Error, service, stream};
use crate::wire;

/// A command that was not answered is sent again after this.
const LEASE_US: i64 = 60 * 1_000_000;
/// A command that was never carried out has failed after this.
const DEADLINE_US: i64 = 30 * 60 * 1_000_000;
/// A stream looks for commands that often, also when nobody wakes it.
const POLL: Duration = Duration::from_secs(10);
/// A client that vanished is noticed within this. Whoever goes so soon after a command may not have got it.
const DOUBT_US: i64 = 30 * 1_000_000;
/// Who got a command and then lost the stream has so long to say that it is done, before somebody else gets it, too.
const GRACE_US: i64 = 5 * 1_000_000;
/// Kind of the jobs.
const KIND: &str = "machine:bmc-command";

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { infra::BmcService {
    update_bmc_info(UpdateBMCInfoRequest) -> UpdateBMCInfoResponse = update;
    bmc_command_done(BMCCommandDoneRequest) -> BMCCommandDoneResponse = done;
} streams {
    wait_for_bmc_command(WaitForBMCCommandRequest) -> WaitForBMCCommandResponse = wait;
} }

/// What a job carries.
#[derive(Serialize, Deserialize)]
struct Payload {
    machine: String,
    command: api::MachineBMCCommand,
}

fn queue(partition: &str) -> String {
    format!("bmc/{partition}")
}

/// Adds a command of the server itself; a machine without BMC simply has none. Returns the id of the job.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    record: &Record,
    command: api::MachineBMCCommand,
    now: Timestamp,
) -> Result<String, Error> {
    let payload = Payload { machine: record.row.id.clone(), command };
    let now_us = now.as_microsecond();
    let job = Job::new(
        uuid::Uuid::now_v7().to_string(),
        queue(record.partition()),
        record.row.id.clone(),
        KIND,
        wire::encode(&payload)?,
        now_us,
        now_us + DEADLINE_US,
    );
    job::add(tx, &job).await?;
    Ok(job.id)
}

/// Adds a command of a user; without address and login of the BMC it could never be carried out.
pub(crate) async fn command(
    tx: &mut Tx,
    record: &Record,
    command: api::MachineBMCCommand,
    now: Timestamp,
) -> Result<String, Error> {
    if command == api::MachineBMCCommand::Unspecified {
        return Err(Error::invalid("the command is missing"));
    }
    let (report, _) = report(tx, &record.row.id).await?;
    let known = report.bmc.as_option().is_some_and(|bmc| {
        !bmc.address.is_empty() && !bmc.user.is_empty() && !bmc.password.is_empty()
    });
    if !known {
        return Err(Error::precondition(format!(
            "address, user or password of the BMC of machine {} are not known: no BMC agent has reported it yet",
            record.row.id
        )));
    }
    enqueue(tx, record, command, now).await
}

/// What is known of the BMC of a machine, and when its agent reported last.
pub(crate) async fn report(
    tx: &mut Tx,
    machine: &str,
) -> Result<(api::MachineBMCReport, i64), Error> {
    match store::machine::bmc(tx, machine).await? {
        Some(row) => Ok((decode(&row)?, row.updated_at_us)),
        None => Ok((unknown(machine), 0)),
    }
}

/// The report of a machine whose BMC nobody has reported.
pub(crate) fn unknown(machine: &str) -> api::MachineBMCReport {
    api::MachineBMCReport { uuid: machine.to_owned(), ..Default::default() }
}

/// The report of a row.
pub(crate) fn decode(row: &Bmc) -> Result<api::MachineBMCReport, Error> {
    let mut report: api::MachineBMCReport = serde_json::from_str(&row.body)
        .map_err(|e| Error::internal(format!("BMC of {} is damaged: {e}", row.machine)))?;
    if row.updated_at_us > 0 {
        report.updated_at = wire::timestamp_us(row.updated_at_us).into();
    }
    Ok(report)
}

/// Stores what is known of the BMC of a machine.
pub(crate) async fn save_report(
    tx: &mut Tx,
    machine: &str,
    report: api::MachineBMCReport,
    updated_at_us: i64,
) -> Result<(), Error> {
    let address = report.bmc.as_option().map(|bmc| bmc.address.clone()).unwrap_or_default();
    let row =
        Bmc { machine: machine.to_owned(), address, body: wire::encode(&report)?, updated_at_us };
    Ok(store::machine::set_bmc(tx, &row).await?)
}

async fn update(
    call: &Call,
    request: infra::UpdateBMCInfoRequest,
) -> Result<infra::UpdateBMCInfoResponse, Error> {
    {
        let mut tx = call.read().await?;
        super::partition::get(&mut tx, &request.partition).await?;
    }
    let mut answer = infra::UpdateBMCInfoResponse::default();
    for news in request.bmc_reports {
        let mut tx = call.write().await?;
        super::partition::keep(&mut tx, &request.partition).await?;
        let known = record::get(&mut tx, &news.uuid).await?;
        let created = known.is_none();
        let record =
            record::ensure(&mut tx, &news.uuid, Some(&request.partition), call.now).await?;
        if record.partition() != request.partition {
            tracing::warn!(
                machine = news.uuid,
                partition = request.partition,
                belongs_to = record.partition(),
                "report about a machine of another partition"
            );
            continue;
        }
        let (mut report, _) = report(&mut tx, &record.row.id).await?;
        merge(&mut report, news);
        save_report(&mut tx, &record.row.id, report, call.now_us()).await?;
        tx.commit().await?;
        if created {
            answer.created_machines.push(record.row.id);
        } else {
            answer.updated_machines.push(record.row.id);
        }
    }
    Ok(answer)
}

/// What is told replaces what is known; what is not told stays.
fn merge(report: &mut api::MachineBMCReport, news: api::MachineBMCReport) {
    if let Some(told) = news.bmc.as_option() {
        let bmc = report.bmc.get_or_insert_default();
        for (known, told) in [
            (&mut bmc.address, &told.address),
            (&mut bmc.mac, &told.mac),
            (&mut bmc.user, &told.user),
            (&mut bmc.password, &told.password),
            (&mut bmc.interface, &told.interface),
            (&mut bmc.version, &told.version),
            (&mut bmc.power_state, &told.power_state),
        ] {
            if !told.is_empty() {
                known.clone_from(told);
            }
        }
    }
    if let Some(told) = news.bios.as_option() {
        let bios = report.bios.get_or_insert_default();
        for (known, told) in [
            (&mut bios.version, &told.version),
            (&mut bios.vendor, &told.vendor),
            (&mut bios.date, &told.date),
        ] {
            if !told.is_empty() {
                known.clone_from(told);
            }
        }
    }
    if let Some(told) = news.fru.as_option() {
        let fru = report.fru.get_or_insert_default();
        for (known, told) in [
            (&mut fru.chassis_part_number, &told.chassis_part_number),
            (&mut fru.chassis_part_serial, &told.chassis_part_serial),
            (&mut fru.board_mfg, &told.board_mfg),
            (&mut fru.board_mfg_serial, &told.board_mfg_serial),
            (&mut fru.board_part_number, &told.board_part_number),
            (&mut fru.product_manufacturer, &told.product_manufacturer),
            (&mut fru.product_part_number, &told.product_part_number),
            (&mut fru.product_serial, &told.product_serial),
        ] {
            if told.is_some() {
                known.clone_from(told);
            }
        }
    }
    if news.power_metric.as_option().is_some() {
        report.power_metric = news.power_metric;
    }
    if !news.power_supplies.is_empty() {
        report.power_supplies = news.power_supplies;
    }
    if news
        .led_state
        .as_option()
        .is_some_and(|led| matches!(led.value.as_str(), "LED-ON" | "LED-OFF"))
    {
        report.led_state = news.led_state;
    }
}

async fn wait(
    call: &Call,
    request: infra::WaitForBMCCommandRequest,
) -> Result<ServiceStream<infra::WaitForBMCCommandResponse>, Error> {
    {
        let mut tx = call.read().await?;
        super::partition::get(&mut tx, &request.partition).await?;
    }
    let app = Arc::clone(&call.app);
    let queue = queue(&request.partition);
    let lease = uuid::Uuid::now_v7().to_string();
    let mut watcher = app.db.watch(&format!("job/{queue}"));
    let (sender, stream) = stream::open(&app);
    tokio::spawn(async move {
        let mut undelivered = None;
        loop {
            let pause = match next(&app, &queue, &lease).await {
                Ok(Next::Command(job, command)) => {
                    if !sender.deliver(Ok(*command)).await {
                        undelivered = Some(job);
                        break;
                    }
                    continue;
                }
                Ok(Next::Later(pause)) => pause,
                Err(error) => {
                    sender.send(Err(error.into())).await;
                    break;
                }
            };
            tokio::select! {
                () = sender.closed() => break,
                () = watcher.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = leave(&app, &queue, &lease, undelivered.as_deref()).await {
            tracing::warn!(queue, %error, "a command waits until the lease of its lost stream ends");
        }
    });
    Ok(stream)
}

/// What a stream has to do.
enum Next {
    /// Tell this command, which is leased to it.
    Command(Box<Job>, Box<infra::WaitForBMCCommandResponse>),
    /// Nothing until then, unless something changes.
    Later(Duration),
}

/// The next command of a partition.
async fn next(app: &App, queue: &str, lease: &str) -> Result<Next, Error> {
    loop {
        let now_us = Timestamp::now().as_microsecond();
        let mut tx = app.db.begin_write().await?;
        let Some(mut job) = job::claim(&mut tx, queue, lease, now_us, now_us + LEASE_US).await?
        else {
            // a lease that ends sooner is waited for
            let due_us = job::due_after(&mut tx, queue, now_us).await?;
            let pause = due_us.map_or(POLL, |us| Duration::from_micros(us.abs_diff(now_us)));
            return Ok(Next::Later(pause.min(POLL)));
        };
        let payload: Payload = serde_json::from_str(&job.payload)
            .map_err(|e| Error::internal(format!("job {} is damaged: {e}", job.id)))?;
        let (report, _) = report(&mut tx, &payload.machine).await?;
        if report.bmc.as_option().is_none_or(|bmc| bmc.address.is_empty()) {
            finish(&mut tx, &mut job, Some("the address of the BMC is not known"), now_us).await?;
            tx.commit().await?;
            continue;
        }
        tx.commit().await?;
        let command = infra::WaitForBMCCommandResponse {
            uuid: payload.machine,
            bmc_command: payload.command.into(),
            machine_bmc: report.bmc,
            command_id: job.id.clone(),
            ..Default::default()
        };
        return Ok(Next::Command(Box::new(job), Box::new(command)));
    }
}

/// A stream has ended: what its client did not get is there for others at once, what it may not have got soon. Who has got it and
/// is working on it says so by its id, also without the stream.
async fn leave(
    app: &App,
    queue: &str,
    lease: &str,
    undelivered: Option<&Job>,
) -> Result<(), Error> {
    let now_us = Timestamp::now().as_microsecond();
    let mut tx = app.db.begin_write().await?;
    if let Some(job) = undelivered {
        job::give_back(&mut tx, job, lease, now_us).await?;
    }
    let doubtful = now_us - DOUBT_US + LEASE_US;
    job::shorten(&mut tx, queue, lease, doubtful, now_us + GRACE_US).await?;
    Ok(tx.commit().await?)
}

async fn finish(tx: &mut Tx, job: &mut Job, error: Option<&str>, now_us: i64) -> Result<(), Error> {
    job.completed_at_us = Some(now_us);
    job.state = State::Completed;
    if let Some(error) = error {
        job.state = State::Failed;
        job.last_failed_at_us = Some(now_us);
        error.clone_into(&mut job.last_error);
    }
    Ok(job::update(tx, job).await?)
}

async fn done(
    call: &Call,
    request: infra::BMCCommandDoneRequest,
) -> Result<infra::BMCCommandDoneResponse, Error> {
    let mut tx = call.write().await?;
    let answer = infra::BMCCommandDoneResponse::default();
    let Some(mut job) = job::get_for_update(&mut tx, &request.command_id).await? else {
        return Ok(answer);
    };
    if job.kind != KIND || !matches!(job.state, State::Pending | State::Active) {
        return Ok(answer);
    }
    if let Some(error) = &request.error {
        tracing::warn!(machine = job.lane, command = job.id, error, "the BMC did not do it");
    }
    finish(&mut tx, &mut job, request.error.as_deref(), call.now_us()).await?;
    tx.commit().await?;
    Ok(answer)
}
