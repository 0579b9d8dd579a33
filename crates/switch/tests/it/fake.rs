//! A control plane of one switch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Client, Config, TokenSource};
use connectrpc::{
    ConnectError, ErrorCode, RequestContext, Response, Router, Server, ServiceRequest,
    ServiceResult, ServiceStream,
};
use proto::{api, ext, infra};
use tokio::sync::watch;

use crate::running::eventually;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) registered: Option<api::Switch>,
    pub(crate) heartbeats: Vec<Heartbeat>,
    pub(crate) confirmed: Vec<u64>,
    pub(crate) events: Vec<(String, api::MachineProvisioningEvent)>,
}

/// One that came.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    at: Instant,
    /// What was confirmed last before it.
    confirmed: Option<u64>,
    request: infra::SwitchServiceHeartbeatRequest,
}

pub(crate) struct Fake {
    pub(crate) state: Mutex<State>,
    /// How the switch should be, once it has registered.
    switch: watch::Sender<Option<(u64, api::Switch)>>,
    /// Whether there is a stream at all.
    streams: bool,
}

impl Fake {
    /// Starts one on a port of its own.
    pub(crate) async fn start(streams: bool) -> (Arc<Self>, String) {
        let fake =
            Arc::new(Self { state: Mutex::default(), switch: watch::Sender::new(None), streams });
        let router = infra::SwitchServiceExt::register(fake.clone(), Router::new());
        let router = ext::SwitchWatchServiceExt::register(fake.clone(), router);
        let router = infra::EventServiceExt::register(fake.clone(), router);
        let router = infra::ComponentServiceExt::register(fake.clone(), router);
        let bound = Server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", bound.local_addr().unwrap());
        tokio::spawn(bound.serve(router));
        (fake, url)
    }

    pub(crate) fn client(url: &str) -> Client {
        Client::new(Config { url: url.to_owned(), token: TokenSource::None, ca_cert_pem: None })
            .unwrap()
    }

    /// Says how the switch should be. Returns when.
    pub(crate) fn say(
        &self,
        generation: u64,
        nics: Vec<api::SwitchNic>,
        machines: &[(&str, &str)],
    ) -> Instant {
        let connection = |(machine, port): &(&str, &str)| api::MachineConnection {
            machine_id: (*machine).to_owned(),
            nic: nic(port, None, &[]).into(),
            ..Default::default()
        };
        let machine_connections = machines.iter().map(connection).collect();
        let switch =
            api::Switch { id: "leaf01".into(), nics, machine_connections, ..Default::default() };
        self.switch.send_replace(Some((generation, switch)));
        Instant::now()
    }

    /// The first heartbeat after `since` that is like this.
    pub(crate) async fn heartbeat(
        &self,
        since: Instant,
        like: impl Fn(&infra::SwitchServiceHeartbeatRequest) -> bool,
    ) -> (Duration, infra::SwitchServiceHeartbeatRequest) {
        self.first(since, |heartbeat| like(&heartbeat.request)).await
    }

    /// The first heartbeat after this generation was confirmed: others may have been on their way when it was said.
    pub(crate) async fn applied(
        &self,
        generation: u64,
        since: Instant,
    ) -> (Duration, infra::SwitchServiceHeartbeatRequest) {
        self.first(since, |heartbeat| heartbeat.confirmed == Some(generation)).await
    }

    async fn first(
        &self,
        since: Instant,
        like: impl Fn(&Heartbeat) -> bool,
    ) -> (Duration, infra::SwitchServiceHeartbeatRequest) {
        let found = eventually("such heartbeat", || {
            let state = self.state.lock().unwrap();
            let mut new = state.heartbeats.iter().filter(|heartbeat| heartbeat.at >= since);
            new.find(|heartbeat| like(heartbeat)).cloned()
        });
        let Heartbeat { at, request, .. } = found.await;
        (at.duration_since(since), request)
    }
}

/// What was heard last says why a test failed.
impl Drop for Fake {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let said = self.switch.borrow().as_ref().map(|(generation, _)| *generation);
            eprintln!("said {said:?}, heard {:?}", state.heartbeats.last());
        }
    }
}

