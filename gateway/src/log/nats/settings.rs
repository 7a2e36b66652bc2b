//! What the stream has to be, and what is wrong with one that somebody made otherwise.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};
use serde_json::{Map, Value};

use super::connection::{Connection, HEADER_BYTES};
use super::stream::{checkpoints, epochs};
use crate::log::MAX_ENTRY_BYTES;

/// How long the servers remember a message's id: longer than an append is tried again.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// A stream's settings as servers name them: those that are looked at, and those that change nothing of what is kept.
const KNOWN_SETTINGS: &[&str] = &[
    // Looked at by `StreamSettings::difference`.
    "allow_rollup_hdrs",
    "deny_delete",
    "deny_purge",
    "discard",
    "duplicate_window",
    "max_age",
    "max_bytes",
    "max_consumers",
    "max_msg_size",
    "max_msgs",
    "max_msgs_per_subject",
    "mirror",
    "no_ack",
    "num_replicas",
    "persist_mode",
    "republish",
    "retention",
    "sealed",
    "sources",
    "storage",
    "subjects",
    // How it is called, found, packed and read; what is kept is the same.
    "allow_atomic",
    "allow_batched",
    "allow_direct",
    "compression",
    "description",
    "first_seq",
    "metadata",
    "mirror_direct",
    "name",
    "placement",
    "template_owner",
];

/// What the stream has to be.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Its name; also the first word of its subjects.
    pub name: String,
    /// Servers that keep each entry.
    pub replicas: usize,
    /// When it drops an entry by itself, if it is made here.
    pub max_age: Duration,
    /// What one that is there already has to keep at least; `None`: exactly what it would be made with.
    pub least_age: Option<Duration>,
    /// The most it holds.
    pub max_bytes: u64,
}

impl StreamSettings {
    /// Where entries go.
    pub(super) fn entries(&self) -> String {
        format!("{}.entries", self.name)
    }

    pub(super) fn config(&self) -> Config {
        Config {
            name: self.name.clone(),
            description: Some("the log of a notification gateway".to_owned()),
            subjects: vec![checkpoints(&self.name), self.entries(), epochs(&self.name)],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_age: self.max_age,
            max_bytes: i64::try_from(self.max_bytes).unwrap_or(i64::MAX),
            max_messages: -1,
            // The servers become slow with it, and mailboxes have their own bounds.
            max_messages_per_subject: -1,
            max_consumers: -1,
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATE_WINDOW,
            // A hole would be a position that nobody can explain.
            deny_delete: true,
            ..Config::default()
        }
    }

    /// Why a stream that was found cannot be used: the first thing that is not as it has to be.
    pub(super) fn difference(&self, found: &Config) -> Option<String> {
        let wanted = self.config();
        let says = |what: &str, found: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug| {
            Some(format!("{what} is {found:?} and must be {wanted:?}"))
        };
        let mut subjects = found.subjects.clone();
        subjects.sort();
        if subjects != wanted.subjects {
            return says("its list of subjects", &found.subjects, &wanted.subjects);
        }
        if found.storage != wanted.storage {
            return says("its storage", &found.storage, &wanted.storage);
        }
        if found.retention != wanted.retention {
            return says("its retention", &found.retention, &wanted.retention);
        }
        if found.discard != wanted.discard {
            return says("its discard policy", &found.discard, &wanted.discard);
        }
        // To JetStream, none is no limit.
        let is_old_enough = |least: Duration| found.max_age.is_zero() || found.max_age >= least;
        if let Some(least) = self.least_age.filter(|least| !is_old_enough(*least)) {
            return says("its maximum age (nats.max_age)", &found.max_age, &format!("{least:?} or more"));
        }
        if self.least_age.is_none() && found.max_age != wanted.max_age {
            return says("its maximum age (nats.max_age)", &found.max_age, &wanted.max_age);
        }
        let numbers = [
            ("number of replicas (nats.replicas)", found.num_replicas as i64, wanted.num_replicas as i64),
            ("maximum size (nats.max_bytes)", found.max_bytes, wanted.max_bytes),
            ("maximum number of messages", found.max_messages, wanted.max_messages),
            (
                "maximum number of messages a subject",
                found.max_messages_per_subject,
                wanted.max_messages_per_subject,
            ),
        ];
        for (what, found, wanted) in numbers {
            if found != wanted {
                return says(&format!("its {what}"), &found, &wanted);
            }
        }
        let oddities = [
            (found.sealed, "it is sealed"),
            (
                (1..MAX_ENTRY_BYTES + HEADER_BYTES)
                    .contains(&usize::try_from(found.max_message_size).unwrap_or(0)),
                "its maximum size of a message is below 1 MiB",
            ),
            (found.max_consumers > 0, "it allows a certain number of consumers only"),
            (found.republish.is_some(), "it republishes what it gets"),
            (found.no_ack, "it does not acknowledge"),
            (found.persist_mode == Some(PersistenceMode::Async), "it acknowledges what it has not written"),
            (found.allow_rollup, "it allows rollups"),
            (found.deny_purge, "it denies to be purged of what is over"),
            (!found.deny_delete, "it allows to delete single messages"),
            (found.mirror.is_some(), "it mirrors another one"),
            (found.sources.as_ref().is_some_and(|sources| !sources.is_empty()), "it has sources"),
            (
                found.duplicate_window < DUPLICATE_WINDOW,
                "its window for duplicates is shorter than two minutes",
            ),
        ];
        oddities.into_iter().find(|(is_so, _)| *is_so).map(|(_, says)| says.to_owned())
    }
}

/// A setting of the stream that is neither looked at nor known to do no harm: servers to come have more of them.
pub(super) async fn unknown_setting(connection: &Connection, name: &str) -> Result<Option<String>, String> {
    let asked = connection.jetstream().request(format!("STREAM.INFO.{name}"), &()).await;
    let info: Value = asked.map_err(|error| error.to_string())?;
    let config = info["config"].as_object().ok_or_else(|| info["error"]["description"].to_string())?;
    Ok(unknown_in(config))
}

fn unknown_in(config: &Map<String, Value>) -> Option<String> {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    };
    let unknown = config.iter().find(|(key, value)| !KNOWN_SETTINGS.contains(&key.as_str()) && is_set(value));
    unknown.map(|(key, _)| key.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setting_of_servers_to_come_is_found_unless_it_is_not_set_or_does_no_harm() {
        for (config, expected) in [
            (json!({"name": "test", "max_msgs": -1, "metadata": {"a": "b"}, "compression": "s2"}), None),
            (
                json!({"allow_msg_ttl": false, "consumer_limits": {}, "x": null, "y": 0, "z": "", "a": []}),
                None,
            ),
            (json!({"name": "test", "allow_msg_ttl": true}), Some("allow_msg_ttl")),
            (json!({"subject_transform": {"src": ">", "dest": "x"}}), Some("subject_transform")),
            (json!({"subject_delete_marker_ttl": 5}), Some("subject_delete_marker_ttl")),
        ] {
            let found = unknown_in(config.as_object().unwrap());
            assert_eq!(found.as_deref(), expected, "{config}");
        }
    }
}
