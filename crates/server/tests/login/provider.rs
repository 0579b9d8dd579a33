//! The provider's process, one for all tests of a program.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};

/// A provider that runs.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    child: Child,
}

/// A client that the provider knows.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: String,
}

static SHARED: Mutex<Weak<Provider>> = Mutex::new(Weak::new());

/// The provider of all tests that run at the same time.
pub(crate) fn shared() -> Arc<Provider> {
    let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let provider = slot.upgrade().unwrap_or_else(|| Arc::new(Provider::start()));
    *slot = Arc::downgrade(&provider);
    provider
}

impl Provider {
    fn start() -> Self {
        // the command line's tests use it, too
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server");
        let library =
            server.join("../../target/login-provider/node_modules/oidc-provider/lib/index.js");
        assert!(library.exists(), "the OpenID provider is missing: run cargo xtask test once");
        let mut child = Command::new("node")
            .arg(server.join("tests/login/provider/provider.js"))
            .env("OIDC_PROVIDER", library.canonicalize().expect("a file"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts; apt-get install nodejs, or cargo xtask test");
        let mut issuer = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        while !issuer.starts_with("http") {
            issuer.clear();
            assert!(lines.read_line(&mut issuer).expect("text") > 0, "the provider ended");
        }
        // what it says later must go somewhere
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { issuer: issuer.trim().to_owned(), child }
    }

    pub(crate) fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer)
    }

    /// Makes a server known that is called back there.
    pub(crate) fn register(&self, back: &str) -> Client {
        let request = json!({"redirect_uris": [back], "client_name": "test"});
        let client = self.send("POST", "/reg", &request);
        let text = |name: &str| client[name].as_str().expect("text").to_owned();
        Client { id: text("client_id"), secret: text("client_secret") }
    }

    /// Says who somebody is from now on.
    pub(crate) fn person(&self, name: &str, claims: &Value) {
        self.send("PUT", &format!("/people/{name}"), claims);
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.issuer))
            .header("content-type", "application/json")
            .body(body.to_string())
            .expect("a request");
        let mut response = ureq::run(request).expect("the provider answers");
        let text = response.body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // it may have ended by itself
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
