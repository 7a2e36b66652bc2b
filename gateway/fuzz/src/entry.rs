//! Entries of the log, and how they stand on disk.

use bytes::Bytes;
use gateway::domain::{Notification, Target, TopicName, UserId};
use gateway::log::disk::{decode_record, encode_record};
use gateway::log::entry::{
    self, AsOf, Entry, Membership, Names, Publish, Recipients, encode_acks, encode_epoch, encode_floor,
    encode_forget_user, encode_give_up, encode_holding, encode_publish, encode_settings, encode_subscribe,
    encode_tick, encode_unsubscribe, encode_withdraw,
};
use gateway::log::{LogEntry, MAX_ENTRY_BYTES};

/// What decodes as an entry is the same entry when it is encoded again.
pub fn entry(input: &[u8]) {
    let Ok(decoded) = entry::decode(&Bytes::copy_from_slice(input)) else { return };
    if input.len() > MAX_ENTRY_BYTES / 2 {
        // Encoders refuse what does not fit an entry.
        return;
    }
    match &decoded {
        Entry::Publish(publish) => check_publish(publish),
        Entry::Acks(acks) => {
            let acks = acks.iter().map(|ack| (ack.user(), ack.after, ack.until));
            reads_back(&decoded, &encode_acks(acks));
        }
        Entry::Withdraw(withdraw) => {
            reads_back(&decoded, &encode_withdraw(withdraw.number, withdraw.recipients.as_ref()).unwrap());
        }
        Entry::Subscribe(members) => {
            reads_back(&decoded, &encode_subscribe(members.topic(), members.users.iter()).unwrap());
        }
        Entry::Unsubscribe(members) => {
            reads_back(&decoded, &encode_unsubscribe(members.topic(), members.users.iter()).unwrap());
        }
        Entry::ForgetUser { user } => reads_back(&decoded, &encode_forget_user(Names::text(user))),
        Entry::Settings(settings) => reads_back(&decoded, &encode_settings(settings)),
        Entry::Tick => reads_back(&decoded, &encode_tick()),
        Entry::Epoch(bits) => reads_back(&decoded, &encode_epoch(*bits)),
        Entry::GiveUp { through } => reads_back(&decoded, &encode_give_up(*through)),
        Entry::Floor(floor) => reads_back(&decoded, &encode_floor(*floor)),
        Entry::Holding(holding) => {
            // Without a date it is of an older format, and encoded as of a date.
            let as_of = holding.as_of.unwrap_or(AsOf { number: 0, log_time_s: 0 });
            let encoded = encode_holding(as_of, &holding.settings, members(&holding.memberships));
            let mut read = Vec::new();
            for payload in &encoded {
                let Ok(Entry::Holding(again)) = entry::decode(payload) else { panic!("not what holds") };
                assert_eq!(again.settings, holding.settings);
                read.extend(again.memberships);
            }
            assert!(members(&read).eq(members(&holding.memberships)));
        }
    }
}

/// A value on disk belongs to one number only, and no bit of it can flip unnoticed.
pub fn record(input: &[u8]) {
    let Some((number, rest)) = input.split_first_chunk::<8>() else { return };
    let number = u64::from_le_bytes(*number);
    // As it may stand there after damage.
    if let Ok(LogEntry { number: read, timestamp_ms, payload }) =
        decode_record(number, Bytes::copy_from_slice(rest))
    {
        assert_eq!((read, &encode_record(number, timestamp_ms, &payload)[..]), (number, rest));
    }
    let Some((timestamp_ms, rest)) = rest.split_first_chunk::<8>() else { return };
    let Some((bit, payload)) = rest.split_first_chunk::<2>() else { return };
    let timestamp_ms = u64::from_le_bytes(*timestamp_ms);
    let value = encode_record(number, timestamp_ms, payload);
    let entry = LogEntry { number, timestamp_ms, payload: Bytes::copy_from_slice(payload) };
    assert_eq!(decode_record(number, value.clone()), Ok(entry));
    assert!(decode_record(number ^ 1, value.clone()).is_err(), "in the wrong place");
    assert!(decode_record(number, value.slice(..value.len() - 1)).is_err(), "cut short");
    let bit = usize::from(u16::from_le_bytes(*bit)) % (8 * value.len());
    let mut flipped = value.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    assert!(decode_record(number, flipped.into()).is_err(), "bit {bit} flipped");
}

fn reads_back(decoded: &Entry, encoded: &Bytes) {
    assert_eq!(entry::decode(encoded).as_ref(), Ok(decoded));
}

/// Each pair of topic and user.
fn members(memberships: &[Membership]) -> impl Iterator<Item = (&str, &str)> {
    memberships.iter().flat_map(|topic| topic.users.iter().map(|user| (topic.topic(), user)))
}

fn check_publish(publish: &Publish) {
    let users = |names: &Names| names.iter().map(UserId::parse).collect::<Result<Vec<_>, _>>().ok();
    let target = match &publish.recipients {
        Recipients::Users(names) => users(names).map(Target::Users),
        Recipients::Topic(name) => TopicName::parse(Names::text(name)).ok().map(Target::Topic),
        Recipients::Everybody => Some(Target::Everybody),
    };
    // Names that nobody could have sent are still text.
    let Some(target) = target else { return };
    let notification = Notification {
        id: publish.id,
        accepted_at_us: publish.accepted_at_us,
        target,
        // They stand in the body already.
        from: None,
        title: None,
        body: None,
        data: None,
        ttl_seconds: publish.ttl_seconds,
        collapse_key: publish.collapse_key,
        priority: publish.priority,
        idempotency: publish.idempotency,
    };
    let encoded = encode_publish(&notification, publish.trace, &publish.body).unwrap();
    assert_eq!(entry::decode(&encoded), Ok(Entry::Publish(publish.clone())));
}
