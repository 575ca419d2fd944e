//! The schema in docs/schema, as Python's `jsonschema` understands it.

use super::{LineChild, peer};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One definition of the schema.
pub struct Schema(&'static str);

impl Schema {
    pub fn of(definition: &'static str) -> Self {
        Self(definition)
    }

    /// What is wrong with `value`.
    pub fn errors(&self, value: &Value) -> Vec<String> {
        // One process answers all tests of a program; it ends with the program, at the end of its input.
        static CHECKER: Mutex<Option<LineChild>> = Mutex::new(None);
        let mut checker = CHECKER.lock().unwrap_or_else(PoisonError::into_inner);
        let checker = checker.get_or_insert_with(|| {
            let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/v1.json");
            LineChild::spawn(
                Command::new(peer::python())
                    .arg(peer::common().join("schema.py"))
                    .arg(schema),
            )
        });
        checker.send(&json!([self.0, value]).to_string());
        serde_json::from_str(&checker.line()).expect("a list")
    }

    /// Parses `text` and asserts that it conforms to the schema.
    pub fn check(&self, text: &str) -> Value {
        let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let errors = self.errors(&value);
        assert!(errors.is_empty(), "{errors:#?} in {text}");
        value
    }
}
