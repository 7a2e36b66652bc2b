//! What still holds, said again so that the part of the log that said it first may go.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::names::{self, Names};
use super::{
    DATED_HOLDING_VERSION, DecodeError, KIND_HOLDING, Membership, Settings, TOO_SHORT, decode_membership,
    take_u32, take_u64,
};
use crate::log::MAX_ENTRY_BYTES;

const AS_OF_BYTES: usize = 8 + 4;

/// Settings and memberships that hold already: unlike the entries that made them, it changes nothing for whoever knows
/// them, and the limits do not apply.
///
/// One entry says both, because an entry in between would depend on what was said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// As of when; `None` in logs of before there were several nodes, where nothing could come in between.
    pub as_of: Option<AsOf>,
    /// The settings in force.
    pub settings: Settings,
    /// Who is subscribed to what.
    pub memberships: Vec<Membership>,
}

/// When what holds was gathered: what changed since then is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The last entry that was applied.
    pub number: u64,
    /// Log time then, in whole seconds.
    pub log_time_s: u32,
}

/// Encodes what holds, in as few entries as it fits.
#[must_use]
pub fn encode_holding<'a>(
    as_of: AsOf,
    settings: &Settings,
    memberships: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<Bytes> {
    let settings = serde_json::to_vec(settings).expect("numbers serialize");
    let fixed = 2 + AS_OF_BYTES + 4 + settings.len();
    let encode = |topics: &[(&str, Vec<&str>)], bytes: usize| {
        let mut out = BytesMut::with_capacity(bytes);
        out.put_slice(&[DATED_HOLDING_VERSION, KIND_HOLDING]);
        out.put_u64_le(as_of.number);
        out.put_u32_le(as_of.log_time_s);
        out.put_u32_le(u32::try_from(settings.len()).expect("a few hundred bytes"));
        out.put_slice(&settings);
        for (topic, users) in topics {
            names::put_name(&mut out, topic);
            Names::put_all(&mut out, users.iter().copied());
        }
        out.freeze()
    };
    let (mut entries, mut topics, mut bytes) = (Vec::new(), Vec::<(&str, Vec<&str>)>::new(), fixed);
    for (topic, user) in memberships {
        let new_topic = Names::encoded_len_of(std::iter::empty()) + 2 + topic.len();
        if bytes + new_topic + 2 + user.len() > MAX_ENTRY_BYTES {
            entries.push(encode(&topics, bytes));
            topics.clear();
            bytes = fixed;
        }
        if topics.last().is_none_or(|(last, _)| *last != topic) {
            topics.push((topic, Vec::new()));
            bytes += new_topic;
        }
        bytes += 2 + user.len();
        if let Some((_, users)) = topics.last_mut() {
            users.push(user);
        }
    }
    entries.push(encode(&topics, bytes));
    entries
}

pub(super) fn decode_holding(version: u8, rest: &mut Bytes) -> Result<Holding, DecodeError> {
    let as_of = if version < DATED_HOLDING_VERSION {
        None
    } else {
        Some(AsOf { number: take_u64(rest)?, log_time_s: take_u32(rest)? })
    };
    let bytes = take_u32(rest)? as usize;
    if rest.remaining() < bytes {
        return Err(TOO_SHORT);
    }
    let settings = serde_json::from_slice(&rest.split_to(bytes));
    let settings = settings.map_err(|_| DecodeError::Damaged("settings are not as written"))?;
    let mut memberships = Vec::new();
    while !rest.is_empty() {
        memberships.push(decode_membership(rest)?);
    }
    Ok(Holding { as_of, settings, memberships })
}
