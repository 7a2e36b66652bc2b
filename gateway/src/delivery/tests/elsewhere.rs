//! What senders are told of users who are online on other nodes, and that it changes nothing else.

use super::replay::Instance;
use super::*;
use crate::delivery::{Effect, Elsewhere, Receipt, StateMachine, encode};
use crate::domain::{Fingerprint, IdempotencyKey, TopicName};
use crate::log::entry;
use crate::registry::{SessionHandle, SessionId, StartAt};

/// Other nodes with these users.
#[derive(Debug)]
struct Nodes(&'static [&'static str]);

impl Elsewhere for Nodes {
    fn online(&self, users: &mut dyn Iterator<Item = &str>) -> u32 {
        u32::try_from(users.filter(|user| self.0.contains(user)).count()).unwrap()
    }

    fn users(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }
}

/// A node on which ann and bob are online, and what it applied.
fn instance(elsewhere: Option<Arc<dyn Elsewhere>>) -> Instance {
    let mut instance = Instance { machine: StateMachine::beside(elsewhere), ..Instance::default() };
    for (id, user) in [(1, "ann"), (2, "bob")] {
        let registry = &instance.state.registry;
        let session = Arc::new(SessionHandle::new(SessionId(id), 0));
        registry.attach(&registry.key(user), session, StartAt::Now, 0, 16);
    }
    apply(&mut instance, 1, entry::encode_settings(&options().settings));
    apply(
        &mut instance,
        2,
        entry::encode_subscribe("news", ["carol", "ann", "dave", "eve"].into_iter()).unwrap(),
    );
    instance
}

fn apply(instance: &mut Instance, number: u64, payload: bytes::Bytes) -> Effect {
    instance.apply(number, &(1_000_000, entry::decode(&payload).unwrap()))
}

fn told(instance: &mut Instance, number: u64, target: Target) -> Receipt {
    let key = IdempotencyKey { key: Fingerprint([9; 16]), body: Fingerprint([1; 16]) };
    let mut one = notification("nobody", "text".to_owned());
    (one.id, one.accepted_at_us) = (NotificationId::from_bytes([number as u8; 16]), 0);
    (one.target, one.idempotency) = (target, (number == 3).then_some(key));
    match apply(instance, number, encode(&one, None, MAX_BYTES).unwrap()) {
        Effect::Published(receipt) => receipt,
        effect => panic!("{effect:?}"),
    }
}

fn users(names: &[&str]) -> Target {
    Target::Users(names.iter().map(|name| UserId::parse(name).unwrap()).collect())
}

#[test]
fn whoever_is_online_anywhere_is_counted_once() {
    let mut instance = instance(Some(Arc::new(Nodes(&["carol", "bob", "dave"]))));
    let counts = |receipt: &Receipt| (receipt.online, receipt.online_here, receipt.recipients);
    let several = told(&mut instance, 3, users(&["eve", "carol", "bob", "ann", "frank"]));
    assert_eq!(counts(&several), (3, 2, 5), "bob is on both");
    let one = told(&mut instance, 4, users(&["dave"]));
    assert_eq!(counts(&one), (1, 0, 1));
    let topic = told(&mut instance, 5, Target::Topic(TopicName::parse("news").unwrap()));
    assert_eq!(counts(&topic), (3, 1, 4));
    let everybody = told(&mut instance, 6, Target::Everybody);
    assert_eq!(counts(&everybody), (5, 2, 0), "bob counts for each node");
}

#[test]
fn the_state_is_the_same_whoever_is_online_elsewhere() {
    let mut instances = [None, Some(Arc::new(Nodes(&["carol"])) as Arc<dyn Elsewhere>)].map(instance);
    let online = instances.each_mut().map(|instance| {
        let receipt = told(instance, 3, users(&["carol", "ann"]));
        told(instance, 4, Target::Topic(TopicName::parse("news").unwrap()));
        told(instance, 5, Target::Everybody);
        receipt.online
    });
    assert_eq!(online, [1, 2]);
    assert_eq!(instances[0].state.digest(), instances[1].state.digest());
}
