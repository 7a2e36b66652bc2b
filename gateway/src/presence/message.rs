//! What nodes say to each other, as bytes.
//!
//! Each message begins with its format, the node that says it and what kind it is; numbers are little-endian. A format or a kind
//! that this build does not know is no message to it: nodes of two builds live together while one replaces the other.

use std::fmt;

/// The format of every message.
const FORMAT: u8 = 1;

/// Users in one message: 256 KiB of them, a quarter of what servers take.
pub(super) const MAX_USERS_PER_MESSAGE: usize = 32 * 1024;

/// A node's name: random, and new at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NodeId(pub(super) u64);

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// What is wanted of every other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The number of a user's sessions.
    Sessions,
    /// That they end, and their number.
    Disconnect,
}

/// A message. Users are hashes of their names (see `others.rs`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// It lives, has said so many changes of its users, and takes clients of others, unless it stops itself.
    Hello { version: u64, welcomes: bool },
    /// It stops.
    Goodbye,
    /// One change of its users.
    Changed { version: u64, came: Vec<u64>, went: Vec<u64> },
    /// It wants to know all users of whom it asks.
    WhoIsThere,
    /// A part of all its users, after so many changes.
    Users { version: u64, part: u32, parts: u32, users: Vec<u64> },
    /// It wants something about a user.
    Question { question: u64, wanted: Wanted, user: String },
    /// It answers.
    Answer { question: u64, sessions: u32 },
}

impl Message {
    /// All users of a node, at least one message of them.
    pub(super) fn users(version: u64, users: &[u64]) -> impl Iterator<Item = Self> {
        let parts = users.len().div_ceil(MAX_USERS_PER_MESSAGE).max(1);
        (0..parts).map(move |part| {
            let first = part * MAX_USERS_PER_MESSAGE;
            let end = users.len().min(first + MAX_USERS_PER_MESSAGE);
            let (part, parts) = (part as u32, parts as u32);
            Self::Users { version, part, parts, users: users[first..end].to_vec() }
        })
    }

    /// Who came and who went since `version`, which is moved on: each message is a change.
    pub(super) fn changes(version: &mut u64, came: &[u64], went: &[u64]) -> Vec<Self> {
        let went = went.chunks(MAX_USERS_PER_MESSAGE).map(|went| (Vec::new(), went.to_vec()));
        let came = came.chunks(MAX_USERS_PER_MESSAGE).map(|came| (came.to_vec(), Vec::new()));
        let mut messages: Vec<Self> = Vec::new();
        for (came, went) in went.chain(came) {
            // The last who went and the first who came mostly fit together.
            if let Some(Self::Changed { came: before, went, .. }) = messages.last_mut()
                && before.is_empty()
                && went.len() + came.len() <= MAX_USERS_PER_MESSAGE
                && !came.is_empty()
            {
                *before = came;
                continue;
            }
            *version += 1;
            messages.push(Self::Changed { version: *version, came, went });
        }
        messages
    }

