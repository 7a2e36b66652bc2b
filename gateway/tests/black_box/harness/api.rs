//! What a test does over HTTP beside sending: ask for outcomes, ack, change memberships.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Gateway, LOOK_AGAIN, Place, segment, within};

impl Gateway {
    /// Posts one notification with an `Idempotency-Key`.
    pub(crate) async fn send_with_key(&self, key: &str, notification: &Value) -> Answer {
        let request = self.request(Method::POST, "/v1/notifications").header("idempotency-key", key);
        Answer::of(request.json(notification)).await
    }

    /// A request without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Answer {
        Answer::of(self.request(method, path)).await
    }

    /// What became of the notification of this answer.
    pub(crate) async fn outcome(&self, accepted: &Answer) -> Answer {
        self.get(&outcome_path(accepted)).await
    }

    /// Takes the notification of this answer back.
    pub(crate) async fn withdraw(&self, accepted: &Answer) -> Answer {
        self.ask(Method::DELETE, &outcome_path(accepted)).await
    }

    /// Waits until so many recipients of the notification are in this state; returns what became of it.
    pub(crate) async fn until_outcome(&self, accepted: &Answer, state: &str, count: u64) -> Value {
        let reached = async {
            loop {
                let outcome = self.outcome(accepted).await;
                assert_eq!(outcome.status, 200, "{}", outcome.body);
                if outcome.body["counts"][state] == count {
                    return outcome.body;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        within(&format!("{count} recipients to be {state}"), reached).await
    }

    /// Acks over HTTP, and waits until it counts.
    pub(crate) async fn ack(&self, user: &str, position: &str) {
        let path = format!("/v1/users/{}/acks", segment(user));
        let answer = self.sender().post(&path, &json!({"position": position})).await;
        assert_eq!((answer.status, &answer.body), (202, &json!({"position": position})));
        self.until_acked(user, position).await;
    }

    /// Waits until everything up to `position` is final for `user`.
    pub(crate) async fn until_acked(&self, user: &str, position: &str) {
        let wanted = Place::of(&json!(position)).number;
        let reached = async {
            while Place::of(&self.user(user).await.body["acked"]).number < wanted {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        within(&format!("{user} to have acked {position}"), reached).await;
    }

    /// Subscribes one user; `DELETE` unsubscribes.
    pub(crate) async fn subscriber(&self, method: Method, topic: &str, user: &str) -> Answer {
        self.ask(method, &format!("/v1/topics/{}/subscribers/{}", segment(topic), segment(user))).await
    }

    /// Subscribes or unsubscribes the users of an array.
    pub(crate) async fn subscribers(&self, method: Method, topic: &str, users: &Value) -> Answer {
        let path = format!("/v1/topics/{}/subscribers", segment(topic));
        Answer::of(self.request(method, &path).json(users)).await
    }
}

fn outcome_path(accepted: &Answer) -> String {
    let id = accepted.body["id"].as_str().expect("an accepted notification has an id");
    format!("/v1/notifications/{id}")
}
