//! The use cases of senders and administrators beside sending: outcomes, withdrawal, topics, forgetting a user.
//!
//! Whatever changes something goes through the log and is answered once it is applied here.

use std::sync::Arc;
use std::time::Duration;

use super::Delivery;
use super::outcomes::{NoReport, Report};
use super::state::seconds;
use super::topics::Refused;
use crate::domain::{NotificationId, Outcome, Position, TopicName, UserId};
use crate::log::entry::{self, Entry, EntryTooLarge, Publish, Recipients};
use crate::log::{AppendError, NewEntry, ReadError};

/// How long a change waits to be applied here once it is in the log.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a notification so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeReport {
    /// The notification's name.
    pub id: NotificationId,
    /// Its place in the log.
    pub position: Position,
    /// Each recipient's state, in the order of the recipients. A name is missing once the entry left the log.
    pub recipients: Vec<(Option<Arc<str>>, Outcome)>,
}

/// Why an outcome cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeError {
    /// Nothing is known of it.
    #[error(transparent)]
    NoReport(#[from] NoReport),
    /// The log, which has the names, could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// It could not be changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It names too many users for one entry.
    #[error(transparent)]
    TooLarge(#[from] EntryTooLarge),
    /// Nothing was appended. Safe to retry.
    #[error("the gateway cannot take the change now: {0}")]
    Unavailable(String),
    /// It may have been appended. Safe to retry all the same: a change made twice is made once.
    #[error("the gateway cannot say whether it made the change: {0}")]
    Unknown(String),
}

/// What became of the wish that users join a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Subscribers of the topic afterwards.
    pub subscribers: usize,
    /// Users that could not join, each with the reason.
    pub refused: Refused,
}

impl Delivery {
    /// What became of a notification so far.
    ///
    /// # Errors
    /// [`OutcomeError`] when nothing is known of it, or the log cannot be read.
    pub async fn outcome(&self, id: NotificationId) -> Result<OutcomeReport, OutcomeError> {
        let report = self.find_report(id).await?;
        let names = match &report.members {
            Some(members) => Some(members.iter().cloned().collect()),
            None => self.names_of(report.number).await?,
        };
        let name = |index: usize| names.as_ref().and_then(|names: &Vec<Arc<str>>| names.get(index).cloned());
        let recipients = report.states.iter().enumerate().map(|(index, state)| (name(index), *state));
        Ok(OutcomeReport { id, position: self.position(report.number), recipients: recipients.collect() })
    }

    /// Waits until every recipient's state is final, at most `timeout`.
    pub async fn until_final(&self, id: NotificationId, timeout: Duration) {
        let Ok(report) = self.report(id) else { return };
        let watched = self.shared.state.outcomes().watch(report.number);
        if let Some(watched) = watched {
            // Nobody keeps a watch for ever: whoever asked looks at what there is.
            let _ = tokio::time::timeout(timeout, watched).await;
            self.shared.state.outcomes().unwatch(report.number);
        }
    }

    /// Takes a notification back from everybody for whom it is still pending, and tells what became of it.
    ///
    /// # Errors
    /// [`OutcomeError`] when nothing is known of it, or it could not be changed.
    pub async fn withdraw(&self, id: NotificationId) -> Result<OutcomeReport, OutcomeError> {
        let report = self.find_report(id).await?;
        if report.states.contains(&Outcome::Pending) {
            // What left the log waits for nobody.
            if let Some(publish) = self.published(report.number).await? {
                let names =
                    if let Recipients::Users(names) = &publish.recipients { Some(names) } else { None };
                let payload = entry::encode_withdraw(report.number, names).map_err(ChangeError::from)?;
                self.change(payload).await?;
            }
        }
        self.outcome(id).await
    }

    /// Subscribes users to a topic.
    ///
    /// # Errors
    /// [`ChangeError`] when the change could not be made, or not be confirmed.
    pub async fn join(&self, topic: &TopicName, users: &[UserId]) -> Result<Membership, ChangeError> {
        let names = users.iter().map(UserId::as_str);
        let payload = entry::encode_subscribe(topic.as_str(), names)?;
        let number = self.change(payload).await?;
        let mut topics = self.shared.state.topics();
        Ok(Membership {
            subscribers: topics.members(topic.as_str()).len(),
            refused: topics.take_refused(number),
        })
    }

    /// Ends users' subscriptions to a topic; those who have none stay as they are. Returns how many subscribers are left.
    ///
    /// # Errors
    /// [`ChangeError`] when the change could not be made, or not be confirmed.
    pub async fn leave(&self, topic: &TopicName, users: &[UserId]) -> Result<usize, ChangeError> {
        let names = users.iter().map(UserId::as_str);
        let payload = entry::encode_unsubscribe(topic.as_str(), names)?;
        self.change(payload).await?;
        Ok(self.subscribers(topic))
    }

    /// How many users are subscribed to a topic.
    #[must_use]
    pub fn subscribers(&self, topic: &TopicName) -> usize {
        self.shared.state.topics().members(topic.as_str()).len()
    }

    /// A user's topics, sorted by name.
    #[must_use]
    pub fn topics_of(&self, user: &UserId) -> Vec<Arc<str>> {
        self.shared.state.topics().topics_of(user.as_str())
    }

    /// Forgets a user: sessions are closed, what waits is withdrawn, memberships end.
    ///
    /// # Errors
    /// [`ChangeError`] when the change could not be made, or not be confirmed.
    pub async fn forget(&self, user: &UserId) -> Result<(), ChangeError> {
        // Whoever applies it closes the sessions: on each node its own.
        self.change(entry::encode_forget_user(user.as_str())).await.map(drop)
    }

    /// The report, also if another node accepted the notification a moment ago.
    async fn find_report(&self, id: NotificationId) -> Result<Report, NoReport> {
        if let Ok(report) = self.report(id) {
            return Ok(report);
        }
        self.catch_up().await;
        self.report(id)
    }

    fn report(&self, id: NotificationId) -> Result<Report, NoReport> {
        let state = &self.shared.state;
        let Some((_, settings)) = state.settings() else { return Err(NoReport::Unknown) };
        state.outcomes().report(id, &settings, seconds(state.log_time_ms()))
    }

    /// The names in a publish entry; `None` once it left the log.
    async fn names_of(&self, number: u64) -> Result<Option<Vec<Arc<str>>>, ReadError> {
        let publish = self.published(number).await?;
        Ok(publish.and_then(|publish| match publish.recipients {
            Recipients::Users(names) => Some(names.iter().map(Arc::from).collect()),
            Recipients::Topic(_) | Recipients::Everybody => None,
        }))
    }

    /// The publish entry with this number; `None` once it left the log.
    async fn published(&self, number: u64) -> Result<Option<Publish>, ReadError> {
        let entry = self.shared.log.read(vec![number]).await?.into_iter().flatten().next();
        Ok(match entry.map(|entry| entry::decode(&entry.payload)) {
            Some(Ok(Entry::Publish(publish))) => Some(publish),
            _ => None,
        })
    }

    /// Appends a change and waits until it is applied here.
    async fn change(&self, payload: bytes::Bytes) -> Result<u64, ChangeError> {
        let appended = self.committer.append(NewEntry::ordinary(payload)).await;
        let number = appended.map_err(|error| match error {
            AppendError::Ambiguous(why) => ChangeError::Unknown(why),
            error => ChangeError::Unavailable(error.to_string()),
        })?;
        if self.shared.applied.reached_within(number, APPLY_TIMEOUT).await {
            Ok(number)
        } else {
            Err(ChangeError::Unknown("it takes too long to apply".to_owned()))
        }
    }
}
