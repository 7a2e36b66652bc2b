//! How the use cases' errors read over HTTP, where more than one operation meets them.

use std::fmt::Display;

use poem::http::StatusCode;

use crate::delivery::ChangeError;
use crate::edge::Problem;

/// What a change may be refused with.
impl From<ChangeError> for Box<Problem> {
    fn from(error: ChangeError) -> Self {
        match &error {
            ChangeError::TooLarge(_) => {
                Self::new(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))
            }
            ChangeError::Unavailable(_) => unavailable(&error),
            ChangeError::Unknown(_) => Self::new(unavailable(&error).delivery_unknown()),
        }
    }
}

/// Something that is worth another try.
pub(super) fn unavailable(why: &impl Display) -> Box<Problem> {
    Box::new(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string()))
}
