//! What is written reads back; what is damaged or of a later version is named.

use proptest::prelude::*;

use super::*;
use crate::domain::{
    Fingerprint, IdempotencyKey, Notification, NotificationId, Priority, Target, TopicName, TraceContext,
    UserId,
};

fn notification(target: Target) -> Notification {
    Notification {
        id: NotificationId::from_bytes([7; 16]),
        accepted_at_us: 42,
        target,
        from: None,
        title: None,
        body: None,
        data: None,
        ttl_seconds: 60,
        collapse_key: None,
        priority: Priority::High,
        idempotency: None,
    }
}

fn users(names: &[String]) -> Target {
    Target::Users(names.iter().map(|name| UserId::parse(name).unwrap()).collect())
}

proptest! {
    #[test]
    fn a_publish_entry_reads_back_as_written(
        names in prop::collection::vec("[a-zäß日]{1,20}", 1..20),
        collapse in prop::option::of(any::<[u8; 16]>()),
        idempotency in prop::option::of(any::<[[u8; 16]; 2]>()),
        trace in prop::option::of(any::<[u8; TraceContext::BYTES]>()),
        body: Vec<u8>,
    ) {
        let trace = trace.and_then(TraceContext::from_bytes);
        let trace = trace.map(|context| PublishTrace { context, notifications: names.len() as u32 });
        let written = Notification {
            collapse_key: collapse.map(Fingerprint),
            idempotency: idempotency
                .map(|[key, body]| IdempotencyKey { key: Fingerprint(key), body: Fingerprint(body) }),
            ..notification(users(&names))
        };
        let payload = encode_publish(&written, trace, &body).unwrap();
        let Ok(Entry::Publish(publish)) = decode(&payload) else { panic!("not a publish entry") };
        let Recipients::Users(recipients) = &publish.recipients else { panic!("not to users") };
        prop_assert!(recipients.iter().eq(names.iter()));
        prop_assert_eq!(recipients.count() as usize, names.len());
        prop_assert_eq!(&publish.body[..], &body[..]);
        prop_assert_eq!((publish.id, publish.accepted_at_us), (NotificationId::from_bytes([7; 16]), 42));
        prop_assert_eq!((publish.ttl_seconds, publish.priority), (60, Priority::High));
        prop_assert_eq!(publish.trace, trace);
        prop_assert_eq!((publish.collapse_key, publish.idempotency), (written.collapse_key, written.idempotency));
    }

    #[test]
    fn damaged_bytes_never_panic(kind in 0..12_u8, bytes: Vec<u8>) {
        let _ = decode(&[&[FORMAT_VERSION, kind], &bytes[..]].concat().into());
        let _ = decode(&bytes.into());
    }

    #[test]
    fn a_truncated_publish_entry_never_panics_nor_invents_a_name(cut in 0_usize..60) {
        let names = ["bob".to_owned(), "alice".to_owned()];
        let payload = encode_publish(&notification(users(&names)), None, b"{}").unwrap();
        if let Ok(Entry::Publish(publish)) = decode(&payload.slice(..cut.min(payload.len()))) {
            let Recipients::Users(recipients) = publish.recipients else { panic!("not to users") };
            prop_assert!(recipients.iter().eq(names.iter()));
        }
    }

    #[test]
    fn acks_read_back_as_written(acks in prop::collection::vec(("[a-zä]{1,20}", any::<u64>(), any::<u64>()), 0..20)) {
        let payload = encode_acks(acks.iter().map(|(user, after, until)| (user.as_str(), *after, *until)));
        prop_assert_eq!(payload.len(), 2 + acks.iter().map(|(user, ..)| ack_bytes(user)).sum::<usize>());
        let Ok(Entry::Acks(read)) = decode(&payload) else { panic!("not acks") };
        let read: Vec<_> = read.iter().map(|ack| (ack.user().to_owned(), ack.after, ack.until)).collect();
        prop_assert_eq!(read, acks);
    }
}

#[test]
fn a_topic_and_everybody_read_back_as_written() {
    let news = TopicName::parse("news").unwrap();
    for (target, topic) in [(Target::Topic(news), Some("news")), (Target::Everybody, None)] {
        let payload = encode_publish(&notification(target), None, b"{}").unwrap();
        let Ok(Entry::Publish(publish)) = decode(&payload) else { panic!("not a publish entry") };
        assert_eq!(publish.recipients.topic(), topic);
        assert_eq!(publish.recipients == Recipients::Everybody, topic.is_none());
        assert_eq!(&publish.body[..], b"{}");
    }
}

