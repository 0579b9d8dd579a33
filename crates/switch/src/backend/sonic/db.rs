//! Redis as SONiC uses it. Reads share a connection per database; a transaction has one of its own, for WATCH belongs to
//! a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::{Mutex, Notify};

use super::databases::{Address, Base, Database, Databases};
use super::resp::{Command, Connection, Reply, command};
use super::schema::{
    self, CONFIG_TABLES, Condition, Fields, Rows, STATE_TABLES, Snapshot, Write, key,
};

/// CONFIG_DB says that it is complete; the first that goes when it is loaded again, and the last that comes.
const LOADED: &str = "CONFIG_DB_INITIALIZED";
/// APPL_DB says that there are ports.
const MADE: &str = "PORT_TABLE:PortInitDone";
/// So many keys are looked at per round.
const BATCH: &str = "1000";
/// A subscription that broke off is tried again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// The databases of a switch.
pub struct Db {
    databases: Databases,
    /// Those that nobody uses at the moment.
    kept: Mutex<BTreeMap<Base, Connection>>,
}

impl Db {
    /// Connects when it is asked something.
    pub fn new(databases: Databases) -> Self {
        Self { databases, kept: Mutex::default() }
    }

    /// Where a database is.
    pub fn address(&self, base: Base) -> &Address {
        &self.databases.get(base).address
    }

