//! What the edges share: how a request is read, how a failure is told, who is let in.
//!
//! HTTP, WebSocket and later edges build on this and know nothing of each other.

pub mod access;
pub mod admission;
pub mod answer;
pub mod body;
pub mod frame;
pub mod page;
pub mod parameters;
pub mod problem;
pub mod progress;
pub mod spread;
pub mod standing;
mod unacked;

pub use access::{MayAdminister, MayReadOutcomes, MayReadState, MayReceive, MaySend, MayWithdraw};
pub use admission::{Admission, Admitted, NotAdmitted, Place};
pub use answer::{Answer, Refusals};
pub use body::{BatchBody, InvalidBody, JsonAnswer, JsonBody, JsonText, ListBody};
pub use parameters::{AckMode, AckParam, AfterParam, UserParam};
pub use problem::Problem;
pub use progress::Progress;
pub use spread::{Pace, ReconnectAdvice};
pub use standing::Standing;
