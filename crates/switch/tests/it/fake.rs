//! A control plane of one switch.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{Client, Config, TokenSource};
use connectrpc::{
    ConnectError, ErrorCode, RequestContext, Response, Router, Server, ServiceRequest,
    ServiceResult, ServiceStream,
};
use proto::{api, ext, infra};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) registered: Option<api::Switch>,
    pub(crate) heartbeats: Vec<(Instant, infra::SwitchServiceHeartbeatRequest)>,
    pub(crate) confirmed: Vec<u64>,
    pub(crate) events: Vec<(Instant, String, api::MachineProvisioningEvent)>,
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
        let found = within(40, "a heartbeat", || {
            let state = self.state.lock().unwrap();
            let mut new = state.heartbeats.iter().filter(|(at, _)| *at >= since);
            new.find(|(_, heartbeat)| like(heartbeat)).cloned()
        });
        let (at, heartbeat) = found.await;
        (at.duration_since(since), heartbeat)
    }
}

/// Asks until there is an answer, at most so many seconds.
pub(crate) async fn within<T>(seconds: u64, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(seconds), "no {what} within {seconds} s");
        tokio::time::sleep(Duration::from_millis(20)).await;
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
        self.state.lock().unwrap().heartbeats.push((Instant::now(), request));
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
        state.events.extend(
            request.events.into_iter().map(|(machine, event)| (Instant::now(), machine, event)),
        );
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
