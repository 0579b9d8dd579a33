//! `BootService`: the way of a machine from power-on to its operating system.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use connectrpc::{ConnectError, Router, ServiceStream};
use model::provisioning::Event;
use proto::api;
use proto::infra::{self, BootServiceExt};
use store::waiting::Waiting;
use store::{Tx, Watcher};
use tokio::runtime::Handle;

use super::machine::record::{self, Record, UNKNOWN_SIZE};
use super::{App, Call, Error, bmc, event, service, size, stream, switch};
use crate::auth::{self, Level};
use crate::bootstrap::BOOTSTRAPPER_LABEL as BOOTSTRAPPER;
use crate::wire;

/// How long a token of a machine is valid when nothing is asked for.
const TOKEN_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);
/// A wait stream looks at the database that often, also when nobody wakes it.
const POLL: Duration = Duration::from_secs(20);

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { infra::BootService {
    dhcp(BootServiceDhcpRequest) -> BootServiceDhcpResponse = dhcp;
    boot(BootServiceBootRequest) -> BootServiceBootResponse = boot;
    machine_token(BootServiceMachineTokenRequest) -> BootServiceMachineTokenResponse = machine_token;
    super_user_password(BootServiceSuperUserPasswordRequest) -> BootServiceSuperUserPasswordResponse = super_user_password;
    register(BootServiceRegisterRequest) -> BootServiceRegisterResponse = enrol;
    installation_succeeded(BootServiceInstallationSucceededRequest) -> BootServiceInstallationSucceededResponse = installation_succeeded;
    send_event(BootServiceSendEventRequest) -> BootServiceSendEventResponse = send_event;
} streams {
    wait(BootServiceWaitRequest) -> BootServiceWaitResponse = wait;
} }

async fn dhcp(
    call: &Call,
    request: infra::BootServiceDhcpRequest,
) -> Result<infra::BootServiceDhcpResponse, Error> {
    let mut tx = call.write().await?;
    super::partition::keep(&mut tx, &request.partition).await?;
    let record = record::ensure(&mut tx, &request.uuid, Some(&request.partition), call.now).await?;
    // power was cycled: an old stream that has not noticed yet offers nothing
    store::waiting::set_electable(&mut tx, &record.row.id, false).await?;
    let message = "the machine asks what to boot";
    event::record_event(&mut tx, &record.row.id, Event::PxeBooting, message, call.now).await?;
    tx.commit().await?;
    Ok(infra::BootServiceDhcpResponse::default())
}

async fn boot(
    call: &Call,
    request: infra::BootServiceBootRequest,
) -> Result<infra::BootServiceBootResponse, Error> {
    let mut tx = call.read().await?;
    let partition = super::partition::get(&mut tx, &request.partition).await?;
    let Some(configuration) = partition.boot_configuration.as_option() else {
        return Err(Error::precondition(format!(
            "partition {} has no boot configuration: an operator must set kernel and image URL",
            request.partition
        )));
    };
    Ok(infra::BootServiceBootResponse {
        kernel: configuration.kernel_url.clone(),
        init_ram_disks: vec![configuration.image_url.clone()],
        cmdline: Some(configuration.commandline.clone()),
        ..Default::default()
    })
}