pub(crate) fn nic(name: &str, vrf: Option<&str>, cidrs: &[&str]) -> api::SwitchNic {
    let cidrs = cidrs.iter().map(|&cidr| cidr.to_owned()).collect();
    api::SwitchNic {
        name: name.into(),
        identifier: name.into(),
        vrf: vrf.map(Into::into),
        bgp_filter: api::BGPFilter { cidrs, ..Default::default() }.into(),
        ..Default::default()
    }
}

impl infra::SwitchService for Fake {
    async fn get(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, infra::SwitchServiceGetRequest>,
    ) -> ServiceResult<infra::SwitchServiceGetResponse> {
        let known = self.state.lock().unwrap().registered.is_some();
        let Some((_, switch)) = self.switch.borrow().clone().filter(|_| known) else {
            return Err(ConnectError::new(ErrorCode::NotFound, "register first"));
        };
        Response::ok(infra::SwitchServiceGetResponse {
            switch: switch.into(),
            ..Default::default()
        })
    }

    async fn register(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, infra::SwitchServiceRegisterRequest>,
    ) -> ServiceResult<infra::SwitchServiceRegisterResponse> {
        let request = request.to_owned_message();
        protovalidate_buffa::Validate::validate(&request).unwrap();
        self.state.lock().unwrap().registered = request.switch.clone().into_option();
        Response::ok(infra::SwitchServiceRegisterResponse {
            switch: request.switch,
            ..Default::default()
        })
    }

    async fn heartbeat(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, infra::SwitchServiceHeartbeatRequest>,
    ) -> ServiceResult<infra::SwitchServiceHeartbeatResponse> {
        let request = request.to_owned_message();
        protovalidate_buffa::Validate::validate(&request).unwrap();
        let mut state = self.state.lock().unwrap();
        let confirmed = state.confirmed.last().copied();
        state.heartbeats.push(Heartbeat { at: Instant::now(), confirmed, request });
        Response::ok(infra::SwitchServiceHeartbeatResponse::default())
    }
}

impl ext::SwitchWatchService for Fake {
    async fn watch(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, ext::SwitchWatchServiceWatchRequest>,
    ) -> ServiceResult<ServiceStream<ext::SwitchWatchServiceWatchResponse>> {
        if !self.streams {
            return Err(ConnectError::new(ErrorCode::Unimplemented, "no streams here"));
        }
        if self.state.lock().unwrap().registered.is_none() {
            return Err(ConnectError::new(ErrorCode::NotFound, "register first"));
        }
        let stream = futures::stream::unfold(
            (self.switch.subscribe(), true),
            |(mut switch, first)| async move {
                if !first {
                    switch.changed().await.ok()?;
                }
                let said = switch.wait_for(Option::is_some).await.ok()?.clone();
                let (generation, said) = said?;
                switch.mark_unchanged();
                let answer = ext::SwitchWatchServiceWatchResponse {
                    switch: said.into(),
                    generation,
                    ..Default::default()
                };
                Some((Ok(answer), (switch, false)))
            },
        );
        Response::stream_ok(stream)
    }

    async fn confirm(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, ext::SwitchWatchServiceConfirmRequest>,
    ) -> ServiceResult<ext::SwitchWatchServiceConfirmResponse> {
        self.state.lock().unwrap().confirmed.push(request.to_owned_message().generation);
        Response::ok(ext::SwitchWatchServiceConfirmResponse::default())
    }
}

impl Fake {
    pub(crate) fn confirmed(&self) -> Vec<u64> {
        self.state.lock().unwrap().confirmed.clone()
    }
}

impl infra::EventService for Fake {
    async fn send(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, infra::EventServiceSendRequest>,
    ) -> ServiceResult<infra::EventServiceSendResponse> {
        let request = request.to_owned_message();
        let mut state = self.state.lock().unwrap();
        let count = request.events.len() as u64;
        state.events.extend(request.events);
        Response::ok(infra::EventServiceSendResponse { events: count, ..Default::default() })
    }
}

impl infra::ComponentService for Fake {
    async fn ping(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, infra::ComponentServicePingRequest>,
    ) -> ServiceResult<infra::ComponentServicePingResponse> {
        protovalidate_buffa::Validate::validate(&request.to_owned_message()).unwrap();
        Response::ok(infra::ComponentServicePingResponse::default())
    }
}