    /// What Redis says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn version(&self) -> Result<String> {
        let info = self.one(Base::Config, command(["INFO", "server"])).await?;
        let info = info.text().unwrap_or_default();
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("unknown").trim().to_owned())
    }

    async fn is_loaded(&self) -> Result<()> {
        let loaded = self.one(Base::Config, command(["GET", LOADED])).await?;
        ensure!(
            loaded.text().is_some_and(|text| text == "1"),
            "CONFIG_DB is not loaded; SONiC boots or loads its configuration again"
        );
        Ok(())
    }

    /// How it is now.
    ///
    /// # Errors
    /// Redis does not answer, CONFIG_DB is being loaded, or SONiC has not made its ports yet.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        // Before and after: what is read while somebody loads it is half of it.
        self.is_loaded().await?;
        let config = self.rows(Base::Config, &CONFIG_TABLES).await?;
        self.is_loaded().await?;
        let made = self.one(Base::Application, command(["EXISTS", MADE])).await?;
        ensure!(made == Reply::Integer(1), "SONiC has not made its ports yet ({MADE})");
        let state = self.rows(Base::State, &STATE_TABLES).await?;
        let names = schema::table(&config, "PORT").map(|(name, _)| name.to_owned());
        let names: Vec<_> = names.collect();
        let keys: Vec<_> = names.iter().map(|name| format!("PORT_TABLE:{name}")).collect();
        let rows = self.read(Base::Application, &keys).await?;
        let ports = names.into_iter().zip(rows).filter(|(_, fields)| !fields.is_empty()).collect();
        Ok(Snapshot { config, state, ports })
    }

    /// Rows of these tables. Nothing is blocked while they are looked for.
    async fn rows(&self, base: Base, tables: &[&str]) -> Result<Rows> {
        let is_one =
            |name: &String| name.split_once('|').is_some_and(|(of, _)| tables.contains(&of));
        let keys: Vec<_> = self.keys(base, "*").await?.into_iter().filter(is_one).collect();
        let rows = self.read(base, &keys).await?;
        // One without fields went meanwhile.
        Ok(keys.into_iter().zip(rows).filter(|(_, fields)| !fields.is_empty()).collect())
    }

    async fn keys(&self, base: Base, pattern: &str) -> Result<BTreeSet<String>> {
        let (mut keys, mut cursor) = (BTreeSet::new(), "0".to_owned());
        loop {
            let scan = command(["SCAN", &cursor, "MATCH", pattern, "COUNT", BATCH]);
            let mut answer = self.one(base, scan).await?.list().into_iter();
            cursor = answer.next().and_then(Reply::text).context("SCAN has no cursor")?;
            keys.extend(answer.next().into_iter().flat_map(Reply::list).filter_map(Reply::text));
            if cursor == "0" {
                return Ok(keys);
            }
        }
    }

    async fn read(&self, base: Base, keys: &[String]) -> Result<Vec<Fields>> {
        let commands: Vec<_> = keys.iter().map(|key| command(["HGETALL", key])).collect();
        Ok(self.ask(base, &commands).await?.into_iter().map(fields).collect())
    }

    async fn row(&self, base: Base, key: &str) -> Result<Fields> {
        self.one(base, command(["HGETALL", key])).await.map(fields)
    }

    /// Whether it is so now.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn holds(&self, condition: &Condition) -> Result<bool> {
        let mut now = Snapshot::default();
        match condition {
            Condition::Is(key, ..) | Condition::Gone(key) => {
                let row = self.row(Base::State, key).await?;
                now.state.extend((!row.is_empty()).then(|| (key.clone(), row)));
            }
            Condition::Admin(port, _) => {
                let row = self.row(Base::Application, &format!("PORT_TABLE:{port}")).await?;
                now.ports.insert(port.clone(), row);
            }
            Condition::NoRouter(name) => return Ok(!self.routes(name).await?),
            Condition::NoBridge(port) => return Ok(!self.bridges(port).await?),
        }
        Ok(condition.seen(&now))
    }

    async fn routes(&self, name: &str) -> Result<bool> {
        let Some(id) = self.id("COUNTERS_RIF_NAME_MAP", name).await? else { return Ok(false) };
        let key = format!("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:{id}");
        Ok(self.one(Base::Asic, command(["EXISTS", &key])).await? == Reply::Integer(1))
    }

    async fn bridges(&self, port: &str) -> Result<bool> {
        let Some(id) = self.id("COUNTERS_PORT_NAME_MAP", port).await? else { return Ok(false) };
        let keys = self.keys(Base::Asic, "ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:*").await?;
        let rows = self.read(Base::Asic, &Vec::from_iter(keys)).await?;
        Ok(rows.iter().any(|row| row.get("SAI_BRIDGE_PORT_ATTR_PORT_ID") == Some(&id)))
    }

    /// What the ASIC calls it.
    async fn id(&self, map: &str, name: &str) -> Result<Option<String>> {
        Ok(self.one(Base::Counters, command(["HGET", map, name])).await?.text())
    }

    /// Reads rows of CONFIG_DB so that what is written after it is written only if nobody changed them meanwhile, and nobody
    /// loads all of it again.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn begin(&self, keys: &BTreeSet<String>) -> Result<Transaction> {
        let mut connection = self.connect(Base::Config).await?;
        let mut commands: Vec<Command> = Vec::new();
        if !keys.is_empty() {
            let mut watch = command(["WATCH", LOADED]);
            watch.extend(keys.iter().cloned());
            commands.push(watch);
            commands.extend(keys.iter().map(|key| command(["HGETALL", key])));
        }
        let replies = connection.call(&commands).await.with_context(|| self.silent(Base::Config));
        let rows = replies?.into_iter().skip(1);
        let rows = keys.iter().cloned().zip(rows.map(fields));
        let rows = rows.filter(|(_, fields)| !fields.is_empty()).collect();
        Ok(Transaction { connection, rows })
    }

    /// Tells whenever something is written that is looked at here, until it is dropped. Must be called inside a Tokio
    /// runtime.
    pub fn listen(self: &Arc<Self>, news: &Arc<Notify>) -> Vec<Task> {
        let mut patterns: BTreeMap<&Address, (Base, Command)> = BTreeMap::new();
        for base in [Base::Config, Base::State, Base::Application] {
            let Database { address, id, .. } = self.databases.get(base);
            let own = |name: String| format!("__keyspace@{id}__:{name}");
            let subscribe = || (base, command(["PSUBSCRIBE"]));
            let (_, all) = patterns.entry(address).or_insert_with(subscribe);
            match base {
                Base::Config => all.extend(CONFIG_TABLES.map(|table| own(key(table, "*")))),
                Base::State => all.extend(STATE_TABLES.map(|table| own(key(table, "*")))),
                _ => all.push(own("PORT_TABLE:*".into())),
            }
        }
        let start = |(base, subscribe): (Base, Command)| {
            let (db, news) = (self.clone(), news.clone());
            let task = tokio::spawn(async move {
                loop {
                    if let Err(error) = db.hear(base, &subscribe, &news).await {
                        tracing::debug!(
                            error = format!("{error:#}"),
                            "Redis does not tell what changes; looking now and then"
                        );
                    }
                    tokio::time::sleep(AGAIN).await;
                    news.notify_one();
                }
            });
            Task(task.abort_handle())
        };
        patterns.into_values().map(start).collect()
    }

    async fn hear(&self, base: Base, subscribe: &Command, news: &Notify) -> Result<()> {
        let mut connection = self.connect(base).await?;
        connection.call(std::slice::from_ref(subscribe)).await?;
        loop {
            connection.next().await?;
            news.notify_one();
        }
    }

    async fn one(&self, base: Base, command: Command) -> Result<Reply> {
        let replies = self.ask(base, &[command]).await?;
        replies.into_iter().next().context("Redis said nothing")
    }

    /// A connection that broke since it was used last is made again; one whose answer nobody waited for is not used again.
    async fn ask(&self, base: Base, commands: &[Command]) -> Result<Vec<Reply>> {
        let kept = self.kept.lock().await.remove(&base);
        if let Some(mut connection) = kept
            && let Ok(replies) = connection.call(commands).await
        {
            self.kept.lock().await.insert(base, connection);
            return Ok(replies);
        }
        let mut connection = self.connect(base).await?;
        let replies = connection.call(commands).await.with_context(|| self.silent(base))?;
        self.kept.lock().await.insert(base, connection);
        Ok(replies)
    }

    async fn connect(&self, base: Base) -> Result<Connection> {
        Connection::open(self.databases.get(base)).await.with_context(|| self.silent(base))
    }

    fn silent(&self, base: Base) -> String {
        format!("{} does not answer at {}", base.name(), self.address(base))
    }
}