async fn machine_token(
    call: &Call,
    request: infra::BootServiceMachineTokenRequest,
) -> Result<infra::BootServiceMachineTokenResponse, Error> {
    let rights = &call.caller()?.rights;
    let allowed = rights.admin == Some(Level::Editor)
        || [request.uuid.as_str(), "*"]
            .iter()
            .any(|uuid| rights.machines.get(*uuid) == Some(&Level::Editor));
    if !allowed {
        return Err(Error::denied(format!(
            "requested machine roles are not allowed: [{}]; the caller's own token needs a machine role, normally on \"*\"",
            request.uuid
        )));
    }
    let mut tx = call.write().await?;
    let tenant: Option<api::Tenant> = store::tenant::TABLE
        .get(&mut tx, &request.user)
        .await?
        .as_ref()
        .map(wire::decode)
        .transpose()?;
    let bootstrapper = tenant.is_some_and(|tenant| {
        let labels = tenant.meta.as_option().and_then(|meta| meta.labels.as_option());
        labels.is_some_and(|labels| labels.labels.contains_key(BOOTSTRAPPER))
    });
    if !bootstrapper {
        return Err(Error::invalid(format!(
            "tokens of machines may not belong to \"{}\": the tenant of this user lacks the label {BOOTSTRAPPER}",
            request.user
        )));
    }
    let mut token = api::Token {
        user: request.user,
        description: format!("machine token for {}", request.uuid),
        token_type: api::TokenType::Api.into(),
        ..Default::default()
    };
    token.machine_roles.insert(request.uuid.clone(), api::MachineRole::Editor.into());
    token.meta.get_or_insert_default().labels = request.labels;
    let life = match request.expires.as_option() {
        Some(expires) => Duration::from_micros(wire::duration_us(expires).unsigned_abs()),
        None => TOKEN_LIFE,
    };
    revoke_machine_tokens(&mut tx, &token.user, &request.uuid).await?;
    let secret = auth::create_token(&mut tx, &call.app.issuer, &mut token, life, call.now).await?;
    tx.commit().await?;
    Ok(infra::BootServiceMachineTokenResponse { token: token.into(), secret, ..Default::default() })
}

/// Ends all tokens that speak for this machine alone.
async fn revoke_machine_tokens(tx: &mut Tx, user: &str, machine: &str) -> Result<(), Error> {
    let rows = store::token::TABLE.select().eq("owner", user).all(tx).await?;
    for row in rows {
        let token: api::Token = wire::decode(&row)?;
        if token.machine_roles.contains_key(machine) {
            store::token::delete(tx, user, &row.id).await?;
        }
    }
    Ok(())
}

async fn super_user_password(
    call: &Call,
    _: infra::BootServiceSuperUserPasswordRequest,
) -> Result<infra::BootServiceSuperUserPasswordResponse, Error> {
    let password = call.app.bmc_superuser_password.clone();
    Ok(infra::BootServiceSuperUserPasswordResponse {
        feature_disabled: password.is_none(),
        super_user_password: password.unwrap_or_default(),
        ..Default::default()
    })
}

async fn enrol(
    call: &Call,
    request: infra::BootServiceRegisterRequest,
) -> Result<infra::BootServiceRegisterResponse, Error> {
    let Some(hardware) = request.hardware.as_option() else {
        return Err(Error::invalid("hardware is missing"));
    };
    if request.bios.as_option().is_none() {
        return Err(Error::invalid("bios is missing"));
    }
    let mut tx = call.write().await?;
    super::partition::keep(&mut tx, &request.partition).await?;
    let mut record =
        record::ensure(&mut tx, &request.uuid, Some(&request.partition), call.now).await?;
    if record.partition() != request.partition {
        return Err(Error::precondition(format!(
            "machine {} belongs to partition {}, not to {}",
            request.uuid,
            record.partition(),
            request.partition
        )));
    }
    let size = size::find(&mut tx, hardware).await?;
    let size = size.map_or_else(|| UNKNOWN_SIZE.to_owned(), |size| size.id);
    if size != UNKNOWN_SIZE && store::size::TABLE.keep(&mut tx, &size).await?.is_none() {
        return Err(Error::contention(format!("size {size} was removed meanwhile: retry")));
    }
    let place = switch::connect::connect(&mut tx, &record, hardware, &request.partition).await?;
    record.machine.rack.clone_from(&place.rack);
    record.machine.room = place.room;
    record.set_label("machine.metal-stack.io/rack", Some(place.rack));
    // what is allocated keeps the size it was chosen for
    if record.allocation().is_none() {
        record.machine.size = api::Size { id: size.clone(), ..Default::default() }.into();
    }
    record.machine.hardware = hardware.clone().into();
    record.machine.status.get_or_insert_default().metal_hammer_version =
        request.metal_hammer_version.clone();
    let serial = request.fru.as_option().and_then(|fru| fru.chassis_part_serial.clone());
    if serial.is_some() {
        record.set_label("machine.metal-stack.io/chassis", serial);
    }
    record::save(&mut tx, &mut record, call.now).await?;
    save_bmc(&mut tx, &record.row.id, &request).await?;
    tx.commit().await?;
    Ok(infra::BootServiceRegisterResponse {
        uuid: record.row.id,
        size,
        partition: request.partition,
        ..Default::default()
    })
}