    pub(super) fn encode(&self, from: NodeId) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend(from.0.to_le_bytes());
        out.push(self.kind());
        match self {
            Self::Hello { version, welcomes } => {
                out.extend(version.to_le_bytes());
                out.push(u8::from(*welcomes));
            }
            Self::Goodbye | Self::WhoIsThere => {}
            Self::Changed { version, came, went } => {
                out.extend(version.to_le_bytes());
                out.extend((came.len() as u32).to_le_bytes());
                out.extend(came.iter().chain(went).flat_map(|user| user.to_le_bytes()));
            }
            Self::Users { version, part, parts, users } => {
                out.extend(version.to_le_bytes());
                out.extend(part.to_le_bytes());
                out.extend(parts.to_le_bytes());
                out.extend(users.iter().flat_map(|user| user.to_le_bytes()));
            }
            Self::Question { question, user, .. } => {
                out.extend(question.to_le_bytes());
                out.extend(user.as_bytes());
            }
            Self::Answer { question, sessions } => {
                out.extend(question.to_le_bytes());
                out.extend(sessions.to_le_bytes());
            }
        }
        out
    }

    /// Who says what; `None` for what is no message.
    pub(super) fn decode(bytes: &[u8]) -> Option<(NodeId, Self)> {
        let mut rest = Rest(bytes);
        if rest.byte()? != FORMAT {
            return None;
        }
        let from = NodeId(rest.u64()?);
        let message = match rest.byte()? {
            1 => Self::Hello { version: rest.u64()?, welcomes: rest.byte()? == 1 },
            2 => Self::Goodbye,
            3 => {
                let (version, count) = (rest.u64()?, rest.u32()? as usize);
                let mut came = rest.users()?;
                if count > came.len() {
                    return None;
                }
                let went = came.split_off(count);
                Self::Changed { version, came, went }
            }
            4 => Self::WhoIsThere,
            5 => {
                let (version, part, parts) = (rest.u64()?, rest.u32()?, rest.u32()?);
                Self::Users { version, part, parts, users: rest.users()? }
            }
            kind @ (6 | 7) => {
                let wanted = if kind == 6 { Wanted::Sessions } else { Wanted::Disconnect };
                Self::Question { question: rest.u64()?, wanted, user: rest.text()? }
            }
            8 => Self::Answer { question: rest.u64()?, sessions: rest.u32()? },
            _ => return None,
        };
        // Later builds may say more; it is theirs.
        Some((from, message))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Goodbye => 2,
            Self::Changed { .. } => 3,
            Self::WhoIsThere => 4,
            Self::Users { .. } => 5,
            Self::Question { wanted: Wanted::Sessions, .. } => 6,
            Self::Question { wanted: Wanted::Disconnect, .. } => 7,
            Self::Answer { .. } => 8,
        }
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// Everything that is left.
    fn users(&mut self) -> Option<Vec<u64>> {
        let (users, []) = std::mem::take(&mut self.0).as_chunks::<8>() else { return None };
        Some(users.iter().map(|user| u64::from_le_bytes(*user)).collect())
    }

    /// Everything that is left.
    fn text(&mut self) -> Option<String> {
        String::from_utf8(std::mem::take(&mut self.0).to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> [Message; 8] {
        [
            Message::Hello { version: 7, welcomes: true },
            Message::Goodbye,
            Message::Changed { version: 8, came: vec![1, u64::MAX], went: vec![3] },
            Message::WhoIsThere,
            Message::Users { version: 9, part: 0, parts: 2, users: vec![4, 5] },
            Message::Question { question: 10, wanted: Wanted::Sessions, user: "böb".to_owned() },
            Message::Question { question: 11, wanted: Wanted::Disconnect, user: "bob".to_owned() },
            Message::Answer { question: 12, sessions: 3 },
        ]
    }

    #[test]
    fn what_was_said_is_understood() {
        for message in every_kind() {
            let bytes = message.encode(NodeId(0xabc));
            assert_eq!(Message::decode(&bytes), Some((NodeId(0xabc), message)));
        }
    }

    #[test]
    fn what_is_cut_or_strange_is_no_message_and_no_panic() {
        for message in every_kind() {
            let bytes = message.encode(NodeId(1));
            for end in 0..bytes.len() {
                let cut = Message::decode(&bytes[..end]);
                // A user's name may end anywhere, users behind each of them.
                let open = matches!(
                    message,
                    Message::Question { .. } | Message::Changed { .. } | Message::Users { .. }
                );
                assert!(cut.is_none() || open, "{message:?} up to {end}");
                assert_ne!(cut, Some((NodeId(1), message.clone())), "up to {end}");
            }
        }
        let mut later = Message::Goodbye.encode(NodeId(1));
        later[0] = FORMAT + 1;
        assert_eq!(Message::decode(&later), None, "another format");
        let mut unknown = Message::Goodbye.encode(NodeId(1));
        unknown[9] = 99;
        assert_eq!(Message::decode(&unknown), None, "another kind");
        let mut too_many = Message::Changed { version: 1, came: vec![1], went: vec![] }.encode(NodeId(1));
        too_many[18..22].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Message::decode(&too_many), None, "more than there are");
    }
}
