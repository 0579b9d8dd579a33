//! Login of people at a real OpenID provider, on SQLite, on PostgreSQL, and with TLS on two replicas.

#[path = "../../store/tests/it/postgres.rs"]
#[allow(dead_code, reason = "shared by test programs of which none needs all of it")]
mod postgres;

#[path = "login/browser.rs"]
mod browser;
#[path = "login/certificate.rs"]
mod certificate;
#[path = "login/people.rs"]
mod people;
#[path = "login/provider.rs"]
mod provider;
#[path = "login/refusal.rs"]
mod refusal;
#[path = "login/site.rs"]
mod site;
