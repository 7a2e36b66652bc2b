//! How much of something is allowed: token buckets, for one or for each of many, and who is exempt.
//!
//! What is known of one key or address is given back as soon as its bucket is full again, and there is a bound on how many
//! are known at all. Nothing here knows what is limited: whoever asks counts the refusals.

mod bucket;
mod memory;
mod networks;

pub use bucket::{Bucket, Buckets, Denied};
pub use memory::MemoryAdmission;
pub use networks::{AddressKey, Networks};