/// What the installer knows of the BMC; what it does not know stays.
async fn save_bmc(
    tx: &mut Tx,
    machine: &str,
    request: &infra::BootServiceRegisterRequest,
) -> Result<(), Error> {
    let (mut report, updated_at_us) = bmc::report(tx, machine).await?;
    report.bios = request.bios.clone();
    if request.bmc.as_option().is_some() {
        report.bmc = request.bmc.clone();
    }
    if request.fru.as_option().is_some() {
        report.fru = request.fru.clone();
    }
    bmc::save_report(tx, machine, report, updated_at_us).await
}

async fn installation_succeeded(
    call: &Call,
    request: infra::BootServiceInstallationSucceededRequest,
) -> Result<infra::BootServiceInstallationSucceededResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::require_for_update(&mut tx, &request.uuid).await?;
    let Some(allocation) = record.allocation().filter(|_| !record.is_releasing()) else {
        return Err(Error::precondition(format!("machine {} is not allocated", request.uuid)));
    };
    let vrf = switch::vrf_of(allocation)?;
    store::machine::set_console_password(&mut tx, &record.row.id, Some(&request.console_password))
        .await?;
    switch::set_vrf(&mut tx, &record.row.id, Some(&vrf), call.now).await?;
    bmc::enqueue(&mut tx, &record, api::MachineBMCCommand::MachineCreated, call.now).await?;
    tx.commit().await?;
    Ok(infra::BootServiceInstallationSucceededResponse::default())
}

async fn send_event(
    call: &Call,
    request: infra::BootServiceSendEventRequest,
) -> Result<infra::BootServiceSendEventResponse, Error> {
    let told = request.event.as_option().cloned().unwrap_or_default();
    let kind = event::from_wire(&told)?;
    if matches!(kind, Event::PxeBooting | Event::PhonedHome | Event::MachineReclaim) {
        return Err(Error::invalid(format!(
            "a machine does not tell \"{}\" about itself",
            kind.name()
        )));
    }
    let mut tx = call.write().await?;
    let record = record::ensure(&mut tx, &request.uuid, None, call.now).await?;
    event::record_event(&mut tx, &record.row.id, kind, &told.message, call.now).await?;
    tx.commit().await?;
    Ok(infra::BootServiceSendEventResponse::default())
}

/// Offers the machine as long as somebody listens, and passes on what it is allocated for.
async fn wait(
    call: &Call,
    request: infra::BootServiceWaitRequest,
) -> Result<ServiceStream<infra::BootServiceWaitResponse>, Error> {
    let app = Arc::clone(&call.app);
    let uuid = request.uuid.to_lowercase();
    // watched before the first look, so that nothing is missed between
    let watcher = app.db.watch(&format!("machine/{uuid}"));
    let stream = uuid::Uuid::now_v7().to_string();
    let found = offer(&app, &uuid, &stream).await?;
    let told = String::new();
    let waiter = Waiter { app, uuid, stream, watcher, found, told, over: false };
    Ok(stream::ask(&call.app, Box::new(waiter), Waiter::next))
}

/// An open stream of a machine that waits; the machine leaves the pool with it. Ten thousand of them sleep, so it has neither a
/// task nor a channel.
struct Waiter {
    app: Arc<App>,
    uuid: String,
    /// Its own id: a newer stream of the machine has another one.
    stream: String,
    watcher: Watcher,
    found: Option<Box<api::MachineAllocation>>,
    /// Id of the allocation that was passed on.
    told: String,
    over: bool,
}

