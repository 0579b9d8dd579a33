//! What people type at the command line to shape its output, and for how long.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../crates/cli/src/duration.rs"]
mod duration;
#[path = "../../crates/cli/src/path.rs"]
mod path;
#[path = "../../crates/cli/src/template.rs"]
mod template;

use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// What these files take from the rest of the program: none of it reads what was typed.
mod error {
    pub type Result<T> = std::result::Result<T, Error>;

    #[derive(Debug)]
    pub struct Error;

    impl Error {
        pub fn usage(_: impl Into<String>) -> Self {
            Self
        }

        #[must_use]
        pub fn hint(self, _: impl Into<String>) -> Self {
            self
        }
    }
}

mod column {
    pub fn plain(value: &serde_json::Value) -> String {
        value.to_string()
    }
}

mod output {
    pub fn unescaped(text: &str) -> String {
        text.replace("\\n", "\n").replace("\\t", "\t")
    }
}

fuzz_target!(|text: &str| {
    let item = json!({
        "id": "a",
        "a": {"a": [[0, 1.5, null, true], {"a": {"b": "c"}}], "b": [{"a": "b", "id": "x"}, {"a": 7}]},
        "b": ["", "a", "a.b", "[0]"],
    });
    let _ = duration::parse(text);
    if let Ok(path) = path::Path::parse(text) {
        path.find(&item);
    }
    if let Ok(template) = template::Template::parse(text) {
        template.render(&item);
    }
});