/// Rows that were read, on a connection that knows if they changed. Dropped without a word, nothing happens.
pub struct Transaction {
    connection: Connection,
    /// Those rows that are there.
    pub rows: Rows,
}

impl Transaction {
    /// Writes all or nothing. `false`: somebody changed what was read, and nothing is written.
    ///
    /// # Errors
    /// Redis does not answer: then it may have been written or not. Or it refuses a part: then the rest is written.
    pub async fn commit(mut self, writes: &[Write]) -> Result<bool> {
        let mut commands = vec![command(["MULTI"])];
        commands.extend(writes.iter().map(|write| match write {
            Write::Set(key, fields) => {
                let mut set = command(["HSET", key]);
                set.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
                set
            }
            Write::Unset(key, field) => command(["HDEL", key, field]),
            Write::Remove(key) => command(["DEL", key]),
        }));
        commands.push(command(["EXEC"]));
        let mut replies = self.connection.call(&commands).await?;
        let Some(done @ Reply::List(_)) = replies.pop() else { return Ok(false) };
        for (reply, write) in done.list().into_iter().zip(writes) {
            ensure!(!matches!(reply, Reply::Error(_)), "{write}: {reply:?}");
        }
        Ok(true)
    }
}

fn fields(reply: Reply) -> Fields {
    let mut texts = reply.list().into_iter().filter_map(Reply::text);
    std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect()
}

/// Ends when it is dropped.
pub struct Task(tokio::task::AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