impl Waiter {
    async fn next(
        mut self: Box<Self>,
    ) -> Option<(Result<infra::BootServiceWaitResponse, ConnectError>, Box<Self>)> {
        while !self.over {
            if let Some(allocation) = self.found.take()
                && allocation.uuid != self.told
            {
                self.told.clone_from(&allocation.uuid);
                let answer = infra::BootServiceWaitResponse {
                    allocation: (*allocation).into(),
                    ..Default::default()
                };
                return Some((Ok(answer), self));
            }
            tokio::select! {
                () = self.watcher.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            // apart, so that streams that sleep do not keep room for it
            match Box::pin(look(&self.app, &self.uuid, &self.stream)).await {
                Ok(found) => self.found = found,
                Err(error) => {
                    self.over = true;
                    return Some((Err(error.into()), self));
                }
            }
        }
        None
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // without a runtime the server has ended, and so does its lease
        let Ok(runtime) = Handle::try_current() else { return };
        let app = Arc::clone(&self.app);
        let (uuid, stream) = (mem::take(&mut self.uuid), mem::take(&mut self.stream));
        runtime.spawn(async move {
            if let Err(error) = withdraw(&app, &uuid, &stream).await {
                tracing::warn!(machine = uuid, %error, "the machine stays in the pool until this replica's lease ends");
            }
        });
    }
}

/// Puts the machine into the pool, or tells its allocation.
async fn offer(
    app: &App,
    uuid: &str,
    stream: &str,
) -> Result<Option<Box<api::MachineAllocation>>, Error> {
    let mut tx = app.db.begin_write().await?;
    let record = record::require_for_update(&mut tx, uuid).await?;
    if let Some(allocation) = record.allocation().filter(|_| !record.is_releasing()) {
        return Ok(Some(Box::new(allocation.clone())));
    }
    put(app, &mut tx, &record, stream).await?;
    tx.commit().await?;
    Ok(None)
}

async fn put(app: &App, tx: &mut Tx, record: &Record, stream: &str) -> Result<(), Error> {
    let waiting = Waiting {
        machine: record.row.id.clone(),
        partition: record.partition().to_owned(),
        size: record.size().to_owned(),
        rack: record.machine.rack.clone(),
        electable: record.state() == api::MachineState::Available
            && record.size() != UNKNOWN_SIZE
            && !record.size().is_empty()
            && record.allocation().is_none(),
        position: super::machine::position(stream),
        replica: app.replica.clone(),
        stream: stream.to_owned(),
    };
    Ok(store::waiting::put(tx, &waiting).await?)
}

/// What a stream finds when it wakes. A machine that was released while its stream was open is offered again.
async fn look(
    app: &App,
    uuid: &str,
    stream: &str,
) -> Result<Option<Box<api::MachineAllocation>>, Error> {
    let mut tx = app.db.begin_read().await?;
    if store::waiting::is_idle(&mut tx, uuid).await? {
        return Ok(None);
    }
    let Some(record) = record::get(&mut tx, uuid).await? else {
        return Err(Error::not_found("machine", uuid));
    };
    if let Some(allocation) = record.allocation().filter(|_| !record.is_releasing()) {
        return Ok(Some(Box::new(allocation.clone())));
    }
    match store::waiting::get(&mut tx, uuid).await? {
        // a newer stream offers it, or an operator or a failure holds it back
        Some(_) => Ok(None),
        // the lease of the replica had run out, for instance because the database was away
        None if record.allocation().is_none() => {
            drop(tx);
            offer(app, uuid, stream).await
        }
        None => Ok(None),
    }
}

async fn withdraw(app: &App, uuid: &str, stream: &str) -> Result<(), Error> {
    let mut tx = app.db.begin_write().await?;
    store::waiting::end(&mut tx, uuid, stream).await?;
    Ok(tx.commit().await?)
}
