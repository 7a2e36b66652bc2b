//! Small logs whose truncation once changed what they mean, or never happened.

use bytes::Bytes;

use super::replay::Instance;
use super::script::{Script, decode, script_settings};
use crate::delivery::Effect;
use crate::delivery::retention::{REFRESH_SECONDS, droppable, renewals};
use crate::delivery::state::seconds;
use crate::domain::{GapReason, Outcome, Priority};
use crate::log::entry::{self, Entry, Floor, Settings};
use crate::registry::{Item, PullLimits, StartAt};

/// A log, and the node that wrote it.
#[derive(Default)]
struct Node {
    log: Vec<(u64, Entry)>,
    instance: Instance,
    clock_s: u64,
    first: u64,
}

impl Node {
    fn new(settings: &Settings) -> Self {
        let mut node = Self { clock_s: 1_000, first: 1, ..Self::default() };
        node.append(&entry::encode_settings(settings));
        node
    }

    fn append(&mut self, payload: &Bytes) -> Effect {
        self.log.push((self.clock_s * 1_000, decode(payload)));
        self.instance.apply(self.head(), &self.log[self.log.len() - 1])
    }

    fn publish(&mut self, script: Script) -> Effect {
        let payload = script.encode(self.head() + 1, self.clock_s * 1_000);
        self.append(&payload)
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// Says again what holds.
    fn refresh(&mut self) {
        if u64::from(seconds(self.instance.state.log_time_ms())) + 60 < self.clock_s {
            // What is gathered is as old as the log's time, and must not be too old.
            self.append(&entry::encode_tick());
        }
        for payload in renewals(&self.instance.state, self.head()) {
            self.append(&payload);
        }
    }

    /// Drops what may go and returns how far that is.
    fn trim(&mut self) -> u64 {
        let through = droppable(&self.instance.state);
        if through >= self.first {
            let loss = self.instance.state.registry.loss_up_to(through);
            self.append(&entry::encode_floor(Floor { through, loss }));
            self.instance.state.horizon().dropped(through);
            self.first = through + 1;
        }
        through
    }

    /// Another node that starts from what is left, with the same state.
    fn restarted(&self) -> Instance {
        let mut survivor = Instance::default();
        for number in self.first..=self.head() {
            survivor.apply(number, &self.log[number as usize - 1]);
        }
        assert_eq!(survivor.state.digest(), self.instance.state.digest(), "from {}", self.first);
        survivor
    }
}

fn read_all(instance: &Instance, user: &str, after: u64, head: u64) -> Vec<Item> {
    let registry = &instance.state.registry;
    let key = registry.key(user);
    let (mut cursor, _) = registry.cursor(&key, StartAt::After(after), head);
    let mut items = Vec::new();
    registry.pull(&key, &mut cursor, PullLimits { frames: usize::MAX, bytes: u64::MAX }, &mut items);
    items
}

#[test]
fn a_membership_is_not_lost_with_the_settings_it_was_made_under() {
    let mut node = Node::new(&script_settings());
    node.publish(Script::to("bob"));
    node.append(&entry::encode_subscribe("news", ["alice"].into_iter()).unwrap());
    node.clock_s += 10_000;
    // Settings that change are the first thing that holds, the membership rests on what was before.
    node.append(&entry::encode_settings(&Settings { history: 1, ..script_settings() }));
    node.clock_s += 10_000;
    node.append(&entry::encode_tick());
    node.trim();
    assert!(node.restarted().state.topics().is_member("news", "alice"));
}

#[test]
fn a_membership_made_under_wider_limits_outlives_the_entry_that_made_it() {
    let mut node = Node::new(&script_settings());
    node.append(&entry::encode_subscribe("news", ["alice", "bob"].into_iter()).unwrap());
    node.append(&entry::encode_subscribe("sport", ["alice", "bob"].into_iter()).unwrap());
    let narrow = Settings { topic_max_subscribers: 1, user_max_topics: 1, ..script_settings() };
    node.append(&entry::encode_settings(&narrow));
    node.clock_s += 10_000;
    node.refresh();
    assert_eq!(node.trim(), 5, "all but what was said again");
    assert_eq!(node.restarted().state.topics().counts(), (2, 4));
}

#[test]
fn who_was_refused_does_not_get_in_by_way_of_a_restart() {
    let mut node = Node::new(&Settings { topic_max_subscribers: 2, ..script_settings() });
    node.append(&entry::encode_subscribe("news", ["alice", "bob"].into_iter()).unwrap());
    node.append(&entry::encode_subscribe("news", ["carol", "alice", "bob"].into_iter()).unwrap());
    node.clock_s += 10_000;
    node.append(&entry::encode_settings(&script_settings()));
    node.trim();
    assert!(!node.restarted().state.topics().is_member("news", "carol"));
    node.refresh();
    assert!(node.trim() > 0);
    assert!(!node.restarted().state.topics().is_member("news", "carol"));
}

#[test]
fn what_was_refused_does_not_come_back_to_push_out_what_matters() {
    let settings = Settings { mailbox_max_count: 1, reject_on_overflow: true, ..script_settings() };
    let mut node = Node::new(&settings);
    node.publish(Script { ttl_seconds: 50, ..Script::to("bob") });
    node.publish(Script { ttl_seconds: 60, ..Script::to("bob") });
    let withdraw = node.log[1].1.clone();
    let Entry::Publish(first) = withdraw else { panic!("not a notification") };
    let crate::log::entry::Recipients::Users(names) = first.recipients else { panic!("not to users") };
    node.append(&entry::encode_withdraw(2, Some(&names)).unwrap());
    node.publish(Script { ttl_seconds: 1_000, ..Script::to("bob") });
    node.clock_s += 500;
    // Only the last one matters. Whatever limits what may go, none of those before goes alone.
    for limit in 0..=5 {
        let through =
            node.instance.state.horizon().droppable(u32::try_from(node.clock_s).unwrap(), limit, true);
        assert_ne!(through, 2, "the one that was refused would stay without its reason");
    }
}

/// A restart that begins behind the first of three notifications to bob, which has expired long ago.
fn what_bob_holds_without_the_first(priorities: [Priority; 3], max_count: u32) -> Vec<Item> {
    let mut node = Node::new(&Settings { mailbox_max_count: max_count, ..script_settings() });
    for (priority, ttl_seconds) in priorities.into_iter().zip([200, 5_000, 5_000]) {
        node.publish(Script { ttl_seconds, priority, ..Script::to("bob") });
        node.refresh();
        node.clock_s += 70;
    }
    node.clock_s += 500;
    node.append(&entry::encode_tick());
    node.trim();
    let survivor = node.restarted();
    let start = survivor.state.registry.cursor(&survivor.state.registry.key("bob"), StartAt::Start, 0).0;
    read_all(&survivor, "bob", start.number, node.head())
}

#[test]
fn what_was_dropped_because_of_what_mattered_more_stays_dropped() {
    let held = what_bob_holds_without_the_first([Priority::High, Priority::Low, Priority::Normal], 2);
    assert!(matches!(held[..], [Item::Notification { number: 6, .. }]), "4 was evicted: {held:?}");
    let mut node = Node::new(&Settings { mailbox_max_count: 1, ..script_settings() });
    node.publish(Script { ttl_seconds: 200, priority: Priority::High, ..Script::to("bob") });
    node.refresh();
    node.clock_s += 70;
    node.publish(Script { ttl_seconds: 5_000, priority: Priority::Low, ..Script::to("bob") });
    node.clock_s += 70;
    node.append(&entry::encode_tick());
    node.clock_s += 500;
    node.refresh();
    node.trim();
    assert!(node.restarted().state.registry.describe().is_empty(), "it never waited");
}

#[test]
fn a_client_is_told_of_what_was_dropped_although_its_user_got_something_since() {
    let mut node = Node::new(&script_settings());
    node.publish(Script { ttl_seconds: 10, ..Script::to("bob") });
    node.clock_s += 5_000;
    node.append(&entry::encode_settings(&script_settings()));
    node.publish(Script { ttl_seconds: 5_000, ..Script::to("bob") });
    assert_eq!(node.trim(), 2);
    let gap = Item::Gap { after: 0, until: 2, count: None, reason: GapReason::Expired };
    let there = Item::Notification { number: 4, prev: 2 };
    for instance in [&node.instance, &node.restarted()] {
        assert_eq!(read_all(instance, "bob", 0, 5), [gap, there]);
        assert_eq!(read_all(instance, "bob", 2, 5), [there]);
        let registry = &instance.state.registry;
        let start = registry.cursor(&registry.key("bob"), StartAt::Start, 5).0;
        assert_eq!(read_all(instance, "bob", start.number, 5), [there], "the start is behind what is gone");
    }
}

#[test]
fn an_outcome_is_remembered_from_when_its_notification_was_due_however_late_the_log_noticed() {
    let settings = Settings { outcome_retention_seconds: 100, ..script_settings() };
    let mut node = Node::new(&settings);
    let Effect::Published(receipt) = node.publish(Script { ttl_seconds: 10, ..Script::to("bob") }) else {
        panic!("not published")
    };
    node.clock_s += 60;
    node.append(&entry::encode_tick());
    let now_s = u32::try_from(node.clock_s).unwrap();
    let report = node.instance.state.outcomes().report(receipt.id, &settings, now_s).unwrap();
    assert_eq!(report.states, [Outcome::Expired]);
    node.clock_s += 55;
    node.append(&entry::encode_settings(&settings));
    assert!(node.instance.state.outcomes().report(receipt.id, &settings, now_s + 55).is_err());
    assert!(node.trim() >= 2);
    node.restarted();
}

#[test]
fn a_longer_retention_does_not_bring_back_what_may_have_been_dropped() {
    let mut node = Node::new(&Settings { outcome_retention_seconds: 10, ..script_settings() });
    node.publish(Script { ttl_seconds: 10, ..Script::to("bob") });
    node.clock_s += 15;
    node.append(&entry::encode_settings(&Settings { outcome_retention_seconds: 9_000, ..script_settings() }));
    node.clock_s += 100;
    node.append(&entry::encode_tick());
    assert_eq!(node.trim(), 2);
    node.restarted();
}

#[test]
fn a_key_is_free_after_its_own_window_whatever_came_before_it() {
    let mut node = Node::new(&Settings { idempotency_window_seconds: 1_000, ..script_settings() });
    node.publish(Script { key: Some(0), ..Script::to("bob") });
    node.append(&entry::encode_settings(&Settings { idempotency_window_seconds: 10, ..script_settings() }));
    assert!(matches!(node.publish(Script { key: Some(1), ..Script::to("bob") }), Effect::Published(_)));
    assert!(matches!(node.publish(Script { key: Some(1), ..Script::to("bob") }), Effect::Repeated(_)));
    node.clock_s += 10;
    assert!(matches!(node.publish(Script { key: Some(1), ..Script::to("bob") }), Effect::Published(_)));
    assert!(matches!(node.publish(Script { key: Some(1), ..Script::to("bob") }), Effect::Repeated(_)));
    assert!(matches!(node.publish(Script { key: Some(0), ..Script::to("bob") }), Effect::Repeated(_)));
    node.restarted();
}

#[test]
fn a_log_with_memberships_and_steady_traffic_is_truncated_day_after_day() {
    let settings = Settings { max_ttl_seconds: 20_000, ..script_settings() };
    let mut node = Node::new(&settings);
    node.append(&entry::encode_subscribe("news", ["alice", "bob"].into_iter()).unwrap());
    let (mut refreshed_s, mut kept) = (node.clock_s, Vec::new());
    for round in 0..1_000_u64 {
        node.clock_s += 600;
        node.publish(Script { ttl_seconds: 7_200, ..Script::to_topic("news") });
        if round % 5 == 0 {
            let user = ["carol", "dave"][(round / 5 % 2) as usize];
            node.append(&entry::encode_unsubscribe("news", [user].into_iter()).unwrap());
            node.append(&entry::encode_subscribe("news", [user].into_iter()).unwrap());
        }
        if node.clock_s >= refreshed_s + u64::from(REFRESH_SECONDS) {
            node.refresh();
            refreshed_s = node.clock_s;
        }
        node.trim();
        kept.push(node.head() + 1 - node.first);
        if round % 100 == 99 {
            node.restarted();
        }
    }
    assert!(seconds(node.clock_s * 1_000) > 6 * 86_400);
    let most = kept.iter().max().unwrap();
    assert!(*most < 120, "{most} entries of {} were kept at once", node.head());
}

#[test]
fn a_membership_that_ends_while_what_holds_is_on_its_way_stays_ended_for_everybody() {
    let mut node = Node::new(&script_settings());
    for user in ["alice", "bob"] {
        node.append(&entry::encode_subscribe("news", [user].into_iter()).unwrap());
    }
    node.append(&entry::encode_subscribe("sport", ["carol"].into_iter()).unwrap());
    node.clock_s += 10_000;
    node.append(&entry::encode_tick());
    let gathered = renewals(&node.instance.state, node.head());
    // Another node is faster.
    node.append(&entry::encode_unsubscribe("news", ["bob"].into_iter()).unwrap());
    node.append(&entry::encode_forget_user("carol"));
    let changed = Settings { history: 1, ..script_settings() };
    node.append(&entry::encode_settings(&changed));
    gathered.iter().for_each(|payload| drop(node.append(payload)));
    let holds = |instance: &Instance| {
        let topics = instance.state.topics();
        assert!(topics.is_member("news", "alice"));
        assert!(!topics.is_member("news", "bob") && !topics.is_member("sport", "carol"));
        assert_eq!(instance.state.settings().unwrap().1, changed);
    };
    holds(&node.instance);
    // Wherever the log is cut, now and once it has been said again.
    node.trim();
    holds(&node.restarted());
    node.clock_s += 10_000;
    node.refresh();
    node.trim();
    assert!(node.first > 8, "it is cut behind all of that: {}", node.first);
    holds(&node.restarted());
}

#[test]
fn what_holds_and_was_on_its_way_for_too_long_says_nothing() {
    let mut node = Node::new(&script_settings());
    node.append(&entry::encode_subscribe("news", ["bob"].into_iter()).unwrap());
    let gathered = renewals(&node.instance.state, node.head());
    node.append(&entry::encode_unsubscribe("news", ["bob"].into_iter()).unwrap());
    node.clock_s += 61;
    node.append(&entry::encode_tick());
    gathered.iter().for_each(|payload| drop(node.append(payload)));
    assert!(!node.instance.state.topics().is_member("news", "bob"), "its end is forgotten by now");
    assert_eq!(node.instance.state.settings().unwrap().0, 1, "nor does anything rest on it");
}
