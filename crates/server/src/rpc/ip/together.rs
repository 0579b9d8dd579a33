//! Addresses that are asked for at the same time are taken in one transaction: one write to disk for all of them.
//!
//! Who asks while others are being served waits for the next round. What a round cannot give, because others hold what is free or
//! because there is something to complain about that only a closer look tells, each asks for alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::api;
use store::Tx;
use tokio::sync::oneshot;

use super::{asked, check_network};
use crate::ipam::{self, Want};
use crate::rpc::{App, Error};
use crate::wire;

/// Addresses of one round.
const ROUND: usize = 32;
/// Rounds at the same time.
const ROUNDS: usize = 4;
/// Somebody else begins another round when the ones that run let wait for so long: they may wait for somebody themselves.
const SLOW: Duration = Duration::from_millis(50);

/// Who asks, and how many serve.
#[derive(Debug, Default)]
pub struct Together(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Wish>,
    rounds: usize,
}

#[derive(Debug)]
struct Wish {
    request: api::IPServiceCreateRequest,
    want: Want,
    operator: bool,
    now_us: i64,
    since: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// Nothing: whoever asked tries alone.
type Outcome = Option<Result<api::IP, Error>>;

impl Together {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a wish; whether somebody has to begin a round for it.
    fn add(&self, wish: Wish) -> bool {
        let mut state = self.state();
        state.waiting.push_back(wish);
        let slow = state.waiting.front().is_some_and(|first| first.since.elapsed() > SLOW);
        let more = state.rounds == 0 || slow || state.waiting.len() >= ROUND;
        let begins = more && state.rounds < ROUNDS;
        state.rounds += usize::from(begins);
        begins
    }

    /// Whether nobody waits any more; then the round has ended, too.
    fn ends(&self) -> bool {
        let mut state = self.state();
        let ends = state.waiting.is_empty();
        state.rounds -= usize::from(ends);
        ends
    }

    /// The wishes of a round: a power of two, so that connections keep the few different statements prepared.
    fn some(&self) -> Vec<Wish> {
        let mut state = self.state();
        state.waiting.retain(|wish| !wish.answer.is_closed());
        let count = state.waiting.len().min(ROUND);
        let count = count.checked_ilog2().map_or(0, |power| 1 << power);
        state.waiting.drain(..count).collect()
    }
}

/// Takes the lowest free address together with others who ask now; nothing when it has to be tried alone.
pub(super) async fn take(
    app: &Arc<App>,
    request: &api::IPServiceCreateRequest,
    want: Want,
    operator: bool,
    now_us: i64,
) -> Outcome {
    let (answer, told) = oneshot::channel();
    let (request, since) = (request.clone(), Instant::now());
    if app.together.add(Wish { request, want, operator, now_us, since, answer }) {
        tokio::spawn(serve(Arc::clone(app)));
    }
    // a round that panicked has taken nothing
    told.await.unwrap_or_default()
}

/// Serves rounds until nobody waits.
async fn serve(app: Arc<App>) {
    let mut round = Round { app: &app, ended: false };
    while !app.together.ends() {
        // begun first: who comes meanwhile is served by the same round
        let tx = app.db.begin_write().await;
        let wishes = app.together.some();
        let outcomes = match tx {
            Ok(tx) if !wishes.is_empty() => give(tx, &wishes).await.unwrap_or_default(),
            _ => Vec::new(),
        };
        let outcomes = outcomes.into_iter().chain(std::iter::repeat_with(|| None));
        for (wish, outcome) in wishes.into_iter().zip(outcomes) {
            // whoever asked may have gone
            let _ = wish.answer.send(outcome);
        }
    }
    round.ended = true;
}

/// Ends a round that panics.
struct Round<'a> {
    app: &'a App,
    ended: bool,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.app.together.state().rounds -= 1;
        }
    }
}

/// Gives as many addresses as there are at once, and makes that durable.
async fn give(mut tx: Tx, wishes: &[Wish]) -> Result<Vec<Outcome>, Error> {
    let mut ids: Vec<_> = wishes.iter().map(|wish| wish.request.network.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut networks = HashMap::new();
    for (row, prefixes) in store::prefix::with_networks(&mut tx, &ids).await? {
        let network: api::Network = wire::decode(&row)?;
        networks.insert(row.id, (network, prefixes));
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    let (mut requests, mut places) = (Vec::new(), Vec::new());
    for wish in wishes {
        let Some((network, prefixes)) = networks.get(&wish.request.network) else {
            outcomes.push(None);
            continue;
        };
        let checked = check_network(network, &wish.request, wish.operator);
        if checked.is_ok() {
            places.push(outcomes.len());
            requests.push((asked(&wish.request, wish.want), prefixes.as_slice()));
        }
        outcomes.push(checked.err().map(Err));
    }
    let now_us = wishes.iter().map(|wish| wish.now_us).max().unwrap_or_default();
    let ips = ipam::acquire_many(&mut tx, now_us, &requests).await?;
    let mut projects: Vec<_> = ips.iter().flatten().map(|ip| ip.project.as_str()).collect();
    if projects.is_empty() {
        return Ok(outcomes);
    }
    projects.sort_unstable();
    projects.dedup();
    // leaves let machines of the projects announce them from now on
    store::switch::nudge_projects(&mut tx, &projects).await?;
    let committed = tx.commit().await;
    if let Err(error) = &committed {
        tracing::error!(%error, addresses = ips.len(), "a round of addresses was not committed");
    }
    for (place, ip) in places.into_iter().zip(ips) {
        // it may have become durable nevertheless: nobody takes a second one by himself
        let lost = || Error::unavailable("the database does not answer, try again");
        outcomes[place] = ip.map(|ip| if committed.is_ok() { Ok(ip) } else { Err(lost()) });
    }
    Ok(outcomes)
}