fn settings() -> Settings {
    Settings {
        mailbox_max_count: 5,
        mailbox_max_bytes: 1 << 40,
        reject_on_overflow: true,
        history: 6,
        max_ttl_seconds: 7,
        idempotency_window_seconds: 8,
        idempotency_max_keys: 9,
        outcome_retention_seconds: 10,
        outcome_max_recipients: 11,
        topic_max_subscribers: 12,
        user_max_topics: 13,
    }
}

#[test]
fn the_small_entries_read_back_as_written() {
    assert_eq!(decode(&encode_settings(&settings())), Ok(Entry::Settings(settings())));
    assert_eq!(decode(&encode_tick()), Ok(Entry::Tick));
    assert_eq!(decode(&encode_give_up(1 << 40)), Ok(Entry::GiveUp { through: 1 << 40 }));
    let floor = Floor { through: 1 << 40, loss: 3 };
    assert_eq!(decode(&encode_floor(floor)), Ok(Entry::Floor(floor)));
    assert_eq!(decode(&encode_forget_user("bob")), Ok(Entry::ForgetUser { user: "bob".into() }));
}

#[test]
fn memberships_and_withdrawals_read_back_as_written() {
    let payload = encode_subscribe("news", ["bob", "al"].into_iter()).unwrap();
    let Ok(Entry::Subscribe(membership)) = decode(&payload) else { panic!("not a subscription") };
    assert_eq!(membership.topic(), "news");
    assert!(membership.users.iter().eq(["bob", "al"]));
    let payload = encode_unsubscribe("news", ["bob"].into_iter()).unwrap();
    let Ok(Entry::Unsubscribe(left)) = decode(&payload) else { panic!("not an unsubscription") };
    assert!(left.users.iter().eq(["bob"]));
    for recipients in [None, Some(membership.users)] {
        let payload = encode_withdraw(9, recipients.as_ref()).unwrap();
        assert_eq!(decode(&payload), Ok(Entry::Withdraw(Withdraw { number: 9, recipients })));
    }
}

const AS_OF: AsOf = AsOf { number: 77, log_time_s: 1_000 };

#[test]
fn what_holds_reads_back_as_written_however_many_entries_it_takes() {
    let users: Vec<String> = (0..5_000).map(|index| format!("{index:0200}")).collect();
    for (count, expected) in [(0, 1), (3, 1), (5_000, 2)] {
        let members = users.iter().take(count).map(|user| ("news", user.as_str()));
        let entries = encode_holding(AS_OF, &settings(), members.chain([("sport", "bob")]));
        assert_eq!(entries.len(), expected);
        let mut read = Vec::new();
        for payload in &entries {
            assert!(payload.len() <= MAX_ENTRY_BYTES);
            let Ok(Entry::Holding(holding)) = decode(payload) else { panic!("not what holds") };
            assert_eq!((holding.as_of, &holding.settings), (Some(AS_OF), &settings()));
            for membership in &holding.memberships {
                let users =
                    membership.users.iter().map(|user| (membership.topic().to_owned(), user.to_owned()));
                read.extend(users);
            }
        }
        assert_eq!(read.len(), count + 1);
        assert_eq!(read.pop(), Some(("sport".to_owned(), "bob".to_owned())));
        assert!(read.iter().zip(&users).all(|((topic, read), user)| topic == "news" && read == user));
    }
}

#[test]
fn what_a_later_version_wrote_is_named_and_not_skipped() {
    assert_eq!(decode(&Bytes::from_static(&[4, 1, 0])), Err(DecodeError::UnknownVersion(4)));
    assert_eq!(decode(&Bytes::from_static(&[1, 99])), Err(DecodeError::UnknownKind(99)));
    assert!(matches!(decode(&Bytes::from_static(&[1])), Err(DecodeError::Damaged(_))));
    let longer = [&encode_tick()[..], b"x"].concat();
    assert!(matches!(decode(&longer.into()), Err(DecodeError::Damaged(_))));
}

#[test]
fn an_entry_that_would_not_fit_is_refused_before_the_log_sees_it() {
    let names: Vec<String> = (0..3_100).map(|index| format!("{index:0256}")).collect();
    assert!(matches!(encode_publish(&notification(users(&names)), None, b"{}"), Err(EntryTooLarge(_))));
    assert!(encode_subscribe("news", names.iter().map(String::as_str)).is_err());
}
