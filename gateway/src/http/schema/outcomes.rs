//! What became of a notification, per recipient.

use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};
use serde::Serialize;

use crate::delivery::OutcomeReport;
use crate::domain::{DropReason, Outcome};

/// What became of a notification so far.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Outcome", example)]
pub(in crate::http) struct OutcomeAnswer {
    /// Its name.
    id: String,
    /// Its place in the log.
    position: String,
    #[oai(flatten)]
    #[serde(flatten)]
    outcomes: Outcomes,
}

/// How many recipients are in which state, and a part of them one by one.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub(in crate::http) struct Outcomes {
    /// Of all recipients.
    counts: OutcomeCounts,
    /// In the order of the request, or in an order of the topic's own: `limit` of them, from `offset` on.
    recipients: Vec<RecipientOutcome>,
    /// Whether there are recipients behind these.
    more: bool,
}

/// How many recipients are in which state. All but `pending` are final.
#[derive(Debug, Clone, Default, Object, Serialize)]
pub(in crate::http) struct OutcomeCounts {
    /// It waits for the recipient's ack.
    pending: u32,
    /// A device of the recipient acked it.
    acked: u32,
    /// Its time to live passed first.
    expired: u32,
    /// A later one with the same collapse key took its place.
    collapsed: u32,
    /// Its sender took it back, or the recipient was forgotten.
    withdrawn: u32,
    /// A full mailbox pushed it out or refused it.
    dropped: u32,
}

/// One recipient's state.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub(in crate::http) struct RecipientOutcome {
    /// Who; left out once the log does not hold the names any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// What became of it for this recipient.
    state: OutcomeState,
    /// Why it was dropped, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<OutcomeReason>,
}

/// What became of a notification for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum OutcomeState {
    /// It waits for the recipient's ack.
    Pending,
    /// A device of the recipient acked it.
    Acked,
    /// Its time to live passed first.
    Expired,
    /// A later one with the same collapse key took its place.
    Collapsed,
    /// Its sender took it back, or the recipient was forgotten.
    Withdrawn,
    /// See `reason`.
    Dropped,
}

/// Why a notification was dropped for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum OutcomeReason {
    /// A full mailbox pushed it out.
    Overflow,
    /// A full mailbox refused it.
    Rejected,
}

impl OutcomeAnswer {
    /// The part of a report that was asked for.
    pub(in crate::http) fn new(report: &OutcomeReport, offset: usize, limit: usize) -> Self {
        Self {
            id: report.id.to_string(),
            position: report.position.to_string(),
            outcomes: Outcomes::new(report, offset, limit),
        }
    }
}

impl Outcomes {
    /// The part of a report that was asked for.
    pub(in crate::http) fn new(report: &OutcomeReport, offset: usize, limit: usize) -> Self {
        let mut counts = OutcomeCounts::default();
        for (_, outcome) in &report.recipients {
            *counts.of(*outcome) += 1;
        }
        let asked_for = report.recipients.iter().skip(offset).take(limit);
        let recipients = asked_for.map(|(user, outcome)| RecipientOutcome {
            user: user.as_deref().map(str::to_owned),
            state: OutcomeState::from(*outcome),
            reason: outcome.drop_reason().map(OutcomeReason::from),
        });
        Self {
            counts,
            recipients: recipients.collect(),
            more: offset.saturating_add(limit) < report.recipients.len(),
        }
    }
}

impl OutcomeCounts {
    fn of(&mut self, outcome: Outcome) -> &mut u32 {
        match OutcomeState::from(outcome) {
            OutcomeState::Pending => &mut self.pending,
            OutcomeState::Acked => &mut self.acked,
            OutcomeState::Expired => &mut self.expired,
            OutcomeState::Collapsed => &mut self.collapsed,
            OutcomeState::Withdrawn => &mut self.withdrawn,
            OutcomeState::Dropped => &mut self.dropped,
        }
    }
}

impl From<Outcome> for OutcomeState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Pending => Self::Pending,
            Outcome::Acked => Self::Acked,
            Outcome::Expired => Self::Expired,
            Outcome::Collapsed => Self::Collapsed,
            Outcome::Withdrawn => Self::Withdrawn,
            Outcome::Overflowed | Outcome::Rejected => Self::Dropped,
        }
    }
}

impl From<DropReason> for OutcomeReason {
    fn from(reason: DropReason) -> Self {
        match reason {
            DropReason::Overflow => Self::Overflow,
            DropReason::Rejected => Self::Rejected,
        }
    }
}

impl Example for OutcomeAnswer {
    fn example() -> Self {
        Self {
            id: "019abcde-f012-7345-8678-9abcdef01234".to_owned(),
            position: "3k9q2m7w1x5ze-1048".to_owned(),
            outcomes: Outcomes::example(),
        }
    }
}

impl Example for Outcomes {
    fn example() -> Self {
        let bob = RecipientOutcome { user: Some("bob".to_owned()), state: OutcomeState::Acked, reason: None };
        Self {
            counts: OutcomeCounts { acked: 1, ..OutcomeCounts::default() },
            recipients: vec![bob],
            more: false,
        }
    }
}
